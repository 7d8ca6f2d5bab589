"""Who a peer is to this process: what its certificate says (``security/peer_certificate.py``), as far as our roots vouch for
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meshlib.security import peer_certificate

if TYPE_CHECKING:
    from meshlib.identity.identity import Identity
    from meshlib.policy.spiffe_id import SpiffeId

Aliases = Callable[[], Sequence[str]]
"""``trustDomainAliases`` of the mesh, as they are now."""


class Peers:
    """Of one mesh. Without an ``identity`` nothing is configured to judge by: the verification that the server did in its
    handshake is trusted, and the rules of SPIFFE hold all the same."""

    __slots__ = ("_aliases", "_identity")

    def __init__(self, identity: Identity | None, aliases: Aliases = tuple) -> None:
        self._identity = identity
        self._aliases = aliases

    def identity_of(self, leaf: bytes | str, chain: Sequence[bytes | str] = ()) -> SpiffeId | None:
        """The SPIFFE ID of a peer that has shown this certificate (DER or PEM) in a handshake; None when it has none that is
        valid, or nobody whom we trust vouches for it. ``chain``: what it has shown behind the leaf, where the server tells."""
        found = peer_certificate.identity_of(leaf)
        if found is None or self._identity is None:
            return found
        current = self._identity.current()
        if current is None:
            return None  # nobody to vouch for anybody yet
        ours = current.svid.identity.trust_domain
        trusted = current.bundles.trust_domains
        if found.trust_domain in trusted or (ours in trusted and found.trust_domain in self._aliases()):
            return found
        return None
