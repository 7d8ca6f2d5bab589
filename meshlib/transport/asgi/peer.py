"""Who is at the other end of a connection, by what an ASGI server tells of it.

The certificate comes from the ``tls`` extension: ``client_cert_chain`` (PEM, the leaf first), as the ASGI specification has
it, or ``client_cert`` (DER), as a proposal for uvicorn has it. Of a server that has neither, every peer is unauthenticated.
Nothing that a client can send (``x-forwarded-client-cert`` and its like) says who it is.

The address comes from ``scope["client"]``. uvicorn's ``--proxy-headers``, on by default, and its like write an address of
X-Forwarded-For there: then nobody knows the peer's, which counts against the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.policy.client_address import ShownAddresses

if TYPE_CHECKING:
    from meshlib.identity.peers import Peers
    from meshlib.policy.spiffe_id import SpiffeId


class Peer(NamedTuple):
    """``mutual``: it has shown a certificate that the handshake has verified; ``identity``: the SPIFFE ID in that, None when
    it has none that is valid."""

    identity: SpiffeId | None
    mutual: bool


NOBODY = Peer(None, False)
SNI = "meshlib.sni"
"""The key of the extension under which our own server says which name the client has asked TLS for."""
SEQUENCES = (tuple, list)
MOST_REMEMBERED = 1024

PeerOf = Callable[["Mapping[str, object] | None"], Peer]
"""The peer of a connection with this ``tls`` extension (None: there is none)."""


def peers_of(peers: Peers) -> PeerOf:
    """What a door asks who its peers are, as ``peers`` judges them. It keeps, by the certificate in PEM, those who have an
    identity: a kept-alive connection shows the same text, of which Python knows the hash."""
    remembered: dict[str, Peer] = peers.memo()

    def peer_of(tls: Mapping[str, object] | None) -> Peer:
        if not tls or tls.get("client_cert_error"):
            return NOBODY
        chain = tls.get("client_cert_chain")
        if chain and type(chain) in SEQUENCES and type(leaf := chain[0]) is str and not tls.get("client_cert"):  # type: ignore[index]
            return remembered.get(leaf) or _told(tls, peers, remembered)
        return _told(tls, peers, remembered)

    return peer_of


def _told(tls: Mapping[str, object], peers: Peers, remembered: dict[str, Peer]) -> Peer:
    version = peers.version
    chain = tls.get("client_cert_chain")
    shown = [*_leaf(chain), *_leaf([tls.get("client_cert")])]
    if not shown:
        return NOBODY
    behind = [each for each in chain[1:] if isinstance(each, str | bytes)] if isinstance(chain, list | tuple) else []
    found = peers.identity_of(shown[0], behind)
    if len(shown) > 1 and peers.identity_of(shown[1], behind) != found:  # the server contradicts itself
        found = None
    peer = Peer(found, True)
    leaf = shown[0]
    if found is not None and isinstance(leaf, str):
        if len(remembered) >= MOST_REMEMBERED:
            remembered.clear()
        remembered[leaf] = peer
        if peers.version != version:
            remembered.pop(leaf, None)
    return peer


def _leaf(chain: object) -> Sequence[str | bytes]:
    if isinstance(chain, list | tuple) and chain and isinstance(chain[0], str | bytes) and chain[0]:
        return chain[:1]
    return ()


def address(host: str, port: object) -> str:
    """``127.0.0.1:4711``, ``[::1]:4711``, or of a unix socket ``unix:/path``."""
    if host.startswith("/"):
        return f"unix:{host}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


addresses = ShownAddresses()
"""By what a scope has of the client."""


def plain_address(client: Sequence[Any] | None) -> str | None:
    """``address`` of what a scope has of its client, "" of nothing. None: it needs escapes."""
    found = "" if client is None else address(client[0], client[1])
    return addresses.keep(client if client is None else tuple(client), found)


def rewritten(host: str, port: object, forwarded: bytes) -> bool:
    """Whether ``scope["client"]`` is not the peer but an item of X-Forwarded-For (its lines joined with ","): an item without
    a port gets port 0, which no peer has."""
    for item in forwarded.decode("latin-1").split(","):
        item = item.strip()
        if (item == host and not port) or item in (f"{host}:{port}", f"[{host}]:{port}", f"[{host}]"):
            return True
    return False
