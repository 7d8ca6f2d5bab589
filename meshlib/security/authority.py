"""A certificate authority: roots, intermediates and SVIDs, as ``meshlib ca`` and tests make them. Times are seconds since the
epoch and come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.security.certificate_forms import authority_form, svid_form, trust_domain_of, workload_of
from meshlib.security.issuers import issuers_of, path_length_of, spoken_for
from meshlib.security.keys import digest_for, key_pem, new_key, usable
from meshlib.security.signing_request import key_of
from meshlib.security.svid import Svid

if TYPE_CHECKING:
    from cryptography import x509

    from meshlib.security.keys import PrivateKey

SKEW = 60.0
"""Seconds that a certificate is valid before it is made: clocks differ."""
ROOT_TTL = 10 * 365 * 86400.0
INTERMEDIATE_TTL = 365 * 86400.0
SVID_TTL = 86400.0
PATH_LENGTH = 1
"""Of a root: how many intermediates there may be below one another."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Authority:
    """Signs. ``Authority.root``, ``intermediate`` and ``from_pem`` make them. ``issuers``: who stands above, from the one that
    signed this one's certificate up to the root, which is the last; a root has none."""

    trust_domain: str
    key: PrivateKey
    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()

    @classmethod
    def root(
        cls,
        trust_domain: str,
        now: float,
        *,
        ttl: float = ROOT_TTL,
        rsa: bool = False,
        path_length: int | None = PATH_LENGTH,
    ) -> Authority:
        """A new root of this trust domain, with a key of its own (EC P-256, or RSA 2048). ``path_length`` 0: it signs SVIDs
        only, None: any number of intermediates. Raises ValueError for what is not a valid trust domain."""
        trust_domain_of(trust_domain)
        key = new_key(rsa=rsa)
        span = _span(now, ttl, None, now + ttl)
        form = authority_form(trust_domain, key.public_key(), None, span, path_length)
        return cls(trust_domain, key, form.sign(key, digest_for(key)))

    @classmethod
    def from_pem(cls, certificates: bytes, key: PrivateKey, *, trust_domain: str = "") -> Authority:
        """The authority whose certificate comes first in ``certificates``, followed by those above it up to the root, and
        whose private key is ``key``. ``trust_domain``: only for one whose certificate does not say (a URI spiffe://...).
        Raises ValueError, as the end of a sentence about the certificates, when they do not make an authority."""
        chain = issuers_of(certificates)
        if key.public_key() != chain[0].public_key():
            raise ValueError("is the certificate of another key")
        return cls(spoken_for(chain[0], trust_domain), key, chain[0], chain[1:])

    def intermediate(
        self,
        now: float,
        *,
        ttl: float = INTERMEDIATE_TTL,
        rsa: bool = False,
        path_length: int | None = None,
    ) -> Authority:
        """One that signs in this one's name, with a key of its own, and ends with it at the latest. ``path_length``: how many
        there may be below it; as many as this one allows when None. Raises ValueError when this one allows none, or fewer."""
        most = path_length_of(self.certificate)
        if most is not None:
            if most < 1:
                raise ValueError(f"{self!r} has path length 0: it signs SVIDs, and no intermediate")
            if path_length is not None and path_length >= most:
                raise ValueError(f"{self!r} has path length {most}: one below it has at most {most - 1}")
            path_length = most - 1 if path_length is None else path_length
        key = new_key(rsa=rsa)
        span = _span(now, ttl, self.certificate, self.not_after)
        form = authority_form(self.trust_domain, key.public_key(), self.certificate, span, path_length)
        made = form.sign(self.key, digest_for(self.key))
        return Authority(self.trust_domain, key, made, (self.certificate, *self.issuers))

    @property
    def root_certificate(self) -> x509.Certificate:
        """Where the chain ends."""
        return self.issuers[-1] if self.issuers else self.certificate

    @property
    def root_der(self) -> bytes:
        """The root's certificate: what a bundle has."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.root_certificate.public_bytes(Encoding.DER)

    @property
    def chain_pem(self) -> bytes:
        """The intermediates from this one up, without the root: what an SVID's holder shows behind its leaf."""
        return _pem((self.certificate, *self.issuers)[:-1])

    @property
    def certificates_pem(self) -> bytes:
        """This one's certificate and all above it with the root: what ``from_pem`` reads."""
        return _pem((self.certificate, *self.issuers))

    @property
    def key_pem(self) -> bytes:
        """The private key. Ask for it only where it is written for its owner."""
        return key_pem(self.key)

    @property
    def not_after(self) -> float:
        """When the first of the chain ends; what is signed ends then at the latest."""
        return min(each.not_valid_after_utc.timestamp() for each in (self.certificate, *self.issuers))

    def issue(
        self, identity: str, now: float, *, ttl: float = SVID_TTL, dns: Sequence[str] = (), rsa: bool = False
    ) -> Svid:
        """An SVID with a new key. Raises ValueError as ``sign``."""
        from cryptography.hazmat.primitives.serialization import Encoding

        key = new_key(rsa=rsa)
        made = self.sign(identity, key.public_key(), now, ttl=ttl, dns=dns)
        return Svid(
            workload_of(identity, self.trust_domain),
            made.public_bytes(Encoding.DER),
            _pem((made,)) + self.chain_pem,
            key_pem(key),
            made.not_valid_before_utc.timestamp(),
            made.not_valid_after_utc.timestamp(),
        )

    def sign(
        self, identity: str, public: object, now: float, *, ttl: float = SVID_TTL, dns: Sequence[str] = ()
    ) -> x509.Certificate:
        """A leaf for a given key; it ends with its issuers at the latest. Raises ValueError for what is not a valid SPIFFE
        ID of a workload in this trust domain, for a key or name that is not certified, and when this authority's own
        certificate is not valid now."""
        found = workload_of(identity, self.trust_domain)
        span = _span(now, ttl, self.certificate, self.not_after)
        return svid_form(found, usable(public), self.certificate, span, dns).sign(self.key, digest_for(self.key))

    def sign_request(
        self, identity: str, request: bytes, now: float, *, ttl: float = SVID_TTL, dns: Sequence[str] = ()
    ) -> x509.Certificate:
        """``sign`` for the key of a certificate signing request (PEM or DER), whose signature must be by that key. Names and
        extensions that it asks for are not looked at. Raises ValueError as ``sign`` and ``signing_request.key_of``."""
        return self.sign(identity, key_of(request), now, ttl=ttl, dns=dns)

    def __repr__(self) -> str:
        return f"<Authority of {self.trust_domain}{' (intermediate)' if self.issuers else ''}>"


def _span(now: float, ttl: float, issuer: x509.Certificate | None, last: float) -> tuple[float, float]:
    """From when to when something is valid that is made now: never outside of its issuer's time."""
    if not ttl >= 1:
        raise ValueError(f"a certificate of {ttl:g} seconds is too short; it must be valid for at least one")
    if issuer is None:
        return now - SKEW, now + ttl
    first = issuer.not_valid_before_utc.timestamp()
    if now < first:
        raise ValueError(f"the authority's certificate is not valid before {_date(first)}")
    if now >= last:
        raise ValueError(f"the authority's certificate has expired on {_date(last)}")
    return max(now - SKEW, first), min(now + ttl, last)


def _date(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
