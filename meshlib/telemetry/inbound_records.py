"""Spans of served requests that a proxy writes itself (``own_spans.py``): no object of OpenTelemetry is made for them, and what
the requests of a connection have in common is written once.

They say what ``inbound_tracing.py`` says of a call whose span the SDK makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

from meshlib.compiler.snapshot import split_authority
from meshlib.telemetry import otlp_spans as otlp
from meshlib.telemetry.custom_tags import LONGEST
from meshlib.telemetry.otlp_spans import attribute, of_length, served, times
from meshlib.telemetry.spans import (
    LONGEST_PLACE,
    METHODS,
    REQUEST_ID_TAG,
    Attributes,
    InTrace,
    name_of,
    version_shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from meshlib.engine.inbound_request import InboundRequest

MOST = 1000
"""Connections, and kinds of requests, of which it is remembered how they are written."""
_PATH, _REQUEST_ID, _AGENT = map(otlp.Named, ("url.path", REQUEST_ID_TAG, "user_agent.original"))


class SdkSpan(InTrace):
    """The span of a call that is served, as OpenTelemetry has it. A ``borrowed`` one is somebody else's: enriched, never
    ended."""

    __slots__ = ("borrowed",)

    def __init__(self, span: Span, borrowed: bool) -> None:
        self.span = span
        self.borrowed = borrowed


@final
class Recorded:
    """A span of a call that is served, until it is written, which ``take`` takes. ``ids``: as ``otlp_spans.ids`` writes them,
    ``trace`` and ``own`` are its trace's and its own in hexadecimal; ``agent`` and ``tags`` are what the request has said,
    ``forwarded`` is not 0 where it has said who it is from. Texts are in UTF-8. ``start``: in nanoseconds since the epoch.

    Whoever makes one sets all of that: to hand it to a function that does takes half as long again."""

    __slots__ = ("agent", "forwarded", "ids", "own", "request_id", "start", "tags", "take", "trace")

    take: Callable[[bytes], None]
    ids: bytes
    trace: bytes
    own: bytes
    request_id: bytes
    agent: bytes
    forwarded: int
    tags: Attributes
    start: int

    @property
    def trace_id(self) -> int:
        """As access logs name it."""
        return int(self.trace, 16)

    @property
    def span_id(self) -> int:
        """Likewise."""
        return int(self.own, 16)


ServedSpan: TypeAlias = SdkSpan | Recorded
"""The span of a call that is served, whoever makes it."""


class InboundRecords:
    """Writes them. ``describe`` says all of a request, ``longest`` how much of its path is shown, ``place`` the host
    and the port of its authority; ``static`` are the attributes that all spans have."""

    __slots__ = ("_connections", "_describe", "_kinds", "_longest", "_place", "_static")

    def __init__(
        self,
        describe: Callable[[InboundRequest], Attributes],
        longest: int,
        place: Callable[[str, str], tuple[str, int]],
        static: Attributes,
    ) -> None:
        self._describe = describe
        self._longest = longest
        self._place = place
        self._static = static
        self._connections: dict[tuple[str, str, str | None, str], tuple[bytes, bytes]] = {}
        self._kinds: dict[tuple[str, str, str, str, int, str], bytes] = {}

    def write(
        self, request: InboundRequest, span: Recorded, status: int, end: int, result: bytes = b"", route: str = ""
    ) -> None:
        """The call is over since ``end``, in nanoseconds since the epoch, with this ``status`` and no more to be told; or it is
        0, and ``result`` is what came of it, as attributes, events and status. ``route``: the template of its path."""
        # what is alike in many is written once; where it stands among the rest is all the same to who reads it
        try:
            kind = self._kinds[request.method, request.protocol, request.scheme, request.authority, status, route]
        except KeyError:
            if request.protocol == "grpc" or request.method not in METHODS:
                self._write_other(request, span, (status_of(status) if status else b"") + result, end, route)
                return
            kind = self._of_kind(request, status, route)
        try:
            alone, forwarded = self._connections[request.peer, request.scheme, request.version, request.principal]
        except KeyError:
            alone, forwarded = self._of_connection(request)
        text, given, agent = request.path, span.request_id, span.agent
        if len(text) > self._longest:
            text = text[: self._longest]
        path = text.encode() if text.isascii() else text.encode("utf-8", "replace")
        if span.forwarded or span.tags or request.for_application is not None:
            if span.forwarded if request.for_application is None else request.forwarded:
                alone = forwarded + attribute("client.address", request.remote_ip or address_of(request)[0])
            result = otlp.attributes(span.tags) + result
        body = b"".join(
            (
                span.ids,
                times(0x39, span.start, 0x41, end),
                kind,
                alone,
                _PATH[len(path)],
                path,
                _REQUEST_ID[len(given)],
                given,
                _AGENT[len(agent)] if agent else agent,
                agent,
                result,
            )
        )
        span.take(of_length[len(body)] + body)  # as ``served``

    def _write_other(self, request: InboundRequest, span: Recorded, result: bytes, end: int, route: str) -> None:
        """The same of gRPC, and of a method that nobody knows."""
        name = name_of(request)[:LONGEST]
        found = {
            **self._describe(request),
            **span.tags,
            REQUEST_ID_TAG: span.request_id.decode("utf-8", "replace"),
        }
        named = otlp.named((f"{name} {route}" if route else name).encode("utf-8", "replace"))
        span.take(served((span.ids, times(0x39, span.start, 0x41, end), named, otlp.attributes(found), result)))

    def _of_kind(self, request: InboundRequest, status: int, route: str) -> bytes:
        """What spans of requests of HTTP say by their method, authority, status and route."""
        method, authority = request.method, request.authority
        made = otlp.named((f"{method} {route}" if route else method).encode("utf-8", "replace"))
        made += attribute("http.request.method", method)
        if authority:
            host, port = self._place(request.scheme, authority)
            made += otlp.attributes({"server.address": host, "server.port": port})
        if status:
            made += status_of(status)
        if len(authority) > LONGEST_PLACE:
            return made
        if len(self._kinds) >= MOST:
            self._kinds.clear()
        self._kinds[method, request.protocol, request.scheme, authority, status, route] = made
        return made

    def _of_connection(self, request: InboundRequest) -> tuple[bytes, bytes]:
        """What all requests like this one say; the first is of those that nobody has forwarded."""
        found: Attributes = {**self._static, "url.scheme": request.scheme}
        if request.version:
            found["network.protocol.version"] = version_shown(request.version)
        if request.principal:
            found["meshlib.source.principal"] = request.principal
        address, port = address_of(request)
        if address:
            found["network.peer.address"] = address
        if port:
            found["network.peer.port"] = port
        forwarded = otlp.attributes(found)
        client = request.source_ip or address
        made = forwarded + attribute("client.address", client) if client else forwarded, forwarded
        if len(self._connections) >= MOST:
            self._connections.clear()
        self._connections[request.peer, request.scheme, request.version, request.principal] = made
        return made


def address_of(request: InboundRequest) -> tuple[str, int]:
    """Of the peer: its IP and port, or what else it has."""
    return split_authority(request.peer) if request.source_ip else (request.peer, 0)


def status_of(status: int) -> bytes:
    """The attribute of a response's status."""
    return attribute("http.response.status_code", status)
