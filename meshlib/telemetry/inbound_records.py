"""Spans of served requests that a proxy writes itself (``own_spans.py``): no object of OpenTelemetry is made for them, and what
the requests of a connection have in common is written once.

They say what ``inbound_tracing.py`` says of a call whose span the SDK makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

from meshlib.compiler.snapshot import split_authority
from meshlib.telemetry import otlp_spans as otlp
from meshlib.telemetry.custom_tags import LONGEST
from meshlib.telemetry.otlp_spans import attribute
from meshlib.telemetry.own_spans import now
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

    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.telemetry.own_spans import OwnTracer

MOST = 1000
"""Connections, and authorities, of which it is remembered how they are written."""
_METHODS = {
    method: (method.encode(), otlp.named(method.encode()), attribute("http.request.method", method))
    for method in METHODS
}
STATUSES: dict[int, bytes] = {}
"""Attributes of responses' statuses that have been made (``status_of``)."""
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
    """A span of a call that is served, until it is written. ``state`` is the trace's; ``agent`` and ``tags`` are what the
    request has said, ``forwarded`` whether it has said who it is from; ``parent_id`` 0: it is the first of its trace. Texts are
    in UTF-8."""

    __slots__ = (
        *("agent", "forwarded", "parent_id", "request_id", "span_id", "start", "state", "tags", "trace_id", "tracer"),
    )

    def __init__(
        self,
        tracer: OwnTracer,
        trace_id: int,
        parent_id: int,
        state: str,
        request_id: bytes,
        agent: bytes,
        forwarded: bool,
        tags: Attributes,
    ) -> None:
        self.tracer = tracer
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = tracer.random.getrandbits(64) or 1
        self.state = state
        self.request_id = request_id
        self.agent = agent
        self.forwarded = forwarded
        self.tags = tags
        self.start = now()


ServedSpan: TypeAlias = SdkSpan | Recorded
"""The span of a call that is served, whoever makes it."""


class InboundRecords:
    """Writes them. ``describe`` says all of a request, ``longest`` how much of its path is shown, ``place`` the host
    and the port of its authority; ``static`` are the attributes that all spans have."""

    __slots__ = ("_connections", "_describe", "_longest", "_place", "_places", "_static")

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
        self._places: dict[tuple[str, str], bytes] = {}

    def write(self, call: InboundCall, span: Recorded, result: bytes, end: int) -> None:
        """The call is over since ``end``, in nanoseconds since the epoch. ``result``: what came of it, as attributes, events
        and status."""
        request = call.request
        method = _METHODS.get(request.method)
        if method is None or request.protocol == "grpc":
            name = name_of(request)[:LONGEST].encode("utf-8", "replace")
            told = [otlp.attributes(self._described(request, span))]
        else:
            name, told = method[0], self._usual(request, span, method[2])
        told.append(result)
        parent = span.parent_id
        if method is not None and name is method[0] and parent and not span.state and not call.route:  # nearly always
            span.tracer.take(otlp.served(span.trace_id, span.span_id, parent, method[1], span.start, end, told))
            return
        if call.route:
            name = b"%b %b" % (name, call.route.encode("utf-8", "replace"))
        span.tracer.take(
            otlp.span(
                span.trace_id.to_bytes(16, "big"),
                span.span_id.to_bytes(8, "big"),
                parent.to_bytes(8, "big") if parent else b"",
                name,
                otlp.SERVER,
                span.start,
                end,
                b"".join(told),
                otlp.REMOTE if parent else otlp.LOCAL,
                span.state.encode("latin-1", "replace"),
            )
        )

    def _described(self, request: InboundRequest, span: Recorded) -> Attributes:
        return {**self._describe(request), **span.tags, REQUEST_ID_TAG: span.request_id.decode("utf-8", "replace")}

    def _usual(self, request: InboundRequest, span: Recorded, method: bytes) -> list[bytes]:
        """The same of HTTP, in pieces."""
        try:
            alone, forwarded = self._connections[request.peer, request.scheme, request.version, request.principal]
        except KeyError:
            alone, forwarded = self._of_connection(request)
        text, request_id, agent = request.path, span.request_id, span.agent
        if len(text) > self._longest:
            text = text[: self._longest]
        path = text.encode() if text.isascii() else text.encode("utf-8", "replace")
        told = [alone, method, _PATH[len(path)], path]
        if span.forwarded if request.for_application is None else request.forwarded:
            told[0] = forwarded
            told.append(attribute("client.address", request.remote_ip or address_of(request)[0]))
        if request.authority:
            try:
                told.append(self._places[request.scheme, request.authority])
            except KeyError:
                told.append(self._of_place(request.scheme, request.authority))
        told += (_REQUEST_ID[len(request_id)], request_id)
        if agent:
            told += (_AGENT[len(agent)], agent)
        if span.tags:
            told.append(otlp.attributes(span.tags))
        return told

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

    def _of_place(self, scheme: str, authority: str) -> bytes:
        host, port = self._place(scheme, authority)
        made = otlp.attributes({"server.address": host, "server.port": port})
        if len(authority) > LONGEST_PLACE:
            return made
        if len(self._places) >= MOST:
            self._places.clear()
        self._places[scheme, authority] = made
        return made


def address_of(request: InboundRequest) -> tuple[str, int]:
    """Of the peer: its IP and port, or what else it has."""
    return split_authority(request.peer) if request.source_ip else (request.peer, 0)


def status_of(status: int) -> bytes:
    """The attribute of a response's status."""
    found = STATUSES.get(status)
    if found is None:
        found = attribute("http.response.status_code", status)
        if 100 <= status < 600:  # there are no more
            STATUSES[status] = found
    return found
