"""An X.509-SVID that is ours: the certificate that says who this process is, the intermediates behind it, and its key."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from meshlib.security import peer_certificate
from meshlib.security.chain import find_path, parsed
from meshlib.security.pem import CERTIFICATE, Unusable, blocks, pem_of
from meshlib.security.private_key import read_key

if TYPE_CHECKING:
    from cryptography import x509

    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.security.trust_bundles import TrustBundles

PART = "the certificate"
NOT_PEM = frozenset(("TRUSTED CERTIFICATE", "X509 CERTIFICATE"))
ISSUE_AGAIN = "issue one that keeps to X.509-SVID (meshlib ca issue)"


class Svid:
    """``chain_pem``: the leaf first, then intermediates, without the root. ``not_before`` and ``not_after`` are seconds since
    the epoch. The key (PEM, PKCS#8) is in no repr, is not pickled, and leaves through ``key_pem`` alone. ``read_svid`` makes
    them of what others have written, and holds every rule of SPIFFE."""

    __slots__ = ("_key_pem", "chain_pem", "identity", "leaf", "not_after", "not_before")

    def __init__(
        self,
        identity: SpiffeId,
        leaf: bytes,
        chain_pem: bytes,
        key_pem: bytes,
        not_before: float,
        not_after: float,
    ) -> None:
        self.identity = identity
        self.leaf = leaf
        self.chain_pem = chain_pem
        self._key_pem = key_pem
        self.not_before = not_before
        self.not_after = not_after

    @property
    def key_pem(self) -> bytes:
        """The private key. Ask for it only where it is handed to OpenSSL or gRPC core."""
        return self._key_pem

    def __repr__(self) -> str:
        return f"<Svid {self.identity}>"

    def __reduce__(self) -> str:
        raise TypeError("an Svid holds a private key, which is not pickled or copied")


def read_svid(
    certificate_pem: bytes, key_pem: bytes, *, now: float | None = None, bundles: TrustBundles | None = None
) -> Svid:
    """An SVID of ours of what others have written: a chain in PEM, the leaf first, and the leaf's key (PKCS#8, PKCS#1, SEC 1).

    Intermediates are put in order, and roots left out: no peer needs them. Every MUST of X.509-SVID for a leaf holds. With
    ``now`` (seconds since the epoch) it must be valid at that time; with ``bundles`` a root of its trust domain must vouch for
    it, over the intermediates that the chain has, as it must for those who are shown it. Raises ``Unusable``.
    """
    if not peer_certificate.installed():
        raise Unusable(PART, "is not read without the library cryptography", peer_certificate.REMEDY)
    ders = _certificates(certificate_pem)
    leaf = parsed(ders[0])
    if leaf is None:
        raise Unusable(PART, "is not a valid X.509 certificate", "write it again")
    identity = _identity(leaf, alone=len(ders) == 1)
    key = read_key(key_pem, leaf)
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if now is not None:
        _must_be_valid(identity, begin, end, now)
    signers = _in_order(leaf, ders[1:])
    if bundles is not None:
        _must_be_vouched_for(leaf, identity, signers, bundles, now)
    chain = "".join(map(pem_of, (ders[0], *signers))).encode()
    return Svid(identity, ders[0], chain, key, begin, end)


def _certificates(text: bytes) -> list[bytes]:
    found = blocks(text, PART)
    for block in found:
        if block.label in NOT_PEM:
            raise Unusable(PART, f"has a block {block.label}", "convert it: openssl x509 -in FILE -out FILE.pem")
    ders = [block.content for block in found if block.label == CERTIFICATE]
    if not ders:
        labels = ", ".join(dict.fromkeys(block.label for block in found))
        raise Unusable(PART, f"has no certificate, but: {labels}", "give the file with -----BEGIN CERTIFICATE-----")
    return ders


def _identity(leaf: x509.Certificate, *, alone: bool) -> SpiffeId:
    found = peer_certificate.identity_in(leaf)
    if isinstance(found, str):
        if "cA=true" in found and not alone:
            raise Unusable(
                PART, "begins with that of an authority", "put the leaf first, the intermediates behind it, no root"
            )
        raise Unusable(PART, found, ISSUE_AGAIN)
    why = peer_certificate.why_not_ours(leaf)
    if why:
        raise Unusable(PART, why, ISSUE_AGAIN)
    return found


def _must_be_valid(identity: SpiffeId, begin: float, end: float, now: float) -> None:
    if now > end:
        raise Unusable(PART, f"of {identity} has expired on {when(end)} (now: {when(now)})", "issue a new one")
    if now < begin:
        raise Unusable(
            PART,
            f"of {identity} is not valid before {when(begin)} (now: {when(now)})",
            "check the clock of this machine and of the authority",
        )


def _in_order(leaf: x509.Certificate, ders: list[bytes]) -> list[bytes]:
    """The intermediates, each after what it has signed, as TLS 1.2 demands. Those that are of no such path follow: a CA that
    is changed has two with one name."""
    left = {}
    for der in ders:
        found = parsed(der)
        if found is None:
            raise Unusable(PART, "has an intermediate that is not a valid X.509 certificate", "write it again")
        if found.subject != found.issuer:
            left[der] = found
    ordered = []
    lowest = leaf
    while (above := next((der for der, each in left.items() if each.subject == lowest.issuer), None)) is not None:
        lowest = left.pop(above)
        ordered.append(above)
    return [*ordered, *left]


def _must_be_vouched_for(
    leaf: x509.Certificate, identity: SpiffeId, signers: list[bytes], bundles: TrustBundles, now: float | None
) -> None:
    roots = bundles.roots_of(identity.trust_domain)
    if not roots:
        known = ", ".join(sorted(bundles.trust_domains)) or "none"
        raise Unusable(
            PART,
            f"is of the trust domain {identity.trust_domain}, for which there are no roots (there are for: {known})",
            "give the bundle of its trust domain, or a certificate of one that is trusted",
        )
    found = find_path(leaf, signers, roots, now)
    if isinstance(found, str):
        raise Unusable(
            PART,
            f"of {identity} {found}",
            "append the intermediates to the certificate (the leaf first), or give the bundle of the authority that "
            "has issued it",
        )


def when(seconds: float) -> str:
    """A time as people read it, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
