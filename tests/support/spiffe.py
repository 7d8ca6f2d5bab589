"""Certificates with SPIFFE ids (and with what must not pass for one), of an authority made for the test run."""

from __future__ import annotations

import datetime
import ipaddress

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Issues certificates. Names: ``spiffe://...`` and ``https://...`` are URIs, ``dns:...`` a DNS name, digits an IP."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder("authority", "authority", self._key)
        self.pem = (
            _of_authority(builder, self._key).sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    @staticmethod
    def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START)
            .not_valid_after(END)
        )

    def issue(self, *names: str, ca: bool = False) -> tuple[bytes, bytes]:
        """(private key, certificate), both PEM. ``ca``: one that may sign others."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder("peer", "authority", key)
        if ca:
            builder = _of_authority(builder, key)
        # since Python 3.13 contexts are strict by default, and ask for it
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(signer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def server(self, *, mutual: bool = True) -> grpc.ServerCredentials:
        """A server on 127.0.0.1 that (``mutual``) wants a certificate of its callers."""
        return grpc.ssl_server_credentials([self.issue("127.0.0.1")], self.pem, require_client_auth=mutual)

    def client(self, *names: str, anonymous: bool = False, ca: bool = False) -> grpc.ChannelCredentials:
        """A client whose certificate has these names."""
        if anonymous:
            return grpc.ssl_channel_credentials(self.pem)
        key, certificate = self.issue(*names, ca=ca)
        return grpc.ssl_channel_credentials(self.pem, key, certificate)


def _of_authority(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """It may sign others."""
    usage = x509.KeyUsage(
        *(True, False, False, False, False),  # digital_signature and what nobody signs or agrees on with it
        *(True, True),  # key_cert_sign, crl_sign
        *(False, False),
    )
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    if name.startswith("dns:"):
        return x509.DNSName(name.removeprefix("dns:"))
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    return x509.IPAddress(ipaddress.ip_address(name))
