"""Who may be at the other end of an mTLS connection that we make, and for how long such a connection may be used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from meshlib.problems import MeshError
from meshlib.security import peer_certificate

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.identity import Identity
    from meshlib.identity.peers import Aliases
    from meshlib.policy.spiffe_id import SpiffeId

GRACE = 30.0
"""Seconds that a call under way has, from the moment that its connection's certificates are seen to be worth nothing any more.
With the time until that is seen (``transport/core/trust_watch.py``) it is less than 60."""

REMEDY = (
    "give the mesh one, as Mesh(identity=meshlib.Identity.from_files(cert, key, bundle)) or by the environment's MESHLIB_CERT, "
    "MESHLIB_KEY and MESHLIB_BUNDLE"
)


class NoCertificate(MeshError, OSError):
    """There is no certificate of ours to make an mTLS connection with: no identity, none yet, or one that has expired."""


class ServerRefused(MeshError, OSError):
    """A server has none of the allowed identities. Nothing was sent to it."""


class Standing(IntEnum):
    """What may be done with a connection."""

    USED = 0
    DRAINED = 1  # no new calls; those under way go on
    CUT = 2


class Vouched:
    """What a connection to a server stands on: ``identity`` by the certificate ``leaf`` (DER), the ``root`` (DER) that vouches
    for it, and ``until``, seconds since the epoch, when the first certificate involved ends, ours included. ``over``: when it
    was first seen to be worth nothing, on the mesh's monotonic clock."""

    __slots__ = ("credentials", "identity", "leaf", "over", "root", "until")

    def __init__(self, identity: SpiffeId, leaf: bytes, root: bytes, until: float, credentials: Credentials) -> None:
        self.identity = identity
        self.leaf = leaf
        self.root = root
        self.until = until
        self.credentials = credentials
        self.over: float | None = None


class Servers:
    """Of one mesh: what its connections over mTLS are made with, and who is believed to be at their other end. ``noticed`` is
    called after each connection that was made, from any thread."""

    __slots__ = ("_aliases", "_clock", "_identity", "noticed")

    def __init__(self, identity: Identity | None, aliases: Aliases, clock: Clock) -> None:
        self._identity = identity
        self._aliases = aliases
        self._clock = clock
        self.noticed: Callable[[], None] | None = None

    @property
    def ready(self) -> bool:
        """Whether there has been a certificate of ours. Asked per call: nothing is looked at for it."""
        return self._identity is not None and self._identity.latest is not None

    def credentials(self, wanted_by: str) -> Credentials:
        """For a connection that is made now. Raises ``NoCertificate``; ``wanted_by`` is the resource that requires mTLS."""
        identity = self._identity
        current = None if identity is None else identity.current()
        past = 0.0 if current is None else self._clock.time() - current.svid.not_after
        if identity is not None and current is not None and past < 0:
            return current
        required = f"{wanted_by} requires mTLS of the mesh (ISTIO_MUTUAL)"
        if identity is None:
            raise NoCertificate(f"{required}, and this process has no certificate: {REMEDY}")
        if current is None:
            why = identity.problem or f"none has been received from {identity.what}"
            raise NoCertificate(f"{required}, and this process has no certificate yet: {why}")
        why = identity.problem or f"no newer one has been received from {identity.what}"
        who = current.svid.identity
        raise NoCertificate(f"{required}, and our certificate ({who}) expired {past:.0f} s ago: {why}")

    def judge(
        self, leaf: bytes | None, chain: Sequence[bytes], allowed: Sequence[str], credentials: Credentials
    ) -> Vouched:
        """Who the server is that has shown ``leaf`` (DER) in a full handshake. ``chain``: as the handshake has verified it, the
        leaf first and the root last. ``allowed``: the SPIFFE IDs that it may have (none: any of our trust domain and its
        aliases). Raises ``ServerRefused``."""
        if not leaf or not chain or chain[0] != leaf:
            raise ServerRefused("the server's certificate was not verified in the handshake")
        root, until = chain[-1], min(credentials.svid.not_after, *map(_not_after, chain))
        return self._vouched(leaf, root, until, allowed, credentials)

    def judge_again(self, leaf: bytes | None, before: Vouched, allowed: Sequence[str]) -> Vouched:
        """The same where a session was resumed that was made under the same credentials: a handshake that verifies nothing.
        ``before``: how it was judged when the session was made. Raises ``ServerRefused``."""
        if leaf != before.leaf:
            raise ServerRefused("the server's certificate is not that of the session which it has resumed")
        return self._vouched(leaf, before.root, before.until, allowed, before.credentials)

    def standing(self, vouched: Vouched) -> Standing:
        """What may be done with a connection now. Looks at nothing outside."""
        latest = None if self._identity is None else self._identity.latest
        current = vouched.credentials
        dropped = latest is not None and not self._vouches(vouched.root, vouched.identity, latest)
        if dropped or self._clock.time() >= vouched.until:
            return self._over(vouched)
        return Standing.USED if latest is current else Standing.DRAINED

    def _over(self, vouched: Vouched) -> Standing:
        now = self._clock.monotonic()
        if vouched.over is None:
            vouched.over = now
        return Standing.CUT if now - vouched.over >= GRACE else Standing.DRAINED

    def _vouched(
        self, leaf: bytes, root: bytes, until: float, allowed: Sequence[str], credentials: Credentials
    ) -> Vouched:
        found = peer_certificate.server_identity(leaf)
        if isinstance(found, str):
            raise ServerRefused(f"the server's certificate {found}")
        if not self._vouches(root, found, credentials):
            domains = ", ".join(sorted(credentials.bundles.trust_domains)) or "none"
            raise ServerRefused(
                f"the server is {found}, and the root of its certificate does not vouch for the trust domain "
                f"{found.trust_domain} (roots are there for: {domains})"
            )
        if allowed and found.text not in allowed:
            raise ServerRefused(f"the server is {found}; only {', '.join(allowed)} may serve this host")
        ours = credentials.svid.identity.trust_domain
        if not allowed and found.trust_domain != ours and found.trust_domain not in self._aliases():
            raise ServerRefused(
                f"the server is {found}; nothing says which identity it may have (no service account is "
                "known, and no DestinationRule has subjectAltNames), so only identities of our trust domain "
                f"{ours} may serve this host"
            )
        now = self._clock.time()
        if now >= until:
            raise ServerRefused(f"a certificate of the connection to {found} expired {now - until:.0f} s ago")
        if now < _not_before(leaf):
            raise ServerRefused(
                f"the certificate of {found} is not valid before {_not_before(leaf) - now:.0f} s from now"
            )
        if self.noticed is not None:
            self.noticed()
        return Vouched(found, leaf, root, until, credentials)

    def _vouches(self, root: bytes, identity: SpiffeId, credentials: Credentials) -> bool:
        """Whether a root is one of the identity's trust domain, or of ours for an alias of it."""
        domain = identity.trust_domain
        roots = credentials.bundles.roots_of(domain)
        if not roots and domain in self._aliases():
            roots = credentials.bundles.roots_of(credentials.svid.identity.trust_domain)
        return root in roots


@functools.lru_cache(1024)
def _not_after(certificate: bytes) -> float:
    from cryptography import x509

    return x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()


@functools.lru_cache(1024)
def _not_before(certificate: bytes) -> float:
    from cryptography import x509

    return x509.load_der_x509_certificate(certificate).not_valid_before_utc.timestamp()
