"""A port of a gateway: what its connections are is looked up as each comes, in the configuration of that moment."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.proxy.gateway_connection import GatewayConnection, PortNow
from meshlib.proxy.gateway_greeting import Greeting
from meshlib.proxy.gateway_refusals import Refusals
from meshlib.proxy.gateway_tcp import GatewayTcp
from meshlib.proxy.listener import Listener, where
from meshlib.proxy.proxied import Proxied
from meshlib.transport.runtimes.serving import Server

if TYPE_CHECKING:
    import random

    from meshlib.compiler.gateway_model import GatewayPort, Place
    from meshlib.proxy.first_words import Greets
    from meshlib.proxy.forward import Forwarder
    from meshlib.proxy.gateway_connection import Gate
    from meshlib.proxy.gateway_tls import Contexts

log = logging.getLogger("meshlib.proxy")

PATIENCE = 15.0
"""Seconds from accepting a connection over TLS to the end of its handshake (listener_filters_timeout of Envoy)."""
MOST_GREETING = 4096
"""Connections of one port whose handshake is not over; the oldest is cut off when there is one more."""
MOST_SAID = 1024


class GatewayListener(Listener):
    """Accepts on ``sock``, which listens already, what the port ``place`` of the gateway is for."""

    tunnels = None

    def __init__(
        self,
        sock: socket.socket,
        forwarder: Forwarder,
        place: Place,
        contexts: Contexts,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(sock, forwarder, rng)
        self.core = forwarder.core
        self.place = place
        self.server = Server(self.core, Refusals(self.core))  # type: ignore[arg-type]
        self.contexts = contexts
        self._greetings: dict[Greets, None] = {}
        self._said: set[str] = set()
        self._now = PortNow(None, None, DEFAULTS, {})

    @property
    def number(self) -> int:
        """The port as policies know it."""
        return self.place[1]

    @property
    def port(self) -> GatewayPort | None:
        """What it is now; None: no Gateway has it any more."""
        live = self.core.live
        return None if live is None else live.snapshot.gateway.get(self.place)

    def now(self) -> PortNow:
        """What the configuration of this moment says of it. Asked twice a request."""
        now = self._now
        while now.live is not (live := self.core.live):  # again where a reload came in between
            port = None if live is None else live.snapshot.gateway.get(self.place)
            mesh = DEFAULTS if live is None else live.inbound.default.settings.mesh
            chains = {} if port is None else port.by_name
            self._now = now = PortNow(live, self.server.straight(self.number), mesh, chains)
        return now

    def why_not_ready(self) -> str:
        """Why nobody can be served here, in words; "" when somebody can. From any thread."""
        return "the mesh is closed" if self.core.live is None else ""

    def protocol(self) -> asyncio.Protocol:
        """For a connection that has just come."""
        live = self.core.live
        if live is not None and live.snapshot.inbound.default.mesh.edge.proxy_protocol:
            return Proxied(self)
        return self.behind()

    def behind(self) -> asyncio.Protocol:
        """For a connection whose client is known."""
        port = self.port
        if port is not None and port.tls:
            return Greeting(self)
        chain = None if port is None else port.plain
        if chain is None:
            return Nobody()
        return GatewayTcp(self, chain) if chain.http is None else GatewayConnection(self, chain, None).protocol()

    # -- connections whose handshake is not over -----------------------------------------------------------------------

    def greeting(self, connection: Greets) -> None:
        """One has come: it has ``PATIENCE`` to say which server it is for, and to end its handshake."""
        if len(self._greetings) >= MOST_GREETING:
            self._cut(next(iter(self._greetings)), "cut")
        self._greetings[connection] = None
        connection.alarm = self.core.real_alarms.on_loop(
            self.forwarder.loop, PATIENCE, lambda: self._cut(connection, "timed_out")
        )

    def greeted(self, connection: Greets) -> None:
        """It has said so, or has gone."""
        self._greetings.pop(connection, None)
        if connection.alarm is not None:
            connection.alarm.cancel()

    def _cut(self, connection: Greets, why: str) -> None:
        self.counts[why] += 1
        self.greeted(connection)
        connection.transport.abort()

    def say(self, sentence: str) -> None:
        """In the log, once."""
        if sentence not in self._said and len(self._said) < MOST_SAID:
            self._said.add(sentence)
            log.warning("%s (said once)", sentence)

    def not_shaken(self, transport: asyncio.BaseTransport, error: BaseException | None) -> None:
        """A handshake has failed: by the client's doing, mostly."""
        if log.isEnabledFor(logging.DEBUG):
            why = getattr(error, "reason", None) or error or "cut off"
            log.debug("a TLS handshake of %s has failed: %s", where(transport.get_extra_info("peername")), why)


class Nobody(asyncio.Protocol):
    """For a connection that nothing is for: it is closed, as Envoy does where no filter chain matches."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


if TYPE_CHECKING:

    def _is_gate(listener: GatewayListener) -> Gate:
        return listener
