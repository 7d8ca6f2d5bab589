"""What waits to be sent: in batches, bounded, and what is lost is counted; nobody who ends a span waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from meshlib.telemetry import otlp_spans as otlp
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.span_queue import NOT_SENT, NOT_TAKEN, SpanQueue
from tests.support.eventually import eventually

HOUR = 3600.0
"""Nothing is sent because time passes."""


def span(name: str) -> bytes:
    return otlp.span(bytes(16), bytes(8), b"", name.encode(), otlp.SERVER, 1, 2, b"", otlp.LOCAL)


class Collector:
    """In the place of a network."""

    def __init__(self, does: Callable[[], bool] = lambda: True) -> None:
        self.batches: list[list[str]] = []
        self._does = does
        self.released = threading.Event()

    def send(self, request: bytes) -> bool:
        (of_one,) = ExportTraceServiceRequest.FromString(request).resource_spans
        self.batches.append([each.name for each in of_one.scope_spans[0].spans])
        return self._does()

    def close(self) -> None:
        self.released.set()

    def queue(self, **options: object) -> SpanQueue:
        return SpanQueue(self.send, {"service.name": "web"}, self.close, **{"delay": HOUR, **options})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_dropped() -> Iterator[None]:
    dropped.after_fork()
    yield
    dropped.after_fork()


def test_a_full_batch_is_sent_at_once_and_the_rest_at_a_flush_or_at_the_end():
    collector = Collector()
    queue = collector.queue(batch=2)
    for name in "abc":
        queue.put(span(name))
    assert eventually(lambda: collector.batches == [["a", "b"]])
    assert queue.flush(60)
    assert collector.batches == [["a", "b"], ["c"]]
    queue.put(span("d"))
    queue.shutdown()
    queue.shutdown()
    assert collector.batches == [["a", "b"], ["c"], ["d"]]
    assert dropped.counts() == {}


def test_what_waits_too_long_is_sent_before_the_batch_is_full():
    collector = Collector()
    queue = collector.queue(delay=0.01)
    queue.put(span("a"))
    assert eventually(lambda: collector.batches == [["a"]])
    queue.shutdown()


def test_what_comes_while_a_flush_is_sent_waits_for_the_next_one():
    collector = Collector(lambda: queue.put(span("late")) is None)
    queue = collector.queue()
    queue.put(span("a"))
    assert queue.flush(60)
    assert collector.batches == [["a"]]
    assert queue.flush(60)
    assert collector.batches == [["a"], ["late"]]
    queue.shutdown()


def test_after_the_end_nothing_is_taken_and_nobody_waits():
    collector = Collector()
    queue = collector.queue()
    queue.shutdown()
    queue.put(span("a"))
    assert not queue.flush(60)
    assert collector.batches == []
    assert dropped.counts() == {NOT_TAKEN: 1}


def test_what_there_is_no_room_for_is_counted_and_nobody_waits():
    held, asked = threading.Event(), threading.Event()

    def hangs() -> bool:
        asked.set()
        return held.wait(60)

    collector = Collector(hangs)
    queue = collector.queue(batch=1, most=2)
    queue.put(span("a"))
    assert asked.wait(60)
    for name in "bcde":
        queue.put(span(name))
    assert dropped.counts() == {NOT_SENT: 2}
    held.set()
    queue.shutdown()
    assert collector.batches == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("how", ["refuses", "raises"])
def test_what_a_collector_does_not_take_is_counted_and_others_follow(how):
    def does() -> bool:
        if len(collector.batches) > 1:
            return True
        if how == "raises":
            raise OSError("no collector")
        return False

    collector = Collector(does)
    queue = collector.queue()
    queue.put(span("a"))
    assert queue.flush(60)
    queue.put(span("b"))
    assert queue.flush(60)
    queue.shutdown()
    assert collector.batches == [["a"], ["b"]]
    assert dropped.counts() == {NOT_TAKEN: 1}


def test_a_collector_that_takes_nothing_is_told_of_once_until_it_takes_some_again(caplog):
    answers = iter([False, False, True, False])
    collector = Collector(lambda: next(answers))
    queue = collector.queue(where="http://localhost:4318")
    for name in "abcd":
        queue.put(span(name))
        assert queue.flush(60)
    queue.shutdown()
    does_not, again, does_not_again, end = [record.getMessage() for record in caplog.records]
    assert does_not.startswith("the collector of spans http://localhost:4318 does not take spans: lost, and counted (")
    assert again == "the collector of spans http://localhost:4318 takes spans again; 2 were lost by then"
    assert does_not_again == does_not
    assert end == "the collector of spans http://localhost:4318 has not taken the last 1 spans: they are lost"


def test_spans_that_a_collector_still_has_at_the_end_are_told_of(monkeypatch, caplog):
    """One that hangs: nothing else says that they are gone."""
    monkeypatch.setattr("meshlib.telemetry.span_queue.GRACE", 0.05)
    held = threading.Event()
    collector = Collector(lambda: held.wait(60))
    queue = collector.queue(batch=1)
    queue.put(span("a"))
    assert eventually(lambda: collector.batches == [["a"]])
    queue.put(span("b"))
    queue.shutdown()
    held.set()
    assert [record.getMessage() for record in caplog.records] == [
        "the collector of spans has not taken the last 2 spans: they are lost"
    ]


def test_a_collector_that_hangs_does_not_hold_the_end(monkeypatch):
    monkeypatch.setattr("meshlib.telemetry.span_queue.GRACE", 0.05)
    collector = Collector(lambda: collector.released.wait(60) and False)
    queue = collector.queue(batch=1)
    queue.put(span("a"))
    assert eventually(lambda: collector.batches == [["a"]])
    queue.put(span("b"))
    queue.shutdown()
    assert collector.released.is_set()
    assert eventually(lambda: dropped.counts() == {NOT_TAKEN: 2})
