"""A writer: calls never wait, order is kept, what is too much is counted, nothing is lost at an end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence

import pytest

from meshlib.telemetry.access_log.writer import Writer, flush_all, reopen_all


class Sink:
    """Keeps lines; blocks while ``open`` is not set, fails as ``error`` says, loses as many as ``losing``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches = 0
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.error: BaseException | None = None
        self.losing = 0
        self.closed = self.reopened = self.forked = 0

    def write(self, items: Sequence[str], _stopping: Callable[[], bool], /) -> int:
        self.entered.set()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        self.batches += 1
        self.lines += items[self.losing :]
        return self.losing

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        self.closed += 1

    def after_fork(self) -> None:
        self.forked += 1


def writer(sink: Sink, most: int = 1000) -> Writer[str]:
    return Writer(sink, "a sink", most, gather=0.0)


def test_lines_come_in_their_order() -> None:
    sink = Sink()
    made = writer(sink, 10_000)
    for n in range(500):
        made.put(str(n), 3)
    assert made.flush(30)
    assert sink.lines == [str(n) for n in range(500)]
    assert made.status() == {
        "sink": "a sink", "written": 500, "dropped": 0, "lost": 0, "waiting": 0, "failing": False,
    }  # fmt: skip
    made.close()


def test_a_sink_that_blocks_blocks_no_call_and_memory_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    sink.open.clear()
    made = writer(sink, 1000)
    made.put("first", 100)
    assert sink.entered.wait(30)
    with caplog.at_level(logging.WARNING, "meshlib.access_log"):
        for n in range(100):
            made.put(str(n), 100)
        assert made.dropped == 91
        assert made._held == 1000
        assert not made.flush(0.0)
        assert caplog.text == "", "nobody who makes a call may wait for a handler either"
        sink.open.set()
        assert made.flush(30)
        made.close(30)
    assert sink.lines == ["first", *map(str, range(9))]
    assert "a sink takes lines too slowly" in caplog.text


def test_a_sink_that_fails_is_told_of_once_and_when_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    sink.error = OSError(28, "No space left on device")
    made = writer(sink)
    with caplog.at_level(logging.WARNING, "meshlib.access_log"):
        for _ in range(3):
            made.put("x", 1)
            assert made.flush(30)
        assert (made.lost, made.written) == (3, 0)
        sink.error = None
        made.put("y", 1)
        assert made.flush(30)
        made.close(30)
    assert sink.lines == ["y"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "No space left on device" in caplog.messages[0]
    assert "3 lines were lost" in caplog.messages[1]


def test_what_a_sink_loses_of_a_batch_is_counted() -> None:
    sink = Sink()
    sink.losing = 1
    made = writer(sink)
    made.put("x", 1)
    assert made.flush(30)
    assert (made.lost, made.written, made.status()["failing"]) == (1, 0, True)
    made.close()


def test_closing_writes_what_waits_and_then_closes() -> None:
    sink = Sink()
    made = writer(sink)
    made.put("x", 1)
    made.close(30)
    assert sink.lines == ["x"]
    ended = made._thread
    if ended is not None:
        ended.join(30)
    assert sink.closed == 1


def test_closing_a_sink_that_hangs_takes_no_longer_than_it_may() -> None:
    sink = Sink()
    sink.open.clear()
    made = writer(sink)
    made.put("x", 1)
    made.close(0.0)
    assert sink.lines == []
    thread = made._thread
    sink.open.set()
    assert thread is not None
    thread.join(30)
    assert (sink.lines, sink.closed) == (["x"], 1)


def test_without_a_thread_who_flushes_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    sink = Sink()
    made = writer(sink)
    made.put("x", 1)
    made.put("y", 1)
    assert sink.lines == []
    assert made.flush(0.0)
    assert sink.lines == ["x", "y"]


def test_all_writers_are_flushed_and_reopened_together() -> None:
    sinks = [Sink(), Sink()]
    made = [writer(sink) for sink in sinks]
    for each in made:
        each.put("x", 1)
    flush_all(30)
    assert [sink.lines for sink in sinks] == [["x"], ["x"]]
    reopen_all()
    assert [sink.reopened for sink in sinks] == [1, 1]
    for each in made:
        each.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_with_nothing() -> None:
    sink = Sink()
    sink.open.clear()
    made = writer(sink)
    made.put("the parent's", 12)
    assert sink.entered.wait(30)
    made.put("too", 3)
    read, write = os.pipe()
    with made._lock:  # another thread may hold it
        child = os.fork()
        if child == 0:
            sink.open = threading.Event()
            sink.open.set()
            made.put("the child's", 11)
            done = made.flush(20)
            os.write(write, repr((done, sink.lines, sink.forked)).encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 1000).decode() == '(True, ["the child\'s"], 1)'
    os.close(read)
    sink.open.set()
    assert made.flush(30)
    assert sink.lines == ["the parent's", "too"]
    made.close()


def test_lines_of_many_threads_are_all_there() -> None:
    sink = Sink()
    made = writer(sink, 10**9)
    threads = [
        threading.Thread(target=lambda n=n: [made.put(f"{n} {i}", 5) for i in range(500)])  # type: ignore[misc]
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made.flush(30)
    assert len(sink.lines) == 2000
    for n in range(4):
        own = [line for line in sink.lines if line.startswith(f"{n} ")]
        assert own == [f"{n} {i}" for i in range(500)]
    made.close()


def test_a_line_that_comes_while_others_are_written_wakes_who_writes() -> None:
    """Calls take no lock: the one whose line comes as the thread lies down has to be seen."""
    sink = Sink()
    made = writer(sink, 10**9)
    for n in range(300):
        made.put(str(n), 1)
        if n % 3 == 0:
            assert made.flush(30)
    assert made.flush(30)
    assert sink.lines == [str(n) for n in range(300)]
    assert made._held == 0
    made.close()
