"""Lines to a collector: batches, attributes, and ten minutes without one."""

from __future__ import annotations

import threading

import pytest

from meshlib.telemetry.access_log.otlp_output import BATCH, BATCH_BYTES, PAUSES, LogRecord, OtlpOutput, RefusedError
from meshlib.telemetry.access_log.writer import LinesLostError, Writer
from tests.support.otlp_receiver import plain

service_pb2 = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")


class Collector:
    """Up or down, by a clock that only pauses move."""

    def __init__(self, up_at: float = 0.0) -> None:
        self.now = 0.0
        self.up_at = up_at
        self.asked = 0
        self.responses: list[object] = []
        """To the requests in their order; what is raised instead; then empty ones."""
        self.received: list[object] = []
        self.requests: list[object] = []

    def send(self, request: bytes, timeout: float) -> bytes:
        assert timeout > 0
        self.asked += 1
        if self.now < self.up_at:
            raise ConnectionError("the collector at c:4317: UNAVAILABLE")
        made = service_pb2.ExportLogsServiceRequest.FromString(request)
        response = self.responses.pop(0) if self.responses else b""
        if isinstance(response, OSError):
            raise response
        self.requests.append(made)
        self.received += made.resource_logs[0].scope_logs[0].log_records
        return response if isinstance(response, bytes) else b""

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def output(self) -> OtlpOutput:
        return OtlpOutput(self.send, "a-log", {"service.name": "me", "log_name": "a-log"}, self.pause)


def test_a_record_has_its_time_its_text_and_its_attributes() -> None:
    collector = Collector()
    assert collector.output().write([LogRecord(1_000_000_007, "a line", (("code", "200"),))], lambda: False) == 0
    (record,) = collector.received
    assert (record.time_unix_nano, record.body.string_value, plain(record.attributes)) == (  # type: ignore[attr-defined]
        1_000_000_007, "a line", {"code": "200"},
    )  # fmt: skip
    (request,) = collector.requests
    assert plain(request.resource_logs[0].resource.attributes) == {"service.name": "me", "log_name": "a-log"}  # type: ignore[attr-defined]


def test_many_are_sent_in_batches() -> None:
    collector = Collector()
    assert collector.output().write([LogRecord(n, str(n)) for n in range(BATCH + 1)], lambda: False) == 0
    assert (collector.asked, len(collector.received)) == (2, BATCH + 1)


def test_a_collector_that_is_down_for_a_moment_loses_nothing() -> None:
    collector = Collector(up_at=3.0)
    assert collector.output().write([LogRecord(1, "x")], lambda: False) == 0
    assert (collector.asked, len(collector.received)) == (4, 1)


def lines(count: int, size: int = 1) -> list[LogRecord]:
    return [LogRecord(n, "x" * size) for n in range(count)]


def partly(rejected: int, words: str = "") -> bytes:
    response = service_pb2.ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = words
    return bytes(response.SerializeToString())


def lost(collector: Collector, items: list[LogRecord]) -> tuple[int, str]:
    with pytest.raises(LinesLostError) as raised:
        collector.output().write(items, lambda: False)
    return raised.value.lost, str(raised.value)


def test_a_request_is_no_longer_than_a_collector_takes_unless_one_line_is() -> None:
    collector = Collector()
    quarter = BATCH_BYTES // 4
    assert collector.output().write([*lines(9, quarter), *lines(1, BATCH_BYTES * 2), *lines(2)], lambda: False) == 0
    counts = [len(each.resource_logs[0].scope_logs[0].log_records) for each in collector.requests]  # type: ignore[attr-defined]
    assert counts == [3, 3, 3, 1, 2]
    assert [each.resource_logs[0].scope_logs[0].scope.name for each in collector.requests] == ["meshlib"] * 5  # type: ignore[attr-defined]


