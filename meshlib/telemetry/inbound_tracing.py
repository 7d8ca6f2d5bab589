"""A SERVER span for each call served, child of the W3C context that the caller sent, and current while the handler runs.

Without an SDK nothing is made. When OpenTelemetry's own instrumentation of the server has begun a SERVER span already, that
one is enriched and no second is made.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from meshlib.telemetry.spans import Spans, describe, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

    from meshlib.engine.inbound import InboundCall

SERVER_FAULTS = frozenset((2, 4, 12, 13, 14, 15))
"""gRPC statuses that are errors of a server by OpenTelemetry's conventions: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
INTERNAL, UNAVAILABLE, DATA_LOSS."""


class Current:
    """Makes a span's context current around each piece of a handler."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def enter(self) -> Callable[[], None]:
        """From here, to where what this returns is called."""
        from opentelemetry.context import attach, detach

        return functools.partial(detach, attach(self._context))


class ServedSpan:
    """The span of a call that is served. A ``borrowed`` one is somebody else's: enriched, never ended."""

    __slots__ = ("borrowed", "span")

    def __init__(self, span: Span, borrowed: bool) -> None:
        self.span = span
        self.borrowed = borrowed


class InboundTracing(Spans):
    """Spans of the calls that one server serves."""

    __slots__ = ("_no_context", "_read")

    def __init__(self, provider: TracerProvider | None) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation import tracecontext

        super().__init__(provider, SpanKind.SERVER)
        self._no_context = Context()
        self._read = tracecontext.TraceContextTextMapPropagator().extract

    def started(self, call: InboundCall) -> ServedSpan | None:
        """Begin the span (or find the one begun); returns it, or None when nobody records. ``call.around`` makes it
        current for the handler: also one that is not sampled, whose calls then are not sampled either."""
        if self.nobody_records():
            return None
        request = call.request
        found = self._trace.get_current_span()
        if found.is_recording() and getattr(found, "kind", None) is self._kind:
            _describe(found, call)
            return ServedSpan(found, True)
        carrier = {}
        for name in ("traceparent", "tracestate"):
            value = request.header(name)
            if value:
                carrier[name] = value
        parent = self._read(carrier, context=self._no_context)
        span = self._tracer.start_span(name_of(request), context=parent, kind=self._kind)
        call.around = Current(self._trace.set_span_in_context(span, parent))
        if not span.is_recording():
            return None
        _describe(span, call)
        return ServedSpan(span, False)

    def finished(self, call: InboundCall, served: ServedSpan) -> None:
        """The call is over: its result onto the span."""
        span = served.span
        if call.flags:
            span.set_attribute("meshlib.flags", call.flags)
        if call.refusal is not None and call.refusal.detail:
            span.set_attribute("meshlib.refusal", call.refusal.detail)
        code = call.grpc_status
        if call.request.protocol == "grpc":
            if "DR" in call.flags:
                code = 1  # what the caller's side knows it by; nothing was sent
            if code is not None:
                span.set_attribute("rpc.grpc.status_code", code)
            failed = code in SERVER_FAULTS
        else:
            span.set_attribute("http.response.status_code", call.status)
            if call.route:
                span.set_attribute("http.route", call.route)
                if not served.borrowed:
                    span.update_name(f"{call.request.method} {call.route}")
            failed = call.status >= 500
        if failed:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.flags))
        if not served.borrowed:
            span.end()


def _describe(span: Span, call: InboundCall) -> None:
    request = call.request
    describe(span, request)
    span.set_attribute("network.peer.address", request.peer)
    if request.principal:
        span.set_attribute("meshlib.source.principal", request.principal)
