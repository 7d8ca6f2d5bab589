"""A SERVER span for each call served, child of the context that the caller sent (W3C, B3), and current while the handler runs.

Without an SDK nothing is made. When OpenTelemetry's own instrumentation of the server has begun a SERVER span already, that
one is enriched and no second is made.
"""

from __future__ import annotations

import functools
from binascii import unhexlify
from typing import TYPE_CHECKING

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.request_ids import REQUEST_ID
from meshlib.policy.trace_context import read_in_hex, usual_traceparent
from meshlib.telemetry import otlp_spans as otlp
from meshlib.telemetry.custom_tags import LONGEST
from meshlib.telemetry.inbound_records import InboundRecords, Recorded, SdkSpan, ServedSpan, address_of
from meshlib.telemetry.own_spans import NO_ID, now, wall
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
    from opentelemetry.trace import TracerProvider

    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.telemetry_settings import TracingSettings
    from meshlib.telemetry.own_spans import OwnTracer
    from meshlib.workload import Workload

BUILT_IN = ("client.", "error.", "guid:", "http.", "meshlib.", "network.", "rpc.", "server.", "url.", "user_agent.")
"""How attributes begin that a span has by itself."""
TOLD = WantedHeaders((REQUEST_ID, "traceparent", "tracestate", "user-agent", "x-forwarded-for"))
HAS_ID, HAS_PARENT, HAS_FORWARDED = 1, 2, 16
LONGEST_ID = otlp.LONGEST
SHORT = min(LONGEST, LONGEST_ID)
NO_TAGS: Attributes = {}
_NO_TRACE = b"0" * 32
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


