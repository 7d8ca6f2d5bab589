"""Spans that the proxy writes itself are those that an SDK which nobody has configured would have made."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from meshlib.telemetry import otlp_spans as otlp
from meshlib.telemetry.own_spans import IDS, OwnTracer, OwnTracerProvider
from meshlib.telemetry.span_queue import SpanQueue

TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


class Kept:
    """A tracer whose spans are kept."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self.tracer = OwnTracer(self._written.append)

    @property
    def spans(self) -> list[Any]:
        written = otlp.request(otlp.resource_of({}), "meshlib", self._written)
        return list(ExportTraceServiceRequest.FromString(written).resource_spans[0].scope_spans[0].spans)


def test_ids_that_are_made_ahead_are_those_of_spans_and_none_is_nothing():
    tracer = OwnTracer(lambda _span: None)
    drawn = iter((0, 7 << 64, (1 << 64 * IDS) - 1))
    tracer.random.getrandbits = lambda _bits: next(drawn)  # type: ignore[method-assign]
    assert tracer.more_ids() == b"%016x" % 7
    assert list(tracer.ids) == []
    assert tracer.more_ids() == b"f" * 16
    assert list(tracer.ids) == [b"f" * 16] * (IDS - 1)


def below(flags: int, state: str = "") -> Any:
    found = TraceState.from_header([state]) if state else None
    return set_span_in_context(NonRecordingSpan(SpanContext(TRACE, PARENT, True, TraceFlags(flags), found)))


def test_without_a_parent_a_trace_begins():
    kept = Kept()
    span = kept.tracer.start_span("GET", None, SpanKind.SERVER, {"a": 1}, start_time=5)
    context = span.get_span_context()
    assert context.is_valid
    assert context.trace_flags.sampled
    assert span.is_recording()
    span.end(9)
    (found,) = kept.spans
    assert found.trace_id == context.trace_id.to_bytes(16, "big")
    assert found.span_id == context.span_id.to_bytes(8, "big")
    assert (found.parent_span_id, found.kind, found.flags) == (b"", otlp.SERVER, otlp.LOCAL)
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (5, 9)


def test_below_a_span_the_trace_and_its_state_go_on():
    kept = Kept()
    with kept.tracer.start_as_current_span("GET", below(1, "vendor=1"), SpanKind.CLIENT) as span:
        assert get_current_span() is span
    (found,) = kept.spans
    assert found.trace_id == TRACE.to_bytes(16, "big")
    assert found.parent_span_id == PARENT.to_bytes(8, "big")
    assert (found.trace_state, found.flags) == ("vendor=1", otlp.REMOTE)
    assert span.get_span_context().trace_state.get("vendor") == "1"


def test_below_a_span_that_is_not_sampled_nothing_is_recorded_and_its_context_goes_on():
    kept = Kept()
    span = kept.tracer.start_span("GET", below(0))
    context = span.get_span_context()
    assert not span.is_recording()
    assert context.trace_id == TRACE
    assert context.span_id not in (0, PARENT)
    assert not context.trace_flags.sampled
    span.end()
    assert kept.spans == []


def test_what_is_told_is_written_and_after_its_end_nothing_counts():
    kept = Kept()
    span = kept.tracer.start_span("GET", None, SpanKind.SERVER, {"a": 1, "b": 2})
    span.set_attribute("a", 3)
    span.set_attributes({"c": "d"})
    span.add_event("late", {"by": 1}, 7)
    span.record_exception(ValueError("no"))
    span.update_name("GET /{id}")
    span.set_status(Status(StatusCode.ERROR, "UC"))
    span.end()
    span.set_attribute("a", 4)
    span.end()
    (found,) = kept.spans
    assert {each.key: each.value.string_value or each.value.int_value for each in found.attributes} == {
        "a": 3,
        "b": 2,
        "c": "d",
    }
    assert [each.name for each in found.events] == ["late", "exception"]
    assert found.events[0].time_unix_nano == 7
    assert (found.name, found.status.code, found.status.message) == ("GET /{id}", StatusCode.ERROR.value, "UC")
    assert not span.is_recording()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([StatusCode.OK, StatusCode.ERROR], StatusCode.OK),
        ([StatusCode.ERROR, StatusCode.UNSET], StatusCode.ERROR),
        ([], StatusCode.UNSET),
    ],
)
def test_of_what_is_said_of_the_result_ok_is_the_last_word(said, code):
    kept = Kept()
    span = kept.tracer.start_span("GET")
    for each in said:
        span.set_status(each)
    span.end()
    assert kept.spans[0].status.code == code.value


def test_a_provider_sends_what_its_tracers_have_made():
    sent: list[bytes] = []
    queue = SpanQueue(lambda request: sent.append(request) is None, {"service.name": "web"}, lambda: None, delay=3600.0)
    provider = OwnTracerProvider(queue)
    provider.get_tracer("a").start_span("one").end()
    assert provider.force_flush()
    assert len(sent) == 1
    provider.get_tracer("b").start_span("two").end()
    provider.shutdown()
    assert len(sent) == 2