def test_lines_that_a_collector_takes_and_rejects_are_lost_and_no_others() -> None:
    collector = Collector()
    collector.responses = [partly(3, "timestamp too old"), b"", partly(0, "that was slow")]
    assert lost(collector, lines(BATCH * 3))[0] == 3
    assert collector.asked == 3


def test_a_collector_that_rejects_a_line_now_and_then_works_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collector = Collector()
    collector.responses = [partly(1, "timestamp too old"), b"", partly(1, "timestamp too old"), b""]
    writer: Writer[LogRecord] = Writer(collector.output(), "otlp c:4317", gather=0.0)
    for _ in range(4):
        for line in lines(2):
            writer.put(line, 10)
        assert writer.flush(60)
    writer.close(60)
    assert (writer.lost, writer.written) == (2, 6)
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        (
            "WARNING",
            "the OTLP collector of access logs has rejected 1 of 2 lines: timestamp too old; they are lost, and further ones "
            "are only counted (status: access_logs)",
        )
    ]


@pytest.mark.parametrize(("said", "counts"), [(7, 2), (-1, 0)])
def test_a_collector_rejects_no_more_than_it_was_given(said: int, counts: int) -> None:
    collector = Collector()
    collector.responses = [partly(said)]
    if counts:
        assert lost(collector, lines(2))[0] == counts
    else:
        assert collector.output().write(lines(2), lambda: False) == 0


def test_a_response_that_is_none_says_nothing() -> None:
    collector = Collector()
    collector.responses = [b"\xff\xff"]
    assert collector.output().write(lines(2), lambda: False) == 0


def test_what_is_refused_for_good_is_not_sent_again_and_what_follows_is_sent() -> None:
    collector = Collector()
    collector.responses = [RefusedError("the collector at c:4317: INVALID_ARGUMENT: no")]
    assert lost(collector, lines(BATCH + 1)) == (BATCH, "the collector at c:4317: INVALID_ARGUMENT: no")
    assert (collector.asked, collector.now, len(collector.received)) == (2, 0.0, 1)


def test_batches_that_have_arrived_are_not_lost_with_one_that_has_not() -> None:
    collector = Collector()
    collector.responses = [partly(1), *[ConnectionError("down")] * (len(PAUSES) + 1)]
    assert lost(collector, lines(BATCH * 2 + 5)) == (1 + BATCH + 5, "down")


def test_whoever_stops_does_not_wait_for_it() -> None:
    collector = Collector(up_at=1e9)
    assert collector.output().write([LogRecord(1, "x"), LogRecord(2, "y")], lambda: True) == 2
    assert collector.now == 0.0


def test_ten_minutes_without_a_collector() -> None:
    """Nothing blocks, what waits is bounded, and what is not written is counted."""
    collector = Collector(up_at=600.0)
    turn, paused = threading.Semaphore(0), threading.Event()
    pause = collector.pause

    def wait(seconds: float) -> None:
        paused.set()
        turn.acquire()  # the thread in the background goes on when the test lets it
        pause(seconds)

    output = OtlpOutput(collector.send, "a-log", {}, wait)
    writer: Writer[LogRecord] = Writer(output, "otlp c:4317", most=1000, gather=0.0)
    writer.put(LogRecord(0, "first"), 10)
    assert paused.wait(30)
    for n in range(1000):
        writer.put(LogRecord(n, "line"), 10)  # returns, whatever the collector does
    assert (writer._held, writer.dropped) == (1000, 901)
    for _ in range(int(600 / sum(PAUSES)) * len(PAUSES) + 200):
        turn.release()
    assert writer.flush(30)
    assert writer.lost + writer.written == 100
    writer.put(LogRecord(5, "after"), 10)
    while collector.now < 600.0:
        turn.release()
        assert writer.flush(30)
        writer.put(LogRecord(5, "after"), 10)
    assert writer.flush(30)
    assert collector.received[-1].body.string_value == "after"  # type: ignore[attr-defined]
    writer.close(30)
