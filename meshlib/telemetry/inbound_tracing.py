"""A SERVER span for each call served, child of the W3C context that the caller sent, and current while the handler runs.

Only opentelemetry-api is used: without an SDK nothing is made. When OpenTelemetry's own instrumentation of the server has
begun a SERVER span already, that one is enriched and no second is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall

SERVER_FAULTS = frozenset((2, 4, 12, 13, 14, 15))
"""gRPC statuses that are errors of a server by OpenTelemetry's conventions: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
INTERNAL, UNAVAILABLE, DATA_LOSS."""


class Current:
    """Makes a span's context current around each piece of a handler."""

    __slots__ = ("_attach", "_context", "_detach")

    def __init__(self, context: Any, attach: Any, detach: Any) -> None:
        self._context = context
        self._attach = attach
        self._detach = detach

    def enter(self) -> Any:
        """From here."""
        return self._attach(self._context)

    def leave(self, token: Any) -> None:
        """To here."""
        self._detach(token)


class Borrowed:
    """Somebody else's span: enriched, never ended."""

    __slots__ = ("span",)

    def __init__(self, span: Any) -> None:
        self.span = span


class InboundTracing:
    """Spans of the calls that one server serves."""

    __slots__ = ("_context", "_kind", "_proxy", "_read", "_trace", "_tracer")

    def __init__(self, provider: Any) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation import tracecontext

        self._trace = trace
        self._context = context
        self._tracer = trace.get_tracer("meshlib", tracer_provider=provider)
        self._kind = trace.SpanKind.SERVER
        self._read = tracecontext.TraceContextTextMapPropagator().extract
        # as in Tracing: until an SDK is installed nobody sees a span
        self._proxy = trace.ProxyTracerProvider if provider is None else None

    def started(self, call: InboundCall) -> Any:
        """Begin the span (or find the one begun); returns it, or None when nobody records. ``call.around`` makes it
        current for the handler: also one that is not sampled, whose calls then are not sampled either."""
        proxy = self._proxy
        if proxy is not None:
            if type(self._trace.get_tracer_provider()) is proxy:
                return None
            self._proxy = None
        request = call.request
        found = self._trace.get_current_span()
        if found.is_recording() and getattr(found, "kind", None) is self._kind:
            _describe(found, call)
            return Borrowed(found)
        carrier = {}
        for name in ("traceparent", "tracestate"):
            value = request.header(name)
            if value:
                carrier[name] = value
        parent = self._read(carrier, context=self._context.Context())
        name = request.path.removeprefix("/") if request.protocol == "grpc" else request.method
        span = self._tracer.start_span(name, context=parent, kind=self._kind)
        around = self._trace.set_span_in_context(span, parent)
        call.around = Current(around, self._context.attach, self._context.detach)
        if not span.is_recording():
            return None
        _describe(span, call)
        return span

    def finished(self, call: InboundCall, span: Any) -> None:
        """The call is over: its result onto the span."""
        borrowed = type(span) is Borrowed
        if borrowed:
            span = span.span
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
            failed = call.status >= 500
        if failed:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.flags))
        if not borrowed:
            span.end()


def _describe(span: Any, call: InboundCall) -> None:
    request = call.request
    if request.protocol == "grpc":
        service, _, method = request.path.removeprefix("/").rpartition("/")
        span.set_attribute("rpc.system", "grpc")
        span.set_attribute("rpc.service", service)
        span.set_attribute("rpc.method", method)
    else:
        span.set_attribute("http.request.method", request.method)
        span.set_attribute("url.path", request.path)
    span.set_attribute("network.peer.address", request.peer)
    if request.principal:
        span.set_attribute("meshlib.source.principal", request.principal)
