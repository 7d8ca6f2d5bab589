"""A SERVER span for each call served, child of the context that the caller sent (W3C, B3), and current while the handler runs.

Without an SDK nothing is made. When OpenTelemetry's own instrumentation of the server has begun a SERVER span already, that
one is enriched and no second is made.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from meshlib.compiler.snapshot import split_authority
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.request_ids import REQUEST_ID
from meshlib.telemetry.custom_tags import LONGEST
from meshlib.telemetry.spans import (
    REQUEST_ID_TAG,
    Attributes,
    Spans,
    describe_grpc,
    describe_http,
    name_of,
    version_shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

    from meshlib.engine.inbound import InboundCall
    from meshlib.workload import Workload

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

    @property
    def trace_id(self) -> int:
        """Of its trace, which access logs and exemplars name."""
        return self.span.get_span_context().trace_id

    @property
    def span_id(self) -> int:
        """Its own."""
        return self.span.get_span_context().span_id


class InboundTracing(Spans):
    """Spans of the calls that one server serves."""

    __slots__ = ()

    def __init__(
        self, provider: TracerProvider | None, workload: Workload | None = None, seed: int | None = None
    ) -> None:
        from opentelemetry.trace import SpanKind

        super().__init__(provider, SpanKind.SERVER, workload, seed)

    def started(self, call: InboundCall) -> ServedSpan | None:
        """Begin the span (or find the one begun); returns it, or None when nobody records. ``call.around`` makes it
        current for the handler: also one that is not sampled, whose calls then are not sampled either."""
        if self.nobody_records() or self._settings.disabled:
            if self.makes_ids and call.request.header(REQUEST_ID) is None:
                self._identify(call, not self._settings.disabled)
            return None
        from meshlib.telemetry.propagation import with_baggage

        request = call.request
        header = request.header
        found = self._trace.get_current_span()
        if found.is_recording() and getattr(found, "kind", None) is self._kind:
            request_id = header(REQUEST_ID)
            if request_id is None:
                request_id = self._identify(call, True)
            found.set_attributes({**self._described(call), REQUEST_ID_TAG: request_id})
            return ServedSpan(found, True)
        parent = self.propagation.read(header)
        below = with_baggage(header)
        request_id = header(REQUEST_ID)
        mine = request_id is None
        if request_id is None:
            request_id = self.new_id()
        sampled = self.samples(request_id, parent)
        if parent.span is not None:
            below = self._trace.set_span_in_context(self.parent_of(parent.span, sampled), below)
        if mine:
            request_id = self.with_decision(request_id, sampled)
        if sampled or parent.span is not None:
            told = {**self._described(call), REQUEST_ID_TAG: request_id}
            span = self._tracer.start_span(name_of(request), below, self._kind, told)
        else:
            span = self.not_sampled()
        recording = span.is_recording()
        if mine:
            _identify(call, self.with_decision(request_id, recording))
        call.around = Current(self._trace.set_span_in_context(span, below))
        return ServedSpan(span, False) if recording else None

    def _identify(self, call: InboundCall, samples: bool) -> str:
        """Give it an id."""
        from meshlib.telemetry.propagation import NOBODY

        made = self.new_id()
        made = self.with_decision(made, samples and self.samples(made, NOBODY))
        _identify(call, made)
        return made

    def _described(self, call: InboundCall) -> Attributes:
        request = call.request
        found: Attributes = {}
        if request.protocol == "grpc":
            describe_grpc(request, found)
        else:
            describe_http(request, found)
            found["url.scheme"] = request.scheme
            found["url.path"] = self.path_shown(request.path)
        if request.version:
            found["network.protocol.version"] = version_shown(request.version)
        if request.authority:
            found["server.address"], found["server.port"] = self.place(request.scheme, request.authority)
        if request.peer:
            address, port = split_authority(request.peer) if request.source_ip else (request.peer, 0)
            found["network.peer.address"] = address
            if port:
                found["network.peer.port"] = port
            found["client.address"] = request.remote_ip or address
        agent = request.header("user-agent")
        if agent:
            found["user_agent.original"] = agent[:LONGEST]
        if request.principal:
            found["meshlib.source.principal"] = request.principal
        return {**found, **self.own_tags(request.header)}

    def finished(self, call: InboundCall, served: ServedSpan, end: int | None = None) -> None:
        """The call is over: its result onto the span. ``end``: when that was, in nanoseconds since the epoch; None: now."""
        span = served.span
        if not span.is_recording():  # somebody else's, who has ended it
            return
        found: Attributes = {}
        if call.flags:
            found["meshlib.flags"] = call.flags
        if call.refusal is not None and call.refusal.detail:
            found["meshlib.refusal"] = call.refusal.detail
        code = call.grpc_status
        error = ""
        if call.request.protocol == "grpc":
            if "DR" in call.flags:
                code = 1  # what the caller's side knows it by; nothing was sent
            if code is not None:
                found["rpc.grpc.status_code"] = code
                found["rpc.response.status_code"] = GRPC_NAMES[code]
                error = GRPC_NAMES[code] if code in SERVER_FAULTS else ""
        else:
            found["http.response.status_code"] = call.status
            if call.route:
                found["http.route"] = call.route
                if not served.borrowed:
                    span.update_name(f"{name_of(call.request)} {call.route}")
            error = str(call.status) if call.status >= 500 else ""
        if error:
            found["error.type"] = error
        if self._tags.formatted:
            from meshlib.telemetry.access_log.served import ServedEntry

            clock = call.clock
            found.update(self._tags.ended(ServedEntry(call, clock.monotonic(), clock.time(), served, False)))
        span.set_attributes(found)
        if call.injected_delay or "FI" in call.flags:
            span.add_event(
                "meshlib.fault",
                {"meshlib.fault.delay": call.injected_delay, "meshlib.fault.aborts": "FI" in call.flags},
                getattr(span, "start_time", None),
            )
        if error:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.flags or None))
        if not served.borrowed:
            span.end(end)

    def late(self, call: InboundCall, served: ServedSpan, at: float) -> None:
        """The same of a call that was over at ``at``, by the mesh's clock."""
        start = getattr(served.span, "start_time", None)
        end = None if start is None else start + max(0, int((at - call.started) * 1e9))
        self.finished(call, served, end)


def _identify(call: InboundCall, request_id: str) -> None:
    call.made_id = request_id
    call.request.put(REQUEST_ID, request_id.encode())
