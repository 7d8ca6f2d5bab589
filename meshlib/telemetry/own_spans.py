"""Spans of a process that makes many, behind OpenTelemetry's API: what they say is written in the bytes of OTLP as they end
(``otlp_spans.py``), and waits to be sent (``span_queue.py``).

They are as the SDK would make them that nobody has configured: a span whose parent is not sampled is not recorded, all others
are. Where an environment configures the SDK (``SDK_SETTINGS``), the SDK makes them.
"""

from __future__ import annotations

import random
import struct
from binascii import hexlify
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import (
    INVALID_SPAN_ID,
    INVALID_TRACE_ID,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    get_current_span,
    use_span,
)

from meshlib.clock import SystemClock
from meshlib.telemetry import otlp_spans as otlp

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Status, TraceState
    from opentelemetry.util import types

    from meshlib.telemetry.span_queue import SpanQueue

SDK_SETTINGS = frozenset(
    f"OTEL_{name}"
    for name in (
        "ATTRIBUTE_COUNT_LIMIT",
        "ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "EVENT_ATTRIBUTE_COUNT_LIMIT",
        "PYTHON_ID_GENERATOR",
        "SDK_DISABLED",
        "SPAN_ATTRIBUTE_COUNT_LIMIT",
        "SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "SPAN_EVENT_COUNT_LIMIT",
        "TRACES_SAMPLER",
        "TRACES_SAMPLER_ARG",
    )
)
"""Variables by which an environment says how the SDK makes spans."""
KINDS = {kind: kind.value + 1 for kind in SpanKind}
SAMPLED, NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)

IDS = 64
"""Ids of spans that are made at once."""
_in_ids = struct.Struct("16s" * IDS).unpack
NO_ID = b"0" * 16
"""What no span is known by."""

wall = SystemClock().time


def now() -> int:
    """Nanoseconds since the epoch."""
    return int(wall() * 1e9)


class OwnSpan(Span):
    """One that is recorded until it ends; what is said of it later is nobody's."""

    __slots__ = (
        "_attributes",
        "_context",
        "_ended",
        "_events",
        "_kind",
        "_name",
        "_parent",
        "_status",
        "_take",
        "start_time",
    )

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, object],
        start: int,
        take: Callable[[bytes], None],
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes = dict(attributes)
        self._events = b""
        self._status: tuple[StatusCode, str] = StatusCode.UNSET, ""
        self._take = take
        self._ended = False
        self.start_time = start

    @property
    def kind(self) -> SpanKind:
        """As the SDK's spans tell it."""
        return self._kind

    def get_span_context(self) -> SpanContext:
        """Where it is in its trace."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        """Several."""
        self._attributes.update(attributes)

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        """One."""
        self._attributes[key] = value

    def add_event(self, name: str, attributes: types.Attributes = None, timestamp: int | None = None) -> None:
        """What has happened meanwhile, now or at ``timestamp``."""
        self._events += otlp.event(name, now() if timestamp is None else timestamp, attributes or {})

    def update_name(self, name: str) -> None:
        """Another name."""
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """What came of it. OK is the last word, as in the SDK."""
        code = status if isinstance(status, StatusCode) else status.status_code
        if self._status[0] is not StatusCode.OK and code is not StatusCode.UNSET:
            told = description if isinstance(status, StatusCode) else status.description
            self._status = code, told or ""

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """An event, by OpenTelemetry's conventions."""
        told = {"exception.type": type(exception).__name__, "exception.message": str(exception), **(attributes or {})}
        self.add_event("exception", told, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """It is over, and written."""
        if self._ended:
            return
        self._ended = True
        context, parent = self._context, self._parent
        code, detail = self._status
        told = otlp.attributes(self._attributes) + self._events
        if code is StatusCode.ERROR:
            told += otlp.status(True, detail)
        elif code is StatusCode.OK:
            told += otlp.OK
        state = context.trace_state
        self._take(
            otlp.span(
                context.trace_id.to_bytes(16, "big"),
                context.span_id.to_bytes(8, "big"),
                b"" if parent is None else parent.span_id.to_bytes(8, "big"),
                self._name.encode("utf-8", "replace"),
                KINDS[self._kind],
                self.start_time,
                now() if end_time is None else end_time,
                told,
                otlp.LOCAL if parent is None or not parent.is_remote else otlp.REMOTE,
                state.to_header().encode("utf-8", "replace") if state else b"",
            )
        )


class OwnTracer(Tracer):
    """Of one queue. ``take`` takes spans that are written, ``ids`` are some for spans to come, in hexadecimal."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.take = take
        self.random = random.Random()
        self.ids: Iterator[bytes] = iter(())

    def more_ids(self) -> bytes:
        """The first of as many ``ids`` as are made at once, which takes a fifth of what it does one by one."""
        drawn = hexlify(self.random.getrandbits(64 * IDS).to_bytes(8 * IDS, "big"))
        ids = [each for each in _in_ids(drawn) if each != NO_ID]
        self.ids = iter(ids)
        return next(self.ids, None) or self.more_ids()

    def new_id(self, bits: int) -> int:
        """Of a trace (128) or of a span (64)."""
        found = 0
        while not found:
            found = self.random.getrandbits(bits)
        return found

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Link | object = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """As the SDK's. Links are not written: a proxy makes none."""
        found = get_current_span(context).get_span_context()
        span_id = self.new_id(64)
        parent: SpanContext | None = found
        state: TraceState | None = found.trace_state
        if found.trace_id == INVALID_TRACE_ID or found.span_id == INVALID_SPAN_ID:
            trace_id, parent, state = self.new_id(128), None, None
        elif not found.trace_flags.sampled:
            return NonRecordingSpan(SpanContext(found.trace_id, span_id, False, NOT_SAMPLED, state))
        else:
            trace_id = found.trace_id
        made = SpanContext(trace_id, span_id, False, SAMPLED, state)
        return OwnSpan(name, made, parent, kind, attributes or {}, start_time or now(), self.take)

    @contextmanager  # as in ``proxy/spans.py``
    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
    ) -> Iterator[Span]:
        """As the SDK's."""
        with use_span(self.start_span(name, context, kind, attributes), end_on_exit=True) as span:
            yield span


class OwnTracerProvider(TracerProvider):
    """Spans into ``queue``."""

    def __init__(self, queue: SpanQueue) -> None:
        self._queue = queue
        self._tracer = OwnTracer(queue.put)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> OwnTracer:
        """The same for whoever asks: a proxy's spans are all its own."""
        return self._tracer

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now."""
        return self._queue.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what waits, and end."""
        self._queue.shutdown()
