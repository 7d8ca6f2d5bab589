"""What the inbound ports of the proxy have in common: an acceptor, which ends TLS of the mesh by the mode that a port has of
PeerAuthentication, and whether anybody can be let in at all."""

from __future__ import annotations

import functools
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.proxy.http_version import speaks_http2
from meshlib.proxy.listener import Listener
from meshlib.serving.acceptor import Acceptor
from meshlib.serving.tls_connections import TlsConnections
from meshlib.serving.tls_minimum import tls_minimum_of

if TYPE_CHECKING:
    import asyncio

    from meshlib.proxy.inbound_hop import HopForwarder
    from meshlib.serving.first_byte import Detection, Judge
    from meshlib.serving.tls_peer import TlsPeer
    from meshlib.transport.runtimes.serving import Server

ALPN = ("h2", "http/1.1")
"""Istio's, of inbound listeners."""


class TlsListener(Listener):
    """Accepts on ``sock``, which listens already, in the mode that ``mode`` says at each connection; ``judge``: who decides in
    its place, for a port that stands before several, and ``detection``, for clients that say too little."""

    def __init__(
        self,
        sock: socket.socket,
        server: Server,
        forwarder: HopForwarder,
        rng: random.Random | None,
        mode: Callable[[], MtlsMode],
        judge: Judge | None = None,
        detection: Detection | None = None,
    ) -> None:
        self.server = server
        self.core = core = server.core
        super().__init__(sock, forwarder, rng)
        self.connections_over_tls = TlsConnections(core.identity, core.peers.identity_of, core.clock, core.real_alarms)
        self.acceptor = Acceptor(
            sock,
            self,
            mode,
            core.identity,
            core.clock,
            core.real_alarms,
            self.connections_over_tls,
            alpn=ALPN if speaks_http2() else ALPN[1:],
            minimum=functools.partial(tls_minimum_of, core),
            judge=judge,
            detection=detection,
            soon=forwarder.turn,
        )

    def strict(self) -> str:
        """Where nobody is let in without mTLS, in words; "" while somebody is. Asked while the mesh is open."""
        raise NotImplementedError

    def why_not_ready(self) -> str:
        """Why nobody can be let in, in words; "" when somebody can. From any thread."""
        core = self.core
        if core.live is None:
            return "the mesh is closed"
        strict = self.strict()
        if not strict:
            return ""
        identity = core.identity
        if identity is None:
            return f"{strict} and the proxy has no certificate"
        current = identity.current()
        if current is None:
            return f"{strict} and there is no certificate yet ({identity.problem or 'none has been received'})"
        return "" if current.svid.not_after > core.clock.time() else f"{strict} and the certificate has expired"

    def stop(self) -> None:
        """Accept no more; every response is the last of its connection, and idle connections close."""
        self.acceptor.stop()
        super().stop()

    async def drained(self, seconds: float) -> bool:
        """As ``Listener``'s, handshakes included."""
        await self.acceptor.settled()
        for connection in list(self._connections):
            connection.drain()
        done = await super().drained(seconds)
        self.connections_over_tls.stop()
        return done

    def plain(self) -> asyncio.Protocol:
        """For a plain text connection."""
        raise NotImplementedError

    def secure(self, peer: TlsPeer) -> asyncio.Protocol:
        """For a TLS connection of this peer."""
        raise NotImplementedError
