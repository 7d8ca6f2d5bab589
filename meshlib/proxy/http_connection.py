"""A client's connection where what its requests come to depends on the connection: what its protocol takes for its port."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshlib.policy import deadline as deadlines
from meshlib.proxy.http1_downstream import Http1Downstream
from meshlib.proxy.http1_laid_out import Http1LaidOut
from meshlib.proxy.http_version import Chosen, HttpVersion, speaks_http2
from meshlib.proxy.listener import http2_reader
from meshlib.proxy.request import ProxyRequest
from meshlib.proxy.shedding import counted, turn_away
from meshlib.transport.runtimes.serving import DEADLINE_NAMES

if TYPE_CHECKING:
    import asyncio
    from typing import Self

    from meshlib.policy.request_ids import RequestIds
    from meshlib.proxy.http2_downstream import Http2Downstream
    from meshlib.proxy.means import Means
    from meshlib.proxy.overload import Overload
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.responder import Downstream, Responder, UnderWay
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.runtimes.serving import Server


UPGRADE = b"\r\nupgrade:"
DEADLINE, TIMEOUT = (b"\r\n%b:" % name.encode() for name in DEADLINE_NAMES)
SAYS_DEADLINE, SAYS_TIMEOUT = DEADLINE[2:], TIMEOUT[2:]
"""The same among what is ``special`` of a request."""


class Accepts(Protocol):
    """The port that it came in by: a ``Listener``."""

    ids: RequestIds
    overload: Overload | None

    @property
    def forwarder(self) -> Means: ...
    @property
    def draining(self) -> bool: ...
    def opened(self, connection: Downstream, /) -> None: ...
    def passed_on(self, connection: Downstream, /) -> None: ...
    def closed(self, connection: Downstream, /) -> None: ...
    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None, /) -> None: ...
    def broken(self, why: str, bug: bool, client: asyncio.BaseTransport, flood: bool = False, /) -> None: ...


class Reads(Protocol):
    """A request: its headers, and these in lower case behind a line end."""

    @property
    def lower(self) -> bytes: ...

    def header(self, name: str, /) -> str | None: ...


Listens = TypeVar("Listens", bound=Accepts)


class HttpConnection(Generic[Listens]):
    """What the protocol of a connection takes for its listener, and for what forwards. ``proto``: as of ``Port``."""

    __slots__ = ("_listener", "core", "ids", "loop", "proto", "turn")

    tunnels = None
    """CONNECT is for outbound ports."""
    request_type: type[ProxyRequest] = ProxyRequest
    """What its requests over HTTP/1.1 are."""

    def __init__(self, listener: Listens, proto: bytes) -> None:
        self._listener = listener
        self.proto = proto
        self.ids = listener.ids
        self.core = listener.forwarder.core
        self.loop = listener.forwarder.loop
        self.turn = listener.forwarder.turn

    @property
    def forwarder(self) -> Self:
        """What takes its requests."""
        return self

    @property
    def draining(self) -> bool:
        """Whether responses are the last of their connection."""
        return self._listener.draining

    def protocol(self) -> asyncio.Protocol:
        """What reads it, by ALPN or by its first bytes."""
        return Chosen(self, self.reader)

    def reader(self, version: HttpVersion) -> Http1Downstream | Http2Downstream:
        """What reads it, as it speaks this version."""
        if version is HttpVersion.HTTP1 or not speaks_http2():
            kind = self.request_type
            return Http1LaidOut(self) if kind is ProxyRequest else Http1Downstream(self, kind)
        return http2_reader(self)

    def passed_on(self, connection: Downstream) -> None:
        """It goes on as another object."""
        self._listener.passed_on(connection)

    def opened(self, connection: Downstream) -> None:
        """It is there."""
        self._listener.opened(connection)

    def closed(self, connection: Downstream) -> None:
        """It has gone."""
        self._listener.closed(connection)

    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None) -> None:
        """A request was refused before anything was decided about it. ``asked``: as for ``Listener``."""
        self._listener.refused(refused, client, asked)

    def broken(self, why: str, bug: bool, client: asyncio.BaseTransport, flood: bool = False) -> None:
        """The connection over HTTP/2 had to be closed."""
        self._listener.broken(why, bug, client, flood)

    def forward(self, request: ProxyRequest, responder: Responder) -> UnderWay | None:
        """Begin; the response may be on its way before this returns. What this returns cancels it; None: it goes no further,
        and the client was told."""
        raise NotImplementedError


class ServedConnection(HttpConnection[Listens]):
    """One whose requests are judged before they go on (``inbound_serving.py``)."""

    __slots__ = ()

    def forward(self, request: ProxyRequest, responder: Responder) -> UnderWay | None:
        """Serve it; None: it was turned away."""
        overload = self._listener.overload
        if overload is None:
            return self._serve(request, responder)
        if overload.refuses_request():
            turn_away(responder)
            self._turned_away(request)
            return None
        return counted(overload, responder, functools.partial(self._serve, request))

    def _serve(self, request: ProxyRequest, responder: Responder) -> UnderWay:
        raise NotImplementedError

    def _turned_away(self, request: ProxyRequest) -> None:
        """Tell of it."""
        raise NotImplementedError


def deadline_of(request: Reads, server: Server) -> float | None:
    """When the caller gives up, by the mesh's clock; None: it does not say."""
    names = server.deadline_names()
    if names is DEADLINE_NAMES and request.lower.find(DEADLINE) < 0 and request.lower.find(TIMEOUT) < 0:
        return None  # nearly all
    for name in names:
        value = request.header(name)
        if value is not None:
            seconds = deadlines.read(name, value)
            if seconds is not None:
                return server.clock.monotonic() + seconds
    return None
