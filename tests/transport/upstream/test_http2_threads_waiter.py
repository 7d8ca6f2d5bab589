"""What the thread of one HTTP/2 call sleeps on."""

from __future__ import annotations

import threading

import pytest

from meshlib.transport.upstream.http2_threads_waiter import Waiter


def test_it_sleeps_until_its_time_has_come():
    waiter = Waiter()
    assert not waiter.sleep(0.01)
    assert not waiter.changed


def test_who_is_woken_before_sleeping_does_not_sleep():
    waiter = Waiter()
    waiter.wake()
    waiter.wake()  # twice is once
    assert waiter.changed
    assert waiter.sleep(None)
    assert not waiter.sleep(0.01)


def test_who_is_roused_looks_around_for_nothing():
    waiter = Waiter()
    waiter.rouse()
    assert waiter.sleep(None)
    assert not waiter.changed


def test_a_sleeping_thread_is_woken():
    waiter = Waiter()
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(waiter.sleep(10.0)))
    thread.start()
    waiter.wake()
    thread.join(60)
    assert woken == [True]


def test_an_exception_that_interrupts_the_sleep_comes_through(monkeypatch):
    waiter = Waiter()

    class Gate:
        def acquire(self, timeout):
            raise KeyboardInterrupt

    waiter._gate = Gate()
    with pytest.raises(KeyboardInterrupt):
        waiter.sleep(None)
