"""A CLIENT span for each call, and one below it for each attempt, whose context is what its upstream is told.

The span is a child of the current one; without a current one, of the span whose context the request carries already (an
application may have copied it from the request that it serves, as Istio asks of them). Without an SDK no span is made; then the
trace context of the request that this program is serving goes on with the calls it makes for it.

Where OpenTelemetry's own instrumentation of httpx or grpcio has begun a CLIENT span for the call, that one is enriched and no
second is made; the attempts are below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context as contexts

from meshlib.engine.inbound_context import here
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.request_ids import REQUEST_ID
from meshlib.telemetry.attempt_spans import CallSpan, facts_of
from meshlib.telemetry.spans import (
    REQUEST_ID_TAG,
    Attributes,
    Spans,
    describe_grpc,
    describe_http,
    name_of,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, TracerProvider

    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.message import Request
    from meshlib.workload import Workload

CONTEXT_HEADERS = (b"traceparent", b"b3", b"x-b3-traceid")
FORWARDED = ("traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
             "x-b3-flags", "x-request-id", "baggage")  # fmt: skip
INSTRUMENTATIONS = frozenset(("opentelemetry.instrumentation.httpx", "opentelemetry.instrumentation.grpc"))
"""Libraries whose CLIENT span around a call of ours is the span of that call."""
FORCE_TRACE = "x-envoy-force-trace"
SUPPRESSED = "suppress_instrumentation"
_SUPPRESSED_KEY = getattr(contexts, "_SUPPRESS_INSTRUMENTATION_KEY", SUPPRESSED)
_REQUEST_ID = REQUEST_ID.encode()


class Tracing(Spans):
    """Spans of one client's calls."""

    __slots__ = ()

    def __init__(
        self, provider: TracerProvider | None, workload: Workload | None = None, seed: int | None = None
    ) -> None:
        from opentelemetry.trace import SpanKind

        super().__init__(provider, SpanKind.CLIENT, workload, seed)

    def started(self, call: Call) -> CallSpan | None:
        """Begin the span; returns it, or None when nobody records."""
        settings = self._settings
        if self.nobody_records() or settings.disabled:
            self._pass_on(call)
            return None
        around = contexts.get_current()
        if SUPPRESSED in around or _SUPPRESSED_KEY in around:  # an exporter's own call, say
            return None
        request = call.request
        current = self._trace.get_current_span(around)
        own = current.get_span_context()
        if own.is_valid and _is_of_instrumentation(current, self._kind):
            made = CallSpan(self, current, around, self._described(request), name_of(request), borrowed=True)
            current.set_attributes({**made.described, **self.own_tags(request.header)})
            return made
        return self._began(call, around, own)

    def _began(self, call: Call, around: Context, own: SpanContext) -> CallSpan | None:
        request, serving = call.request, here()
        header = request.header
        propagation = self.propagation
        parent = propagation.read(header)
        if parent.span is None and not own.is_valid and serving is not None:
            parent = propagation.read(serving.header)  # its spans are not recorded, or not current here
        below = around
        sampled = True
        request_id, ours = self._request_id(request, serving)
        if parent.span is not None and not (own.is_valid and parent.span.trace_id == own.trace_id):
            sampled = self.samples(request_id, parent)
            below = self._trace.set_span_in_context(self.parent_of(parent.span, sampled), around)
        elif own.is_valid:
            sampled = own.trace_flags.sampled
        else:
            sampled = header(FORCE_TRACE) is not None or self.samples(request_id, parent)
        described = self._described(request)
        name = name_of(request)
        if ours:
            request_id = self.with_decision(request_id, sampled)
        if sampled or below is not around or own.is_valid:
            told = {**described, **self.own_tags(header), REQUEST_ID_TAG: request_id}
            span = self._tracer.start_span(name, below, self._kind, told)
        else:
            span = self.not_sampled()
        recording = span.is_recording()
        if ours:
            request_id = self.with_decision(request_id, recording)  # the SDK's sampler has the last word
            request.headers = [*request.headers, (_REQUEST_ID, request_id.encode("latin-1", "replace"))]
        made = CallSpan(self, span, self._trace.set_span_in_context(span, around), described, name)
        if self._settings.propagates:
            rule = call.record.rule_object
            if not recording or (rule is not None and rule.mirrors):  # attempts tell their own
                made.tell(request, span)
            if header("baggage") is None:
                found = propagation.baggage(around)
                if found:
                    request.headers = [*request.headers, *found]
        return made if recording else None

    def _request_id(self, request: Request, serving: InboundRequest | None) -> tuple[str, bool]:
        """The id of the request, and whether it is ours to send: the caller's own stands there already."""
        found = request.header(REQUEST_ID)
        if found is not None:
            return found, False
        found = None if serving is None else serving.header(REQUEST_ID)
        return found or self.new_id(), True

    def _described(self, request: Request) -> Attributes:
        found: Attributes = {}
        if request.protocol == "grpc":
            describe_grpc(request, found)
            address, port = self.place(request.scheme, request.dialled)
        else:
            describe_http(request, found)
            dialled = request.dialled
            query = "?REDACTED" if request.query else ""
            found["url.full"] = f"{request.scheme}://{dialled}{self.path_shown(request.path)}{query}"
            address, port = self.place(request.scheme, dialled)
        found["server.address"] = address
        found["server.port"] = port
        return found

    def _pass_on(self, call: Call) -> None:
        """Nothing is recorded. Give the call the trace context that is around it, unless it has its own."""
        serving = here()
        if self._settings.disabled and self._settings.propagates and self._proxy is None:
            current = self._trace.get_current_span()
            if current.get_span_context().is_valid and not _has_context(call.request.headers):
                write = self.propagation.write
                pairs = write(current.get_span_context(), contexts.get_current)
                call.request.headers = [*call.request.headers, *pairs, *self.propagation.baggage()]
        if serving is not None and self._settings.propagates:
            _forward(serving, call)
        if self.makes_ids and call.request.header(REQUEST_ID) is None:
            made, mine = self._request_id(call.request, serving)
            if mine and not any(name == _REQUEST_ID for name, _ in call.request.headers):
                from meshlib.telemetry.propagation import NOBODY

                made = self.with_decision(made, not self._settings.disabled and self.samples(made, NOBODY))
                call.request.headers = [*call.request.headers, (_REQUEST_ID, made.encode("latin-1", "replace"))]

    def finished(self, call: Call, made: CallSpan, end: int | None = None) -> None:
        """The call is over: result, resource and attempts onto the span. ``end``: when that was, in nanoseconds since the
        epoch; None: now."""
        record = call.record
        span = made.span
        made.over(record.grpc_status, end)
        if not span.is_recording():  # somebody else's, who has ended it
            return
        grpc = record.grpc_status
        attempts = record.attempts
        found = facts_of(record)
        if grpc is None:
            found["http.response.status_code"] = record.status
            failed = record.status == 0 or record.status >= 400
        else:
            found["rpc.grpc.status_code"] = grpc
            found["rpc.response.status_code"] = GRPC_NAMES[grpc]
            failed = grpc != 0
        if len(attempts) > 1:
            found["http.request.resend_count"] = len(attempts) - 1
        if made.version:
            found["network.protocol.version"] = made.version
        if failed:
            found["error.type"] = _error_of(record)
        if self._tags.formatted:
            from meshlib.telemetry.access_log.made import MadeEntry

            clock = call.clock
            found.update(self._tags.ended(MadeEntry(call, clock.monotonic(), clock.time(), made, False)))
        span.set_attributes(found)
        if "FI" in record.flags or (record.injected_delay and not made.delayed):
            span.add_event(
                "meshlib.fault",
                {"meshlib.fault.aborts": "FI" in record.flags, "meshlib.fault.delay": record.injected_delay},
            )
        if made.borrowed:
            return
        if failed:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, record.flags or None))
        span.end(end)

    def late(self, call: Call, made: CallSpan, at: float) -> None:
        """The same of a call that was over at ``at``, by the mesh's clock."""
        start = getattr(made.span, "start_time", None)
        end = None if start is None else start + max(0, int((at - call.record.started) * 1e9))
        self.finished(call, made, end)


def _error_of(record: Exchange) -> str:
    """``error.type`` of a call that failed: what failed it, in a word of few."""
    attempts = record.attempts
    if attempts and attempts[-1].failure and not record.grpc_status:
        return attempts[-1].failure
    if record.grpc_status:
        return GRPC_NAMES[record.grpc_status]
    if record.status:
        return str(record.status)
    return record.flags or "cancelled"


def _is_of_instrumentation(span: Span, kind: object) -> bool:
    scope = getattr(span, "instrumentation_scope", None)
    return (
        scope is not None
        and scope.name in INSTRUMENTATIONS
        and getattr(span, "kind", None) is kind
        and span.is_recording()
    )


def _has_context(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in CONTEXT_HEADERS for name, _ in headers)


def _forward(serving: InboundRequest, call: Call) -> None:
    """Give the call the trace context of the request it is made for, unless it has its own."""
    found = [(name.encode(), value.encode("latin-1")) for name in FORWARDED if (value := serving.header(name))]
    if found and not _has_context(call.request.headers):
        there = {name.lower() for name, _ in call.request.headers}
        call.request.headers = [*call.request.headers, *(pair for pair in found if pair[0] not in there)]