class InboundTracing(Spans):
    """Spans of the calls that one server serves."""

    __slots__ = ("_own", "_textmap", "_w3c_by", "records", "tells_more")

    _own: Callable[[], OwnTracer | None] | None

    def __init__(
        self, provider: TracerProvider | None, workload: Workload | None = None, seed: int | None = None
    ) -> None:
        from opentelemetry.trace import SpanKind

        super().__init__(provider, SpanKind.SERVER, workload, seed)

    def reconfigured(self, settings: TracingSettings) -> None:
        """Spans are made by ``settings`` from now on."""
        super().reconfigured(settings)
        self._textmap: Callable[[], object] = object  # the program's propagator, once somebody has asked for it
        self._w3c_by: object = None  # that by which contexts are told in W3C's way alone
        self.records = InboundRecords(self._described, settings.max_tag_length, self.place, self._static)
        """Writes the spans that are written by ourselves."""
        tags = self._tags
        self.tells_more = bool(tags.formatted)
        """Whether they tell what is known when their call is over."""
        names = [*self._static, *(tag[0] for tag in tags.by_header), *(tag[0] for tag in tags.formatted)]
        # what is written piece by piece is not replaced by what comes later: of tags that have one name the last counts
        replace = len(set(names)) < len(names) or any(name.startswith(BUILT_IN) for name in names)
        self._own = None if replace or settings.disabled else getattr(self._tracer, "own", None)

    def started(self, call: InboundCall) -> ServedSpan | None:
        """Begin the span (or find the one begun); returns it, or None when nobody records. ``call.around`` makes it
        current for the handler: also one that is not sampled, whose calls then are not sampled either."""
        own = self._own
        tracer = None if own is None else own()
        if tracer is not None:
            return self._recorded(call, tracer)
        if (self._proxy is not None and self.nobody_records()) or self._settings.disabled:
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
            found.set_attributes({**self._described(request), REQUEST_ID_TAG: request_id})
            return SdkSpan(found, True)
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
            told = {**self._described(request), REQUEST_ID_TAG: request_id}
            span = self._tracer.start_span(name_of(request), below, self._kind, told)
        else:
            span = self.not_sampled()
        recording = span.is_recording()
        if mine:
            _identify(call, self.with_decision(request_id, recording))
        call.around = Current(self._trace.set_span_in_context(span, below))
        if self._settings.propagates:
            request.goes_on_in(
                self.propagation.spoken.names, self.propagation.write(span.get_span_context(), lambda: below)
            )
        return SdkSpan(span, False) if recording else None

    def _recorded(self, call: InboundCall, tracer: OwnTracer) -> Recorded | None:
        """The same of spans that are written by ourselves."""
        request = call.request
        there, given, parent, state, agent, _ = request.values_of(TOLD)
        ids = b""
        if there & HAS_PARENT and (self._textmap() is self._w3c_by or self._speaks_w3c()):
            own = next(tracer.ids, None) or tracer.more_ids()
            try:  # as ``usual_traceparent`` of one that is sampled, in half of its time
                version, trace, above, flags = parent.split(b"-")
                if (
                    flags == b"01"
                    and version == b"00"
                    and len(trace) == 32
                    and len(above) == 16
                    and trace != _NO_TRACE
                    and above != NO_ID
                    and parent.islower()
                ):
                    ids = unhexlify(b"".join((b"0a10", trace, b"1208", own, b"2208", above, b"850100030000")))
            except ValueError:  # it has other parts, or more than digits
                ids = b""
            if not ids:
                match = usual_traceparent(parent)
                found = read_in_hex(parent) if match is None else match.groups()
                if found is not None:
                    trace, above, flags = found
                    ids = otlp.ids(trace, own, above)
        if not ids:
            return self._recorded_anew(call, tracer, there, given, agent)
        # nearly always: as ``propagation.read``
        sampled = flags == b"01" or int(flags, 16) & 1
        if not there & HAS_ID:
            made_id = self.with_decision(self.new_id(), sampled != 0)
            _identify(call, made_id)
            given = made_id.encode()
        if not sampled:
            return None  # nor anything that is called for it: it goes on as it came
        if state:  # strangers write what they like
            told = self._trace.TraceState.from_header([state.decode("latin-1")]).to_header()
            if told:
                ids += otlp.field(b"\x1a", told.encode("latin-1", "replace"))
        both = given + agent
        if not both.isascii() or len(both) > SHORT:  # few
            given, agent = shown(given, LONGEST_ID), shown(agent, LONGEST)
        if self._settings.propagates:
            request.traced_by(b"".join((b"00-", trace, b"-", own, b"-", flags)), parent)
        made = Recorded()
        made.take = tracer.take
        made.ids = ids
        made.trace = trace
        made.own = own
        made.request_id = given
        made.agent = agent
        made.forwarded = there & HAS_FORWARDED
        made.tags = {**self._tags.of(request.header)} if self._tags.by_header else NO_TAGS
        made.start = int(wall() * 1e9)  # as ``now``, without a call of it
        return made

    def _speaks_w3c(self) -> bool:
        """Whether contexts are told in W3C's way alone; asked anew where the program has another propagator."""
        from opentelemetry.propagate import get_global_textmap  # whose propagators are loaded when somebody records

        self._textmap = get_global_textmap
        just_w3c = self.propagation.spoken.just_w3c
        self._w3c_by = get_global_textmap() if just_w3c else None
        return just_w3c

    def _recorded_anew(
        self, call: InboundCall, tracer: OwnTracer, there: int, given: bytes, agent: bytes
    ) -> Recorded | None:
        """Of a request that begins a trace, or whose trace is not told in the one way that nearly all tell it."""
        request, propagation = call.request, self.propagation
        parent = propagation.read(request.header)
        mine = not there & HAS_ID
        request_id = self.new_id() if mine else given.decode("latin-1")
        sampled = self.samples(request_id, parent)
        if mine:
            request_id = self.with_decision(request_id, sampled)
        tags: Attributes = {**self._tags.of(request.header)}
        above = parent.span
        trace_id = above.trace_id if sampled and above is not None else tracer.new_id(128)
        span_id = tracer.new_id(64)
        if self._settings.propagates and (sampled or above is None or parent.sampled is None):
            trace = self._trace
            flags = trace.TraceFlags(1 if sampled else 0)
            ids = (trace_id, span_id) if sampled or above is None else (above.trace_id, above.span_id)
            context = trace.SpanContext(*ids, False, flags, None if above is None else above.trace_state)
            around = trace.set_span_in_context(trace.NonRecordingSpan(context))
            request.goes_on_in(propagation.spoken.names, propagation.write(context, lambda: around))
        if mine:
            _identify(call, request_id)
        if not sampled:
            return None
        parent_id, state = b"", b""
        if above is not None:
            parent_id, state = b"%016x" % above.span_id, above.trace_state.to_header().encode("latin-1", "replace")
        made = Recorded()
        made.take = tracer.take
        made.trace, made.own = trace_hex, own = b"%032x" % trace_id, b"%016x" % span_id
        made.ids = otlp.ids(trace_hex, own, parent_id, state)
        made.request_id = shown(request_id.encode("latin-1", "replace"), LONGEST_ID)
        made.agent = shown(agent, LONGEST)
        made.forwarded = there & HAS_FORWARDED
        made.tags = tags
        made.start = now()
        return made

    def _identify(self, call: InboundCall, samples: bool) -> str:
        """Give it an id."""
        from meshlib.telemetry.propagation import NOBODY

        made = self.new_id()
        made = self.with_decision(made, samples and self.samples(made, NOBODY))
        _identify(call, made)
        return made

    def _described(self, request: InboundRequest) -> Attributes:
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
            address, port = address_of(request)
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
        if type(served) is Recorded:
            self.recorded(call, served, now() if end is None else end)
            return
        span = served.span
        if not span.is_recording():  # somebody else's, who has ended it
            return
        found, error = self._result(call, served)
        if call.route and not served.borrowed and call.request.protocol != "grpc":
            span.update_name(f"{name_of(call.request)} {call.route}")
        span.set_attributes(found)
        fault = fault_of(call)
        if fault is not None:
            span.add_event("meshlib.fault", fault, getattr(span, "start_time", None))
        if error:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.flags or None))
        if not served.borrowed:
            span.end(end)

    def _result(self, call: InboundCall, served: ServedSpan) -> tuple[Attributes, str]:
        """What came of it, and the error that it was, "" where it was none."""
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
            error = str(call.status) if call.status >= 500 else ""
        if error:
            found["error.type"] = error
        if self._tags.formatted:
            from meshlib.telemetry.access_log.served import ServedEntry

            clock = call.clock
            found.update(self._tags.ended(ServedEntry(call, clock.monotonic(), clock.time(), served, False)))
        return found, error

    def recorded(self, call: InboundCall, span: Recorded, end: int) -> None:
        """``finished`` of spans that are written by ourselves."""
        status, request = call.status, call.request
        if call.answered is not None and status < 500 and not self.tells_more:  # nearly always
            self.records.write(request, span, status, end)
        elif (
            call.flags
            or not 0 < status < 500
            or call.refusal is not None
            or call.route
            or self._tags.formatted
            or request.protocol == "grpc"
            or call.injected_delay
        ):
            found, error = self._result(call, span)
            told = otlp.attributes(found)
            fault = fault_of(call)
            if fault is not None:
                told += otlp.event("meshlib.fault", span.start, fault)
            if error:
                told += otlp.status(True, call.flags)
            self.records.write(request, span, 0, end, told, call.route)
        else:
            self.records.write(request, span, status, end)

    def late(self, call: InboundCall, served: ServedSpan, at: float) -> None:
        """The same of a call that was over at ``at``, by the mesh's clock."""
        start = served.start if type(served) is Recorded else getattr(served.span, "start_time", None)
        end = None if start is None else start + max(0, int((at - call.started) * 1e9))
        self.finished(call, served, end)


def fault_of(call: InboundCall) -> dict[str, float | bool] | None:
    """What is told of a fault that was injected; None: there was none."""
    aborts = "FI" in call.flags
    if not call.injected_delay and not aborts:
        return None
    return {"meshlib.fault.delay": call.injected_delay, "meshlib.fault.aborts": aborts}


def shown(value: bytes, longest: int) -> bytes:
    """A header's value in UTF-8, of so many characters at most."""
    return value[:longest].decode("latin-1").encode()


def _identify(call: InboundCall, request_id: str) -> None:
    call.made_id = request_id
    call.request.put(REQUEST_ID, request_id.encode())
