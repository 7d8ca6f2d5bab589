"""Connections that the kernel has led here without the application's knowledge: each goes on to where it was meant to go, by
the rules of the mesh.

What a connection is to be read as follows from its destination, as from a sidecar's listeners (``protocol_detection.py``). An
address and port of a service of TCP: bytes, from the first on, whoever speaks first. Those of a service whose port declares no
protocol: what the client's first bytes are; requests of HTTP, whatever their Host says, by that service's rules, else bytes for
it. A port that services of HTTP or HTTPS share: what the first bytes are; requests go by their Host and the port that was
meant, TLS by the name that it asks for (SNI). All else is bytes, to the destination itself (ALLOW_ANY), or is closed
(REGISTRY_ONLY).
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from meshlib.proxy.connect import connect
from meshlib.proxy.connect_request import ConnectRequest
from meshlib.proxy.http_connection import HttpConnection
from meshlib.proxy.http_version import Chosen
from meshlib.proxy.listener import Listener, where
from meshlib.proxy.original_destination import original_destination
from meshlib.proxy.protocol_detection import (
    Reading,
    detection_timeout,
    is_http,
    looks_at_names,
    looks_at_requests,
    reading_of,
)
from meshlib.proxy.slow_clients import Wait
from meshlib.proxy.sockets import BACKLOG
from meshlib.proxy.splice import Splice
from meshlib.serving.hello_names import NotTls, hello_of
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    from meshlib.alarms import Cancellable
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.proxy.connect import Connecting
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder, UnderWay

log = logging.getLogger("meshlib.proxy")

TLS = 0x16
"""The first byte of a connection that begins with a handshake."""


class TransparentListener(Listener):
    """Takes what ``iptables.py`` leads to it. A client that connects to this very port uses it as one of ``Listener``."""

    async def start(self) -> None:
        """Accept from now on."""
        self.forwarder.upstream.own.add(self._sock.getsockname()[:2])
        loop = self.forwarder.loop
        self._server = await loop.create_server(lambda: Led(self), sock=self._sock, backlog=BACKLOG)

    def explicit(self) -> Chosen:
        """What reads a connection to this very port."""
        return Chosen(self, self._reader)


class Led(asyncio.Protocol):
    """A connection, until it is known what reads it. ``alarm`` rings when its first bytes are waited for no longer."""

    def __init__(self, listener: TransparentListener) -> None:
        self._listener = listener
        self.transport: Any = None
        self._meant = ("", 0)
        self._reading = Reading.BYTES
        self._first = b""
        self.alarm: Cancellable | None = None

    # -- asyncio's callbacks --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        meant = original_destination(transport.get_extra_info("socket"))
        if meant is None:
            self._pass_on(self._listener.explicit())
            return
        self._meant = meant
        self._listener.opened(self)
        live = self._listener.forwarder.core.live
        if transport.is_closing():  # one too many
            return
        if live is not None:
            self._reading = reading_of(live.snapshot, *meant)
        if live is None or self._reading is Reading.BYTES:
            self._splice(address(*meant))
        else:
            self._wait_for_first_bytes(live.snapshot)

    def data_received(self, data: bytes) -> None:
        self._first += data
        self._decide()

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.closed(self)
        self._wait_no_longer()

    # -- what it is -----------------------------------------------------------------------------------------------------

    def _wait_for_first_bytes(self, snapshot: Snapshot) -> None:
        """As long as MeshConfig says, where they may be those of a request; names of TLS are waited for without end."""
        seconds = detection_timeout(snapshot)
        if seconds and (self._reading is Reading.SERVICE or looks_at_requests(snapshot, self._meant[1])):
            forwarder = self._listener.forwarder
            self.alarm = forwarder.core.alarms.on_loop(forwarder.loop, seconds, self._too_late)

    def _too_late(self) -> None:
        """It may be the server who speaks first: it is one of TCP."""
        if not self.transport.is_closing():
            self._splice(address(*self._meant))

    def _wait_no_longer(self) -> None:
        alarm, self.alarm = self.alarm, None
        if alarm is not None:
            alarm.cancel()

    def _decide(self) -> None:
        live = self._listener.forwarder.core.live
        first, port = self._first, self._meant[1]
        of_service = self._reading is Reading.SERVICE
        if live is not None and first[0] == TLS and not of_service and looks_at_names(live.snapshot, port):
            self._read_hello(live.snapshot)
        elif live is None or not (of_service or looks_at_requests(live.snapshot, port)):
            self._splice(address(*self._meant))
        else:
            http = is_http(first)
            if http is not None:
                if http:
                    self._read_requests()
                else:
                    self._splice(address(*self._meant))

    def _read_hello(self, snapshot: Snapshot) -> None:
        """Where a connection over TLS goes: by its SNI where the mesh knows that, else where it was meant to."""
        try:
            hello = hello_of(self._first)
        except NotTls:  # what it is, is for where it was meant to go
            self._splice(address(*self._meant))
            return
        if hello is None:
            return
        by_name = address(hello.sni, self._meant[1])
        known = hello.sni and snapshot.virtual_host(by_name, "https").tcp
        self._splice(by_name if known else address(*self._meant))

    def _read_requests(self) -> None:
        port = RequestsTo(self._listener, self._meant)
        made = Chosen(port, port.reader)
        self._listener.passed_on(self)
        self._pass_on(made)
        made.data_received(self._first)

    def _splice(self, authority: str) -> None:
        self._listener.passed_on(self)
        self._pass_on(Bytes(self._listener, authority, self._meant, self._first))

    def _pass_on(self, reader: asyncio.Protocol) -> None:
        self._wait_no_longer()
        self.transport.set_protocol(reader)
        reader.connection_made(self.transport)

    # -- as a client's connection ---------------------------------------------------------------------------------------

    def drain(self) -> None:
        """It has said nothing yet, or too little."""
        self.transport.close()

    def waits(self) -> tuple[Wait, int] | None:
        """What the client is waited for (``slow_clients.py``)."""
        return (Wait.HEAD if self._first else Wait.NEXT), 0

    def give_up(self, wait: Wait) -> None:
        """It is not waited for any longer."""
        self.transport.close()


class Bytes(Splice):
    """A connection whose bytes nobody reads, to ``authority``. ``meant``: where it was meant to go; ``first``: what has been
    read of it."""

    _listener: TransparentListener

    def __init__(self, listener: TransparentListener, authority: str, meant: tuple[str, int], first: bytes) -> None:
        super().__init__(listener, first)
        self._authority = authority
        self._meant = meant

    def begun(self) -> Connecting | None:
        """By the rules of the host that the address is of, or to the address itself."""
        request = ConnectRequest(self._authority.encode("latin-1"), b"", b"\r\n")
        request.came_by = (self._peer(), address(*self._meant))
        return connect(self._listener.forwarder, request, self)

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """There is no tunnel: nothing can be said to who has asked for none."""
        log.debug("no connection to %s for %s: %d", address(*self._meant), self._peer(), status)
        super().respond(status, reason, headers, whole, trailers)

    def _peer(self) -> str:
        return where(self.transport.get_extra_info("peername"))


class RequestsTo(HttpConnection[TransparentListener]):
    """A connection whose requests go to the port that they were meant for; CONNECT is for a proxy that its client knows of."""

    __slots__ = ("_asked", "_dialled", "_ip", "_port", "_snapshot")

    def __init__(self, listener: TransparentListener, meant: tuple[str, int]) -> None:
        super().__init__(listener, listener.proto)
        self._ip, self._port = meant
        # of the last request: nearly always those of the next one, too
        self._snapshot: weakref.ref[Snapshot] | None = None  # an idle connection keeps no configuration after a reload
        self._asked = ("", "")
        self._dialled = ""

    def forward(self, request: ProxyRequest, responder: Responder) -> UnderWay | None:
        """Begin. Its Host chooses among the hosts of the port that was meant, whatever port Host says; one that is none of
        them is called at the address that was meant, as is any at the address of a service whose port declares no protocol."""
        live = self.core.live
        if live is not None:
            snapshot, asked = live.snapshot, (request.scheme, request.authority)
            if self._snapshot is None or snapshot is not self._snapshot() or asked != self._asked:
                self._snapshot, self._asked = weakref.ref(snapshot), asked
                self._dialled = self._called(snapshot, *asked)
            request.dialled = self._dialled
        return self._listener.forwarder.forward(request, responder)

    def _called(self, snapshot: Snapshot, scheme: str, authority: str) -> str:
        meant = address(self._ip, self._port)
        if snapshot.virtual_host(meant, scheme).any_host:
            return meant
        by_name = f"{_without_port(authority)}:{self._port}"
        return meant if snapshot.is_unknown(snapshot.virtual_host(by_name, scheme, authority)) else by_name


def _without_port(authority: str) -> str:
    name, colon, port = authority.rpartition(":")
    return name if colon and port.isdigit() else authority
