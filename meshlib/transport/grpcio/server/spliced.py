"""Calls that come through a port of the mesh: gRPC core sees a unix socket as their peer, and the port knows who that is.

The port binds its end of the unix socket to a name of 128 random bits and keeps, under this name, what it knows of the
connection for as long as the socket is bound. So nothing that a client sends, and no name that somebody else has bound, can
stand for another's address.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from meshlib.transport.grpcio.server.context_proxy import ContextProxy

if TYPE_CHECKING:
    from meshlib.identity.credentials import Credentials

ABSTRACT = sys.platform == "linux"
"""Whether names need no file system."""


class Spliced:
    """One connection. ``peer``: its address on the network, ``port`` the port (of policies) that it came to.
    ``credentials``: of ours, when it was accepted; None: plain text. ``shown``: leaf and chain (PEM) of its peer, as its
    first call has told; ``trusted``: whether they have identified it then. ``close`` ends it, from any thread."""

    __slots__ = ("close", "credentials", "peer", "port", "shown", "trusted")

    def __init__(self, peer: str, port: int, credentials: Credentials | None, close: Callable[[], None]) -> None:
        self.peer = peer
        self.port = port
        self.credentials = credentials
        self.close = close
        self.shown: tuple[bytes, tuple[bytes, ...]] | None = None
        self.trusted = False

    def judged(self, shown: tuple[bytes, tuple[bytes, ...]], trusted: bool) -> None:
        """By a call: its peer has shown this."""
        if self.shown is None:
            self.trusted = trusted
            self.shown = shown

    def __repr__(self) -> str:
        return f"<Spliced {self.peer} to {self.port}>"


_connections: dict[str, Spliced] = {}


def at(peer: str) -> Spliced | None:
    """The connection of a call whose peer grpcio calls so; None: it came to a port of grpcio's own."""
    return _connections.get(peer)


def keep(name: str, connection: Spliced) -> None:
    """Before it is made: ``name`` is what the unix socket is bound to."""
    _connections[peer_named(name)] = connection


def forget(name: str) -> None:
    """After it has been closed."""
    _connections.pop(peer_named(name), None)


def peer_named(name: str) -> str:
    """What grpcio calls a peer whose socket is bound to ``name``."""
    return f"unix-abstract:{name[1:]}" if name.startswith("\0") else f"unix:{name}"


def grpc_name(address: str) -> str:
    """What grpcio would call a peer at ``10.0.0.1:4711`` or ``[::1]:4711``."""
    if address.startswith("["):
        host, _, port = address.rpartition(":")
        return f"ipv6:{quote(host, safe=':')}:{port}"
    return f"ipv4:{address}"


def address_of(sock: socket.socket) -> str:
    """``10.0.0.1:4711`` or ``[::1]:4711``: where a connection comes from. Raises OSError when it has gone already."""
    host, port = sock.getpeername()[:2]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SplicedContext(ContextProxy):
    """A handler's context that tells the peer's address on the network."""

    __slots__ = ("_peer",)

    def __init__(self, context: object, connection: Spliced) -> None:
        super().__init__(context)
        self._peer = connection.peer

    def peer(self) -> str:
        """As ``grpc.ServicerContext``'s."""
        return grpc_name(self._peer)
