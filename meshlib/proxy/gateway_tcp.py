"""A connection of a client of a gateway whose bytes nobody reads: TCP, TLS that ends elsewhere, and what comes out of TLS that
ends here. It goes where a tcp or tls rule leads, through the tunnel that CONNECT has (``connect.py``)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from meshlib.engine.authorization_check import AuthorizationCheck
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.explanation import Exchange
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.client_address import ClientFacts, ip_of
from meshlib.proxy.connect import Connecting
from meshlib.proxy.gateway_request import GatewayConnect
from meshlib.proxy.slow_clients import Wait, leaves
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayChain
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.proxy.connect_request import ConnectRequest
    from meshlib.proxy.connect_tunnel import ConnectTunnel
    from meshlib.proxy.gateway_connection import Gate
    from meshlib.proxy.gateway_tls import GatewayPeer

log = logging.getLogger("meshlib.proxy")

AHEAD = 64 * 1024
"""Bytes that a client may send before there is a connection to an upstream, until it is no longer read."""


class GatewayTcp(asyncio.Protocol):
    """A connection of ``chain``, which is as it was when it came. ``sni``: the server name that it asked for; ``first``: what
    has been read of it; ``tls``: its client, where TLS ended here."""

    def __init__(
        self,
        listener: Gate,
        chain: GatewayChain,
        sni: str = "",
        first: bytes = b"",
        tls: GatewayPeer | None = None,
    ) -> None:
        self._listener = listener
        self._chain = chain
        self._sni = sni
        self._ahead = first
        self._tls = tls
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
        live = self._listener.core.live
        path = self._chain.path
        if live is None or path is None or not self._may(live):
            self.transport.abort()
            return
        core = self._listener.core
        authority = f"{self._sni}:{self._listener.number}" if self._sni else self._own_address()
        peer, tls = self._address("peername"), self._tls
        found = None if tls is None else tls.identity()
        client = ClientFacts(peer, peer, self._own_address(), "" if found is None else found.text, self._sni)
        request = GatewayConnect(authority.encode("latin-1", "replace"), client)
        call: Call[ConnectRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS)
        call.record = Exchange(path, path.single, live.snapshot.version)
        self._connecting = Connecting(self._listener.forwarder, call, self)

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

    # -- who may -------------------------------------------------------------------------------------------------------

    def _may(self, live: LiveMesh) -> bool:
        policies = live.snapshot.connections
        if policies is None or not self._chain.judged:
            return True
        tls = self._tls
        found = None if tls is None else tls.identity()
        peer = self._address("peername")
        request = InboundRequest(
            "",
            "/",  # no rule is left that asks for one
            protocol="tcp",
            peer=peer,
            local_ip=ip_of(self._address("sockname")),
            port=self._listener.number,
            sni=self._sni,
            peer_id=found,
            secure=bool(self._sni),
            mutual=tls is not None and bool(tls.leaf),
        )
        refusal = AuthorizationCheck(policies, self._listener.core.inbound.authorization)(request)
        if refusal is not None:
            log.debug("a connection of %s to %s is refused by AuthorizationPolicies", peer, self._chain.server)
        return refusal is None

    def _address(self, what: str) -> str:
        name = self.transport.get_extra_info(what)
        return address(name[0], name[1]) if isinstance(name, tuple) else ""

    def _own_address(self) -> str:
        return self._address("sockname")
