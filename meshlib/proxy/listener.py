"""A port of the proxy: its connections, counted, and drained when it is to stop."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections import Counter
from typing import TYPE_CHECKING

from meshlib.policy.request_ids import RequestIds
from meshlib.proxy.connect import connect
from meshlib.proxy.http1_laid_out import Http1LaidOut
from meshlib.proxy.http_version import Chosen, HttpVersion, speaks_http2
from meshlib.proxy.refusals import TURNED_AWAY, asked_of, told_of_outbound
from meshlib.proxy.shedding import turn_away
from meshlib.proxy.slow_clients import EVERY, ClientLimits, SlowClients
from meshlib.proxy.sockets import BACKLOG
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.live import Live
    from meshlib.proxy.connect import Connecting
    from meshlib.proxy.connect_request import ConnectRequest
    from meshlib.proxy.connect_tunnel import ConnectClient
    from meshlib.proxy.forward import Forwarder
    from meshlib.proxy.http2_downstream import Http2Downstream
    from meshlib.proxy.overload import Overload
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.responder import Downstream, Port
    from meshlib.transport.protocol.http1_request import Refused

log = logging.getLogger("meshlib.proxy")

FLOODS_SAID_EVERY = 60.0
"""Seconds, at a port, from one warning of a client that floods its connection to the next."""


def where(name: object) -> str:
    """What a socket says of itself (``sockname``, ``peername``), in words."""
    return (
        address(name[0], name[1]) if isinstance(name, tuple) else f"unix:{name}" if name else "a client that has gone"
    )


def http2_reader(listener: Port) -> Http2Downstream:
    """What reads a connection that speaks HTTP/2; imported now, as it needs nghttp2."""
    from meshlib.proxy.http2_downstream import Http2Downstream

    return Http2Downstream(listener)


class Listener:
    """Accepts on ``sock``, which listens already, and forwards what comes by ``forwarder``. ``draining``: responses say that
    they are the last of their connection."""

    proto = b"x-forwarded-proto: http\r\n"

    def __init__(
        self,
        sock: socket.socket,
        forwarder: Forwarder,
        rng: random.Random | None = None,
        limits: ClientLimits = ClientLimits(),
    ) -> None:
        self._sock = sock
        self.where = ""
        """Its address, as pages and metrics name it: the process's to say."""
        self._slow_clients = SlowClients(limits)
        self._looks = False  # for them, now and then: while there are connections
        self.forwarder = forwarder
        self.ids = RequestIds(rng or random.Random())
        self.draining = False
        self.stopped = False  # whether its process has told it to stop
        self.overload: Overload | None = None
        self.all_connections: Callable[[], int] = lambda: len(self._connections)
        """Those of all listeners of the process."""
        self.accepted = 0
        self.refusals: dict[int, int] = {}
        """Requests that were no requests, by the status that said so."""
        self.counts: Counter[str] = Counter()
        """What became of connections over TLS, at a port of a gateway."""
        self._floods_told_again_at = float("-inf")
        self._floods_untold = 0
        self._connections: set[Downstream] = set()
        self._arriving: set[asyncio.Task[None]] = set()  # accepted as it stopped
        self._server: asyncio.Server | None = None
        self._emptied: asyncio.Event | None = None

    @property
    def beside(self) -> Live | None:
        """Clusters that are none of the mesh's; None: there are none."""
        return None

    def why_not_ready(self) -> str:
        """Why nobody can be served here, in words; "" when somebody can. From any thread."""
        return ""

    async def start(self) -> None:
        """Accept from now on."""
        self.forwarder.upstream.own.add(self._sock.getsockname()[:2])
        self._server = await self.forwarder.loop.create_server(self.protocol, sock=self._sock, backlog=BACKLOG)

    def protocol(self) -> asyncio.Protocol:
        """For a connection that has just come."""
        return Chosen(self, self._reader)

    def _reader(self, version: HttpVersion) -> Http1LaidOut | Http2Downstream:
        return Http1LaidOut(self) if version is HttpVersion.HTTP1 or not speaks_http2() else http2_reader(self)

    def look(self) -> None:
        """For clients that have let the proxy wait for too long, and give them up (``SlowClients``)."""
        self._slow_clients.look(list(self._connections), self.forwarder.core.clock.monotonic())

    def _look_again(self) -> None:
        self.look()
        self._looks = bool(self._connections)
        if self._looks:
            self.forwarder.loop.call_later(EVERY, self._look_again)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections) + len(self._arriving)

    def opened(self, connection: Downstream) -> None:
        """A client has connected."""
        if self.overload is not None and not self.overload.takes_connection(self.all_connections()):
            connection.transport.abort()
            return
        self.accepted += 1
        self._connections.add(connection)
        if not self._looks:
            self._looks = True
            self.forwarder.loop.call_later(EVERY, self._look_again)

    @property
    def tunnels(self) -> Listener | None:
        """What takes CONNECT."""
        return self

    def connect(self, request: ConnectRequest, client: ConnectClient) -> Connecting | None:
        """Begin a tunnel; ``client`` is told. None: the proxy has too much to do, and the client was told 503."""
        if self.overload is not None and self.overload.refuses_request():
            turn_away(client)
            told_of_outbound(self.forwarder.core, TURNED_AWAY, asked_of(request))
            return None
        return connect(self.forwarder, request, client)

    def passed_on(self, connection: Downstream) -> None:
        """It goes on as another object, which has yet to say that it is open."""
        self.accepted -= 1
        self._connections.discard(connection)

    def closed(self, connection: Downstream) -> None:
        """It has gone."""
        self._connections.discard(connection)
        if not self._connections and self._emptied is not None:
            self._emptied.set()

    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None) -> None:
        """A request of this client was refused before anything was decided about it. ``asked``: what is known of it, None:
        whoever had it in hand tells of it."""
        self.count_refusal(refused, client)
        if asked is not None:
            told_of_outbound(self.forwarder.core, refused, asked)

    def count_refusal(self, refused: Refused, client: asyncio.BaseTransport) -> None:
        """Of this client."""
        if not refused.status:  # no response
            return
        self.refusals[refused.status] = self.refusals.get(refused.status, 0) + 1
        if log.isEnabledFor(logging.DEBUG):
            at, who = (where(client.get_extra_info(name)) for name in ("sockname", "peername"))
            log.debug("a request of %s to %s is refused with %d: %s", who, at, refused.status, refused.why)

    def broken(self, why: str, bug: bool, client: asyncio.BaseTransport, flood: bool = False) -> None:
        """The connection of this client over HTTP/2 had to be closed; ``bug``: by a fault of ours; ``flood``: as it floods."""
        who = where(client.get_extra_info("peername"))
        if flood and self._warns_of_floods():
            log.warning(
                "the HTTP/2 connection of %s is closed: %s (%d more since this was said last; said once in %g s)",
                *(who, why, self._floods_untold, FLOODS_SAID_EVERY),
            )
            self._floods_untold = 0
            return
        log.log(logging.ERROR if bug else logging.DEBUG, "the HTTP/2 connection of %s is closed: %s", who, why)

    def _warns_of_floods(self) -> bool:
        """Not of each: strangers would fill the log."""
        now = self.forwarder.core.clock.monotonic()
        if now < self._floods_told_again_at:
            self._floods_untold += 1
            return False
        self._floods_told_again_at = now + FLOODS_SAID_EVERY
        return True

    def stop(self) -> None:
        """Accept no more; every response is the last of its connection, and idle connections close."""
        self.draining = True
        if self._server is not None:
            self._accept_the_rest()
            self._server.close()
        for connection in list(self._connections):
            connection.drain()

    def _accept_the_rest(self) -> None:
        """What the kernel has accepted would be reset as the socket closes."""
        while True:
            try:
                accepted, _ = self._sock.accept()
            except OSError:  # nothing more, or no descriptor for it
                return
            accepted.setblocking(False)
            task = self.forwarder.loop.create_task(self._greet(accepted))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _greet(self, accepted: socket.socket) -> None:
        try:
            await self.forwarder.loop.connect_accepted_socket(self.protocol, accepted)
        except OSError:  # it has gone
            accepted.close()

    async def drained(self, seconds: float) -> bool:
        """Wait until no connection is left, at most so long. False: some were; they are broken off."""
        if self._connections:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), seconds)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.transport.abort()
                return False
        return True
