"""A certificate authority: roots, intermediates and SVIDs, as ``meshlib ca`` and tests make them. Times are seconds since the
epoch and come in."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SpiffeId
from meshlib.security.svid import Svid

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    Key = EllipticCurvePrivateKey | RSAPrivateKey

SKEW = 60.0
"""Seconds that a certificate is valid before it is made: clocks differ."""
ROOT_TTL = 10 * 365 * 86400.0
SVID_TTL = 86400.0


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """Signs. ``parent`` None: a root. ``Authority.root`` and ``intermediate`` make them."""

    trust_domain: str
    key: Key
    certificate: x509.Certificate
    parent: Authority | None = None

    @classmethod
    def root(cls, trust_domain: str, now: float, *, ttl: float = ROOT_TTL, rsa: bool = False) -> Authority:
        """A new root of this trust domain, with a key of its own (EC P-256, or RSA 2048)."""
        key = _new_key(rsa)
        return cls(trust_domain, key, _authority_certificate(trust_domain, key, None, now, ttl))

    def intermediate(self, now: float, *, ttl: float = ROOT_TTL / 10, rsa: bool = False) -> Authority:
        """One that signs in this one's name, and makes no further ones."""
        key = _new_key(rsa)
        return Authority(self.trust_domain, key, _authority_certificate(self.trust_domain, key, self, now, ttl), self)

    @property
    def top(self) -> Authority:
        """The root."""
        return self if self.parent is None else self.parent.top

    @property
    def root_der(self) -> bytes:
        """The root's certificate: what a bundle has."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.top.certificate.public_bytes(Encoding.DER)

    @property
    def chain_pem(self) -> bytes:
        """The intermediates from this one up, without the root."""
        from cryptography.hazmat.primitives.serialization import Encoding

        if self.parent is None:
            return b""
        return self.certificate.public_bytes(Encoding.PEM) + self.parent.chain_pem

    def issue(
        self, identity: str, now: float, *, ttl: float = SVID_TTL, dns: Sequence[str] = (), rsa: bool = False
    ) -> Svid:
        """An SVID with a new key. Raises ValueError for what is not a valid SPIFFE ID of a workload in this trust domain."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = _new_key(rsa)
        certificate = self.sign(identity, key.public_key(), now, ttl=ttl, dns=dns)
        found = SpiffeId.parse(identity)
        assert found is not None
        return Svid(
            found,
            certificate.public_bytes(Encoding.DER),
            certificate.public_bytes(Encoding.PEM) + self.chain_pem,
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )

    def sign(
        self, identity: str, public: object, now: float, *, ttl: float = SVID_TTL, dns: Sequence[str] = ()
    ) -> x509.Certificate:
        """A leaf for somebody's key; it ends with its issuer at the latest."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        found = SpiffeId.parse(identity)
        if found is None or not found.path or found.trust_domain != self.trust_domain:
            raise ValueError(
                f"{identity!r} is not a valid SPIFFE ID of a workload in the trust domain {self.trust_domain}"
            )
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity)]
        names += [_name(each) for each in dns]
        until = min(now + ttl, self.certificate.not_valid_after_utc.timestamp())
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(_utc(now - SKEW))
            .not_valid_after(_utc(until))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [
                        x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,
                        x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
        )
        return made.sign(self.key, hashes.SHA256())

    def __repr__(self) -> str:
        return f"<Authority of {self.trust_domain}{'' if self.parent is None else ' (intermediate)'}>"


def _authority_certificate(
    trust_domain: str, key: Key, parent: Authority | None, now: float, ttl: float
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    what = "root" if parent is None else "intermediate"
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, f"{trust_domain} {what}")])
    signer = key if parent is None else parent.key
    until = now + ttl if parent is None else min(now + ttl, parent.certificate.not_valid_after_utc.timestamp())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if parent is None else parent.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(now - SKEW))
        .not_valid_after(_utc(until))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1 if parent is None else 0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
    )
    if parent is not None:
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.key.public_key()), critical=False
        )
    return made.sign(signer, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(rsa: bool) -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys

    return rsa_keys.generate_private_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
