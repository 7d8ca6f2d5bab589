"""Trace contexts between programs: read from the headers of a request in whatever way they are told, written in the ways that
are spoken here.

Which are spoken is said by the provider that Telemetry or MeshConfig name (``zipkin``: B3 in several headers, as Envoy's tracer
does; ``opentelemetry``: W3C's), else by OpenTelemetry's global propagator: OTEL_PROPAGATORS, W3C without it. W3C and B3 are
always read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
)

from meshlib.policy.trace_context import read_b3, read_traceparent, write_b3, write_single_b3, write_traceparent

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

    from meshlib.policy.trace_context import Lookup, Pairs

W3C_NAMES = frozenset((b"traceparent", b"tracestate"))
B3_NAMES = frozenset((b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"))
SINGLE_NAMES = frozenset((b"b3",))
OURS = frozenset(name.decode() for name in (*W3C_NAMES, *B3_NAMES, *SINGLE_NAMES, b"baggage"))
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)

_baggage = W3CBaggagePropagator()
_CAME = create_key("meshlib-baggage")
"""The header that a context's baggage was read from, and what was read."""
_NO_CONTEXT = Context()


class Spoken(NamedTuple):
    """What is written. ``names`` are the headers that are replaced by it; ``others`` writes what is none of ours, None: there
    is nothing."""

    w3c: bool
    b3: bool
    single: bool
    baggage: bool
    others: TextMapPropagator | None
    names: frozenset[bytes]
    just_w3c: bool
    """And nothing else of what is written."""


class Parent(NamedTuple):
    """What the sender of a request says of its trace: the span that it is made for (None: of none), and whether the trace is
    sampled (None: it is left to us)."""

    span: SpanContext | None = None
    sampled: bool | None = None


NOBODY = Parent()


class _Headers(Getter[Callable[[str], "str | None"]]):
    """How propagators that are not ours read a request."""

    def get(self, carrier: Lookup, key: str) -> list[str] | None:
        found = carrier(key.lower())
        return None if found is None else [found]

    def keys(self, _carrier: Lookup) -> list[str]:
        return []


_headers = _Headers()


class Propagation:
    """``provider`` is the kind of the provider that is named for spans, "" where none is."""

    __slots__ = ("_provider", "_spoken", "_textmap")

    def __init__(self, provider: str = "") -> None:
        self._provider = provider
        self._textmap: TextMapPropagator | None = None
        self._spoken: Spoken

    @property
    def spoken(self) -> Spoken:
        """What is written now: a program may change its global propagator at any time."""
        textmap = propagate.get_global_textmap()
        if textmap is not self._textmap:
            self._spoken = _spoken(self._provider, textmap)
            self._textmap = textmap
        return self._spoken

    def read(self, header: Lookup) -> Parent:
        """What a request tells. Ids come from what is spoken here, before what is not."""
        spoken = self.spoken
        first = NOBODY
        for read in (_read_b3, _read_w3c) if spoken.b3 or spoken.single else (_read_w3c, _read_b3):
            found = read(header)
            if found.span is not None:
                return found if first.sampled is None else Parent(found.span, first.sampled)
            if first.sampled is None:
                first = found
        if spoken.others is not None:
            context = spoken.others.extract(header, context=_NO_CONTEXT, getter=_headers)
            told = get_current_span(context).get_span_context()
            if told.is_valid:
                return Parent(told, told.trace_flags.sampled)
        return first

    def write(self, told: SpanContext, context: Callable[[], Context]) -> Pairs:
        """The headers of a span. ``context`` has it as the current one."""
        spoken = self.spoken
        trace_id, span_id, flags = told.trace_id, told.span_id, told.trace_flags
        pairs: Pairs = []
        if spoken.w3c:
            pairs.append(write_traceparent(trace_id, span_id, flags))
            if told.trace_state:
                pairs.append((b"tracestate", told.trace_state.to_header().encode("latin-1", "replace")))
        if spoken.b3:
            pairs += write_b3(trace_id, span_id, flags.sampled)
        if spoken.single:
            pairs += write_single_b3(trace_id, span_id, flags.sampled)
        if spoken.others is not None:
            carrier: dict[str, str] = {}
            spoken.others.inject(carrier, context=context())
            pairs += [(k.encode(), v.encode("latin-1", "replace")) for k, v in carrier.items() if k.lower() not in OURS]
        return pairs

    def baggage(self, context: Context | None = None) -> Pairs:
        """The header of the baggage of a context (None: the current one), if it has any and somebody speaks it. What nobody has
        changed goes on as it came: OpenTelemetry's propagator writes properties (``a=1;ttl=2``) as a part of the value."""
        found = baggage.get_all(context)
        if not found or not self.spoken.baggage:
            return []
        came = get_value(_CAME, context)
        if isinstance(came, tuple) and came[1] == found:
            return [(b"baggage", came[0].encode("latin-1", "replace"))]
        carrier: dict[str, str] = {}
        _baggage.inject(carrier, context=context)
        return [(name.encode(), value.encode("latin-1", "replace")) for name, value in carrier.items()]


def with_baggage(header: Lookup) -> Context:
    """A context with the baggage of a request, and nothing else."""
    value = header("baggage")
    if value is None:
        return _NO_CONTEXT
    made = _baggage.extract({"baggage": value}, context=_NO_CONTEXT)
    return set_value(_CAME, (value, dict(baggage.get_all(made))), made)


def _spoken(provider: str, textmap: TextMapPropagator) -> Spoken:
    fields = {name.lower() for name in textmap.fields}
    w3c, b3, single = "traceparent" in fields, "x-b3-traceid" in fields, "b3" in fields
    others = textmap if fields - OURS else None
    if provider == "zipkin":
        w3c, b3, single, others = False, True, False, None
    elif provider == "opentelemetry":
        w3c, b3, single, others = True, False, False, None
    # B3 in its other form would be another context: whoever reads that first would not find our span
    names = (W3C_NAMES if w3c else frozenset()) | (B3_NAMES | SINGLE_NAMES if b3 or single else frozenset())
    if others is not None:
        names |= {name.encode() for name in fields - {"baggage"}}
    return Spoken(w3c, b3, single, "baggage" in fields, others, names, w3c and not (b3 or single or others))


def _read_w3c(header: Lookup) -> Parent:
    value = header("traceparent")
    found = None if value is None else read_traceparent(value)
    if found is None:
        return NOBODY
    trace_id, span_id, flags = found
    state = header("tracestate")
    told = SpanContext(trace_id, span_id, True, TraceFlags(flags), TraceState.from_header([state]) if state else None)
    return Parent(told, bool(flags & 1))


def _read_b3(header: Lookup) -> Parent:
    told = read_b3(header)
    if not told.trace_id:
        return NOBODY if told.sampled is None else Parent(None, told.sampled)
    flags = SAMPLED if told.sampled else NOT_SAMPLED
    return Parent(SpanContext(told.trace_id, told.span_id, True, flags), told.sampled)
