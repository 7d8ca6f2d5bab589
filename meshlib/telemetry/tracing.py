"""A CLIENT span for each call, with W3C context sent upstream unless the request carries its own.

Only opentelemetry-api is used. Without an SDK no span is made; then the trace context of the request that this program is
serving goes on with the calls it makes for it, which is what Istio asks of applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib.engine.inbound_context import current

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.inbound import InboundRequest

EAGER_LOOKS = 100
LOOK_EVERY = 50
"""An SDK installed after that many calls is noticed with the next call that is a multiple of this."""

CONTEXT_HEADERS = (b"traceparent", b"b3", b"x-b3-traceid")
FORWARDED = ("traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
             "x-b3-flags", "x-request-id")  # fmt: skip


class Tracing:
    """Spans of one client's calls."""

    __slots__ = ("_kind", "_looks", "_propagate", "_provider_now", "_proxy", "_set_span", "_tracer")

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext

        self._tracer = trace.get_tracer("meshlib", tracer_provider=provider)
        self._kind = trace.SpanKind.CLIENT
        self._propagate = tracecontext.TraceContextTextMapPropagator()
        self._set_span = trace.set_span_in_context
        # until the application installs an SDK, the global provider is a stand-in whose spans nobody sees: making them
        # anyway would cost a call as much as the whole policy
        self._proxy = trace.ProxyTracerProvider if provider is None else None
        self._provider_now = trace.get_tracer_provider
        self._looks = 0

    def started(self, call: Call) -> Any:
        """Begin the span; returns it, or None when nobody records."""
        proxy = self._proxy
        if proxy is not None:
            # asking costs two looks into os.environ, as much as a balancer: once an application is under way without an
            # SDK, one call of so many asks
            self._looks += 1
            if (self._looks > EAGER_LOOKS and self._looks % LOOK_EVERY) or type(self._provider_now()) is proxy:
                serving = current.get()
                if serving is not None:
                    _forward(serving, call)
                return None
            self._proxy = None
        view = call.request
        grpc = call.request.protocol == "grpc"
        span = self._tracer.start_span(view.path[1:] if grpc else view.method, kind=self._kind)
        headers = call.request.headers
        if span.get_span_context().is_valid and not _has_context(
            headers
        ):  # also one that is not sampled: that goes on too
            carrier: dict[str, str] = {}
            self._propagate.inject(carrier, context=self._set_span(span))
            headers.extend((k.encode(), v.encode()) for k, v in carrier.items())
        if not span.is_recording():
            return None
        span.set_attribute("server.address", view.authority)
        if grpc:
            service, _, method = view.path[1:].rpartition("/")
            span.set_attribute("rpc.system", "grpc")
            span.set_attribute("rpc.service", service)
            span.set_attribute("rpc.method", method)
        else:
            span.set_attribute("http.request.method", view.method)
            span.set_attribute("url.path", view.path)
        return span

    def finished(self, call: Call, span: Any) -> None:
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
            from opentelemetry.trace import Status, StatusCode

            span.set_status(Status(StatusCode.ERROR, record.flags))
        span.end()


def _has_context(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in CONTEXT_HEADERS for name, _ in headers)


def _forward(serving: InboundRequest, call: Call) -> None:
    """Give the call the trace context of the request it is made for, unless it has its own."""
    found = [(name.encode(), value.encode("latin-1")) for name in FORWARDED if (value := serving.header(name))]
    if found and not _has_context(call.request.headers):
        there = {name.lower() for name, _ in call.request.headers}
        call.request.headers.extend(pair for pair in found if pair[0] not in there)
