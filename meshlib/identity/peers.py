"""Who a peer is to this process: what its certificate says (``security/peer_certificate.py``), as far as roots of ours vouch
for it.

A server's handshake tells that some root of its own vouches for a peer. Which one, and whether it is one of ours, it does not
tell; so the path from the leaf to a root of the leaf's trust domain is looked for here, once a leaf and version of ours. It may
lead over what the peer has shown, over our own intermediates, and over those that others have shown before: of a session that
is resumed servers know the leaf alone. Where there is no path, the peer has no identity.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from meshlib.clock import SystemClock
from meshlib.security import peer_certificate
from meshlib.security.chain import find_path, parsed
from meshlib.security.pem import CERTIFICATE, Unusable, blocks

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.identity import Identity
    from meshlib.policy.spiffe_id import SpiffeId

log = logging.getLogger("meshlib.identity")

Aliases = Callable[[], Sequence[str]]
"""``trustDomainAliases`` of the mesh, as they are now."""
Shown = TypeVar("Shown", str, bytes)
Told = TypeVar("Told")

MOST_KNOWN = 4096
"""Leaves whose path is kept."""
MOST_REFUSED = 1024
LOOK_AGAIN = 10.0
"""Seconds for which it is known that there is no path."""
MOST_SIGNERS = 64
"""Intermediates that are kept: each has vouched for somebody."""
LONGEST_CHAIN = 64 * 1024
"""Bytes; what is longer is not looked at."""


class _Known(NamedTuple):
    identity: SpiffeId
    begin: float
    end: float


class Peers:
    """Of one mesh. Without an ``identity`` nothing is configured to judge by: the verification that the server did in its
    handshake is trusted, and the rules of SPIFFE hold all the same."""

    __slots__ = (
        "__weakref__",
        "_aliases",
        "_aliases_then",
        "_by",
        "_identity",
        "_known",
        "_memos",
        "_now",
        "_own_signers",
        "_refused",
        "_signers",
        "version",
    )

    def __init__(self, identity: Identity | None, aliases: Aliases = tuple, clock: Clock | None = None) -> None:
        self._aliases = aliases
        self._aliases_then: tuple[str, ...] = ()
        self._identity = identity
        self._now = (clock or SystemClock()).time
        self._by: Credentials | None = None
        self._known: dict[bytes | str, _Known] = {}
        self._refused: dict[tuple[bytes | str, ...], float] = {}
        self._signers: dict[bytes, None] = {}
        self._own_signers: tuple[bytes, ...] = ()
        self._memos: list[Callable[[], None]] = []
        self.version = 0
        """Grows with all that may change who somebody is."""
        if identity is not None:
            me = weakref.ref(self)  # an identity may be given to another mesh, after this one
            identity.subscribe(lambda credentials: _told_of(me, credentials))
            identity.watch(lambda: _ring(me))

    def identity_of(self, leaf: bytes | str, chain: Sequence[bytes | str] = ()) -> SpiffeId | None:
        """The SPIFFE ID of a peer that has shown this certificate (DER or PEM) in a handshake; None when it has none that is
        valid now, or no root of ours vouches for it. ``chain``: what it has shown, where the server tells: the leaf may be
        among it, and roots do no harm."""
        identity = self._identity
        if identity is None:
            return peer_certificate.identity_of(leaf)
        return self.known(leaf) or self._judged(leaf, chain, identity)

    def known(self, leaf: bytes | str) -> SpiffeId | None:
        """The same where it was asked before, and has been found."""
        found = self._known.get(leaf)
        if found is not None and found.begin <= self._now() <= found.end:
            return found.identity
        return None

    def memo(self) -> dict[Shown, Told]:
        """A table for what a door makes of identities. It is emptied when they may have changed: on a rotation, when aliases
        change, and within half a minute of the end of a certificate in ``known``. Who fills it looks at ``version`` before
        it asks and afterwards."""
        made: dict[Shown, Told] = {}
        self._memos.append(made.clear)
        return made

    def reloaded(self) -> None:
        """The mesh has another configuration."""
        aliases = tuple(self._aliases())
        if aliases != self._aliases_then:
            self._aliases_then = aliases
            self._forget()

    # -- judging ----------------------------------------------------------------------------------------------------

    def _judged(self, leaf: bytes | str, chain: Sequence[bytes | str], identity: Identity) -> SpiffeId | None:
        current = identity.current()
        if current is None:
            return None  # nobody to vouch for anybody yet
        by = self._by
        if by is None or current.version > by.version:
            self._rotated(current)
        else:
            current = by  # another thread has seen a newer one
        key = (leaf, *chain)
        now = self._now()
        if 0 < self._refused.get(key, 0.0) - now <= LOOK_AGAIN:
            return None
        version = self.version
        found = self._vouched_for(leaf, chain, current, now)
        if found is None:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused[key] = now + LOOK_AGAIN
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[leaf] = found
        if self.version != version:  # a rotation meanwhile: it is judged again next time
            self._known.pop(leaf, None)
        return found.identity

    def _vouched_for(
        self, leaf: bytes | str, chain: Sequence[bytes | str], current: Credentials, now: float
    ) -> _Known | None:
        if not peer_certificate.installed() or len(leaf) + sum(map(len, chain)) > LONGEST_CHAIN:
            return None
        first, *more = [*_ders(leaf), b""]
        certificate = parsed(first)
        found = None if certificate is None else peer_certificate.identity_of(first)
        if certificate is None or found is None:
            return None
        roots = self._roots_of(found.trust_domain, current)
        if not roots:
            log.debug("a peer is %s, for whose trust domain there are no roots", found)
            return None
        shown = [der for each in chain for der in _ders(each)]
        path = find_path(certificate, (*more, *shown, *self._own_signers, *self._signers), roots, now)
        if isinstance(path, str):
            log.debug("a peer is not %s: its certificate %s", found, path)
            return None
        for signer in path.signers:
            if len(self._signers) < MOST_SIGNERS:
                self._signers[signer] = None
        return _Known(found, path.not_before, path.not_after)

    def _roots_of(self, trust_domain: str, current: Credentials) -> tuple[bytes, ...]:
        """Those of the trust domain; an alias of ours that has no bundle of its own has our roots."""
        roots = current.bundles.roots_of(trust_domain)
        if not roots and trust_domain in self._aliases():
            return current.bundles.roots_of(current.svid.identity.trust_domain)
        return roots

    # -- what changes -----------------------------------------------------------------------------------------------

    def _rotated(self, current: Credentials) -> None:
        self._own_signers = tuple(_ders(current.svid.chain_pem)[1:])
        self._by = current
        self._forget()

    def _forget(self) -> None:
        self.version += 1
        self._known.clear()
        self._refused.clear()
        for clear in self._memos:
            clear()

    def _look(self) -> None:
        now = self._now()
        if any(not each.begin <= now <= each.end for each in list(self._known.values())):
            self._forget()


def _ders(certificate: bytes | str) -> list[bytes]:
    """The certificates in DER or PEM, of whoever wrote that; none of what is neither."""
    if isinstance(certificate, bytes) and certificate.startswith(peer_certificate.DER):
        return [certificate]
    try:
        text = certificate if isinstance(certificate, bytes) else certificate.encode()
        return [block.content for block in blocks(text, "") if block.label == CERTIFICATE]
    except (Unusable, UnicodeEncodeError):
        return []


def _told_of(peers: weakref.ref[Peers], credentials: Credentials) -> None:
    found = peers()
    if found is not None:
        found._rotated(credentials)


def _ring(peers: weakref.ref[Peers]) -> None:
    found = peers()
    if found is not None:
        found._look()
