"""Certificates of servers and clients of a gateway, and the Secrets that hold them. Keys are made once."""

from __future__ import annotations

import base64
import datetime
import functools
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshlib.identity.memory_file import memory_file

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@functools.cache
def root(name: str) -> Pair:
    """A certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _signed(name, key, (_name(name), key), ca=True, names=()), key


@functools.cache
def leaf(*names: str, of: str = "root", usage: x509.ObjectIdentifier | None = None) -> Pair:
    """A certificate for these names (a spiffe:// one is a URI), with ``usage`` for that alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority, its_key = root(of)
    return _signed(names[0], key, (authority.subject, its_key), ca=False, names=names, usage=usage), key


def revoked(*pairs: Pair, of: str = "root", days: int = 7) -> bytes:
    """The revocation list of an authority, in PEM, which is replaced after so many days."""
    authority, its_key = root(of)
    today = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
    made = made.last_update(today - datetime.timedelta(days=1)).next_update(today + datetime.timedelta(days=days))
    for certificate, _ in pairs:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(today)
        made = made.add_revoked_certificate(entry.build())
    return made.sign(its_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _signed(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    by: tuple[x509.Name, Any],
    *,
    ca: bool,
    names: tuple[str, ...],
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(by[0])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if names:
        found = [x509.UniformResourceIdentifier(n) if "://" in n else x509.DNSName(n) for n in names]
        made = made.add_extension(x509.SubjectAlternativeName(found), critical=False)
    if usage is not None:
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return made.sign(by[1], hashes.SHA256())


def certificate_pem(pair: Pair) -> bytes:
    return pair[0].public_bytes(serialization.Encoding.PEM)


def key_pem(pair: Pair) -> bytes:
    return pair[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def secret(name: str, *, namespace: str = "default", **data: bytes) -> dict[str, Any]:
    """A Secret; ``_`` in a key's name is ``.``."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()},
    }


def tls_secret(name: str, pair: Pair, ca: Pair | None = None, **more: Any) -> dict[str, Any]:
    """As ``kubectl create secret tls`` makes it; ``ca``: roots of clients in the same one."""
    found = {"tls_crt": certificate_pem(pair), "tls_key": key_pem(pair)}
    return secret(name, **found, **({} if ca is None else {"ca_crt": certificate_pem(ca)}), **more)


def client(
    shows: Pair | None = None,
    trusts: str = "root",
    alpn: tuple[str, ...] = (),
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """The context of a client that verifies the server by a root of ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificate_pem(root(trusts)).decode())
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if shows is not None:
        with memory_file(key_pem(shows), certificate_pem(shows)) as path:
            context.load_cert_chain(path)
    return context
