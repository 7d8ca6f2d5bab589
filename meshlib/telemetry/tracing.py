"""A CLIENT span for each call, with W3C context sent upstream unless the request carries its own.

Without an SDK no span is made; then the trace context of the request that this program is serving goes on with the calls it
makes for it, which is what Istio asks of applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.inbound_context import here
from meshlib.telemetry.spans import Spans, describe, name_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from meshlib.engine.call import Call
    from meshlib.engine.inbound_request import InboundRequest

CONTEXT_HEADERS = (b"traceparent", b"b3", b"x-b3-traceid")
FORWARDED = ("traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
             "x-b3-flags", "x-request-id")  # fmt: skip


class Tracing(Spans):
    """Spans of one client's calls."""

    __slots__ = ("_propagate",)

    def __init__(self, provider: TracerProvider | None) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation import tracecontext

        super().__init__(provider, SpanKind.CLIENT)
        self._propagate = tracecontext.TraceContextTextMapPropagator()

    def started(self, call: Call) -> Span | None:
        """Begin the span; returns it, or None when nobody records."""
        if self.nobody_records():
            serving = here()
            if serving is not None:
                _forward(serving, call)
            return None
        request = call.request
        span = self._tracer.start_span(name_of(request), kind=self._kind)
        headers = request.headers
        if span.get_span_context().is_valid and not _has_context(
            headers
        ):  # also one that is not sampled: that goes on too
            carrier: dict[str, str] = {}
            self._propagate.inject(carrier, context=self._trace.set_span_in_context(span))
            # a new list: calls whose requests look the same may have one in common
            request.headers = [*headers, *((k.encode(), v.encode()) for k, v in carrier.items())]
        if not span.is_recording():
            return None
        span.set_attribute("server.address", request.authority)
        describe(span, request)
        return span

    def finished(self, call: Call, span: Span) -> None:
        """The call is over: result, resource and attempts onto the span."""
        record = call.record
        grpc = record.grpc_status
        if grpc is None:
            span.set_attribute("http.response.status_code", record.status)
        else:
            span.set_attribute("rpc.grpc.status_code", grpc)
        span.set_attribute("meshlib.resource", record.resource)
        span.set_attribute("meshlib.host", record.host)
        span.set_attribute("meshlib.subset", record.subset)
        span.set_attribute("meshlib.endpoint", record.endpoint)
        span.set_attribute("meshlib.flags", record.flags)
        if len(record.attempts) > 1:
            span.set_attribute("http.request.resend_count", len(record.attempts) - 1)
        if grpc if grpc is not None else record.status == 0 or record.status >= 500:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, record.flags))
        span.end()


def _has_context(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in CONTEXT_HEADERS for name, _ in headers)


def _forward(serving: InboundRequest, call: Call) -> None:
    """Give the call the trace context of the request it is made for, unless it has its own."""
    found = [(name.encode(), value.encode("latin-1")) for name in FORWARDED if (value := serving.header(name))]
    if found and not _has_context(call.request.headers):
        there = {name.lower() for name, _ in call.request.headers}
        call.request.headers = [*call.request.headers, *(pair for pair in found if pair[0] not in there)]
