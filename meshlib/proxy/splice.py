"""A connection of a client whose bytes nobody reads, through the tunnel that CONNECT has (``connect.py``)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.engine.authorization_check import AuthorizationCheck
from meshlib.proxy.slow_clients import Wait, leaves
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.policy.refusal import Refusal
    from meshlib.proxy.connect import Connecting
    from meshlib.proxy.connect_tunnel import ConnectTunnel
    from meshlib.proxy.responder import Downstream
    from meshlib.transport.core.mesh_core import MeshCore

DIRECT = "direct_peername"
"""What ``get_extra_info`` knows besides of a connection behind a load balancer (``proxied.py``): that one's own address."""
AHEAD = 64 * 1024
"""Bytes that a client may send before there is a connection to an upstream, until it is no longer read."""


class Keeps(Protocol):
    """A listener."""

    def opened(self, connection: Downstream, /) -> None: ...
    def closed(self, connection: Downstream, /) -> None: ...


class Splice(asyncio.Protocol):
    """A connection of ``listener``. ``first``: what has been read of it."""

    def __init__(self, listener: Keeps, first: bytes = b"") -> None:
        self._listener = listener
        self._ahead = first
        self._connecting: Connecting | None = None
        self._tunnel: ConnectTunnel | None = None
        self._ended = self._paused = False
        self._takes = True
        self.transport: Any = None

    # -- asyncio's callbacks --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._listener.opened(self)
        if self.transport.is_closing():  # there are too many
            return
        self._connecting = self.begun()
        if self._connecting is None:
            self.transport.abort()

    def begun(self) -> Connecting | None:
        """The way to an upstream; None: there is none for this client."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.received(data)
            return
        self._ahead += data
        if len(self._ahead) > AHEAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self._tunnel is not None:
            return self._tunnel.ended()
        self._ended = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.closed(self)
        connecting, self._connecting = self._connecting, None
        if self._tunnel is not None:
            self._tunnel.lost()
        elif connecting is not None:
            connecting.cancel()

    def pause_writing(self) -> None:
        self._takes = False
        if self._tunnel is not None:
            self._tunnel.writable(False)

    def resume_writing(self) -> None:
        self._takes = True
        if self._tunnel is not None:
            self._tunnel.writable(True)

    # -- what becomes of it (``ConnectClient``) -------------------------------------------------------------------------

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """There is no upstream: nobody could say so but by closing."""
        self._connecting = None
        self.transport.abort()

    def connected(self, tunnel: ConnectTunnel) -> None:
        """There is one."""
        self._connecting = None
        self._tunnel = tunnel
        tunnel.join(self.transport)
        if not self._takes:
            tunnel.writable(False)
        ahead, self._ahead = self._ahead, b""
        if ahead:
            tunnel.received(ahead)
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._ended and not tunnel.ended():
            self.transport.close()

    # -- as a connection of its listener --------------------------------------------------------------------------------

    def drain(self) -> None:
        """It is left alone until the drain is over: nobody can tell its end."""

    def waits(self) -> tuple[Wait, int] | None:
        """Nothing is waited for."""
        return leaves(self.transport) if self.transport.is_closing() else None

    def give_up(self, wait: Wait) -> None:
        """It does not take its last bytes."""
        self.transport.abort()

    def _address(self, what: str) -> str:
        name = self.transport.get_extra_info(what)
        return address(name[0], name[1]) if isinstance(name, tuple) else ""


def refused_by_policies(core: MeshCore, live: LiveMesh, request: InboundRequest) -> Refusal | None:
    """What AuthorizationPolicies say of a connection, of which ``request`` has no more than a connection has."""
    policies = live.snapshot.connections
    return None if policies is None else AuthorizationCheck(policies, core.inbound.authorization)(request)
