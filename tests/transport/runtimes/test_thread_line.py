"""How long requests stand in line for a thread, by a clock that is moved by hand."""

from __future__ import annotations

import os
import threading

import pytest

from meshlib.policy.load_shedding import WINDOW
from meshlib.transport.runtimes.thread_line import BEAT, MOST_LOOKING, PoolThreads, ThreadLine
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def line(clock: FakeClock) -> ThreadLine:
    return ThreadLine(clock.monotonic)


def test_nobody_has_waited_where_nobody_has_come(line):
    assert line.seconds() == 0.0


def test_whoever_stands_there_counts_before_a_thread_has_begun_with_him(line, clock):
    ticket = line.join()
    clock.advance(2.0)
    line.join()
    assert line.seconds() == pytest.approx(2.0)
    line.begin(ticket)
    clock.advance(WINDOW / 2)
    assert line.seconds() == pytest.approx(2.0), "the window under way has it"


def test_what_was_waited_counts_for_its_window_and_the_next(line, clock):
    line.waited(3.0)
    clock.advance(WINDOW)
    assert line.seconds() == 3.0
    clock.advance(WINDOW)
    assert line.seconds() == 0.0


def test_it_is_the_99th_percentile_of_a_window(line):
    for number in range(200):
        line.waited(5.0 if number == 0 else 0.01)
    assert line.seconds() == pytest.approx(0.01)
    for _ in range(5):
        line.waited(5.0)
    assert line.seconds() == 5.0


def test_who_gives_up_has_waited_for_nothing(line, clock):
    ticket = line.join()
    clock.advance(2.0)
    line.leave(ticket)
    line.leave(ticket)
    line.begin(ticket)
    assert line.seconds() == 0.0


def test_somebody_looks_once_a_beat_and_not_too_many_do(line, clock):
    assert line.wants_look()
    assert not line.wants_look()
    clock.advance(2 * BEAT)
    assert line.wants_look()
    for _ in range(MOST_LOOKING):
        line.join()
    clock.advance(2 * BEAT)
    assert not line.wants_look()


def test_a_clock_that_goes_back_is_no_wait(line):
    line.waited(-5.0)
    assert line.seconds() == 0.0


def test_in_a_forked_child_nobody_stands_in_line_and_no_lock_is_held(line, clock):
    line.join()
    clock.advance(9.0)
    with line._lock:
        child = os.fork()
        if child == 0:
            new = threading.Thread(target=lambda: os._exit(0 if line.seconds() == 0.0 else 7), daemon=True)
            new.start()
            new.join(30)
            os._exit(8)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert line.seconds() == 9.0


def test_many_threads_come_and_go_at_once(line):
    def passes() -> None:
        for _ in range(500):
            line.begin(line.join())
            line.seconds()

    threads = [threading.Thread(target=passes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert line.seconds() == 0.0
    assert line._standing == {}


def test_a_pools_line_goes_by_the_clock_of_the_mesh(clock):
    threads = PoolThreads()
    threads.go_by(clock.monotonic)
    threads.line.join()
    clock.advance(1.5)
    assert threads.seconds() == 1.5
    assert threads.known
