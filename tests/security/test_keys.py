"""Which keys are made, read and certified."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from meshlib.security.keys import digest_for, key_pem, new_key, signing_key, usable
from meshlib.security.pem import Unusable

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def test_a_new_key_is_p256_unless_rsa_is_asked_for() -> None:
    assert new_key().public_key().curve.name == "secp256r1"  # type: ignore[union-attr]
    assert new_key(rsa=True).key_size == 2048


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("key", [EC, RSA], ids=["EC", "RSA"])
def test_keys_are_read_in_every_form_of_pem(form: PrivateFormat, key: ec.EllipticCurvePrivateKey) -> None:
    read = signing_key(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    assert read.public_key() == key.public_key()
    assert key_pem(read).startswith(b"-----BEGIN PRIVATE KEY-----")


def test_an_encrypted_key_is_refused_in_words() -> None:
    text = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(Unusable, match="the key is encrypted"):
        signing_key(text)


@pytest.mark.parametrize("text", [b"", b"c4n4ry", key_pem(EC)[:80] + b"c4n4ry" + key_pem(EC)[86:]])
def test_what_is_no_key_is_refused_without_a_byte_of_it(text: bytes) -> None:
    with pytest.raises(Unusable, match="the key is ") as raised:
        signing_key(text)
    assert "c4n4ry" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_key_that_is_not_certified_signs_nothing() -> None:
    text = ec.generate_private_key(ec.SECP256K1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="on secp256k1"):
        signing_key(text)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "of the kind"),
        (ec.generate_private_key(ec.SECP256K1()), "on secp256k1"),
        (rsa.generate_private_key(65537, 1024), "of 1024 bits"),
        (rsa.generate_private_key(3, 2048), "exponent"),
    ],
)
def test_weak_and_unusual_keys_are_not_certified(key: rsa.RSAPrivateKey, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        usable(key.public_key())


def test_the_digest_is_as_strong_as_the_key() -> None:
    curves = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
    assert [digest_for(ec.generate_private_key(curve)).name for curve in curves] == ["sha256", "sha384", "sha512"]
    assert digest_for(RSA).name == "sha256"
