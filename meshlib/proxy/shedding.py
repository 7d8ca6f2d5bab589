"""Turning requests away while the process has more than it can do, and counting those that are let through."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

from meshlib.proxy.forward import Forwarder
from meshlib.proxy.overload import BODY, HEADERS, STATUS, Overload
from meshlib.proxy.refusals import TURNED_AWAY, asked_of, told_of_outbound

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder, UnderWay
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.upstream.switched import AsyncSwitched


class Shedding(Forwarder):
    """Forwards what ``overload`` lets through."""

    def __init__(self, core: MeshCore, overload: Overload) -> None:
        super().__init__(core)
        self._overload = overload

    def forward(self, request: ProxyRequest, responder: Responder) -> UnderWay | None:
        """As of ``Forwarder``; None too when it was turned away: the client was told."""
        if self._overload.refuses_request():
            turn_away(responder)
            told_of_outbound(self.core, TURNED_AWAY, asked_of(request))
            return None
        if not self._overload.counts_requests:
            return super().forward(request, responder)
        return counted(self._overload, responder, functools.partial(super().forward, request))


class Told(Protocol):
    """Who is told: a ``Responder``, or who has sent CONNECT."""

    def respond(
        self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None, /
    ) -> None: ...


def turn_away(responder: Told) -> None:
    """Envoy's response."""
    responder.respond(STATUS, b"Service Unavailable", HEADERS, BODY, None)


def counted(overload: Overload, responder: Responder, begin: Callable[[Responder], UnderWay | None]) -> UnderWay | None:
    """Begin a request that was let through; it is among those under way until its response is over (or it speaks another
    protocol: a WebSocket), or its client has gone."""
    if not overload.counts_requests:
        return begin(responder)
    counts = _Counts(overload, responder)
    forwarding = begin(counts)
    if forwarding is None:
        counts.over()
        return None
    return _CountedUnderWay(forwarding, counts)


class _Counts:
    """A ``Responder`` that hears of the end."""

    __slots__ = ("_overload", "_responder")

    def __init__(self, overload: Overload, responder: Responder) -> None:
        self._overload: Overload | None = overload
        self._responder = responder
        overload.under_way += 1

    def over(self) -> None:
        """The first time counts."""
        overload, self._overload = self._overload, None
        if overload is not None:
            overload.under_way -= 1

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """As ``Responder``'s, as are the others."""
        self.over()
        self._responder.respond(status, reason, headers, whole, trailers)

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        self._responder.begin(status, reason, headers)

    def write(self, data: bytes) -> None:
        self._responder.write(data)

    def end(self, trailers: RawHeaders | None) -> None:
        self.over()
        self._responder.end(trailers)

    def cut(self) -> None:
        self.over()
        self._responder.cut()

    def switch(self, status: int, reason: bytes, headers: Headers, upstream: AsyncSwitched) -> None:
        self.over()
        self._responder.switch(status, reason, headers, upstream)

    @property
    def writable(self) -> bool:
        return self._responder.writable

    async def drained(self) -> None:
        await self._responder.drained()


class _CountedUnderWay:
    """What cancels it."""

    __slots__ = ("_counts", "_forwarding")

    def __init__(self, forwarding: UnderWay, counts: _Counts) -> None:
        self._forwarding = forwarding
        self._counts = counts

    def cancel(self, refused: Refused | None = None) -> None:
        self._counts.over()
        self._forwarding.cancel(refused)

    def client_takes(self, writable: bool) -> None:
        self._forwarding.client_takes(writable)
