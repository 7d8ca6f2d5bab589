"""Keys as files have them."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meshlib.security.authority import Authority
from meshlib.security.pem import Unusable
from meshlib.security.private_key import read_key

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def certificate(key: object) -> x509.Certificate:
    begin = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    built = x509.CertificateBuilder(ROOT.certificate.subject, x509.Name([]), key.public_key(), 1)  # type: ignore[attr-defined]
    built = built.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=1))
    return built.sign(ROOT.key, hashes.SHA256())


def written(key: object, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, how)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    "key", [EC, RSA, ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_every_form_becomes_pkcs8(key: object, form: PrivateFormat) -> None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        form = PrivateFormat.PKCS8
    assert read_key(written(key, form), certificate(key)) == written(key)


def test_parameters_of_a_curve_before_it_and_a_certificate_behind_it_do_not_matter() -> None:
    text = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    text += written(EC, PrivateFormat.TraditionalOpenSSL) + certificate(EC).public_bytes(Encoding.PEM)
    assert load_pem_private_key(read_key(text, certificate(EC)), None)


REFUSED = {
    "another's": (written(ec.generate_private_key(ec.SECP256R1())), "not the key of the certificate"),
    "encrypted": (written(EC, password=b"geheim"), "is encrypted"),
    "encrypted as OpenSSL did": (written(RSA, PrivateFormat.TraditionalOpenSSL, b"geheim"), "is encrypted"),
    "OpenSSH's": (written(EC, PrivateFormat.OpenSSH), "OpenSSH"),
    "a certificate": (ROOT.certificate.public_bytes(Encoding.PEM), "has no private key"),
    "two": (written(EC) + written(RSA), "2 private keys"),
    "RSA 1024": (written(rsa.generate_private_key(65537, 1024)), "1024 bits"),
    "a curve of no suite": (written(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    "DSA": (written(dsa.generate_private_key(1024)), "neither EC, RSA nor Ed25519"),
    "not one": (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a valid PRIVATE KEY"),
    "cut off": (written(EC)[:100], "cut off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_a_remedy_and_without_the_key(name: str) -> None:
    text, why = REFUSED[name]
    with pytest.raises(Unusable, match=why) as raised:
        read_key(text, certificate(EC))
    told = f"{raised.value}{raised.value.__cause__}{raised.value.__context__}"
    assert raised.value.remedy
    assert not [line for line in text.decode().split("\n") if len(line) > 40 and line in told]
