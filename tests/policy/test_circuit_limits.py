"""Connection slots are never lost, whoever gives up when."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshlib.policy.circuit_limits import UNLIMITED, CircuitLimits, Place, Slots, TcpKeepalive


class SlotsMachine(RuleBasedStateMachine):
    """Callers acquire, wait, give up and release in any order."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(2, 3)
        self.held = 0
        self.line = []  # (waiter, woken)

    @rule()
    def try_acquire(self):
        free = self.held < 2 and not self.line
        assert self.slots.try_acquire() is free
        self.held += free

    @rule()
    def enqueue(self):
        woken = []
        waiter = self.slots.enqueue(lambda: woken.append(1))
        if self.held < 2 and not self.line:
            assert woken
            self.held += 1
        elif len(self.line) >= 3:
            assert waiter is None
        else:
            assert not woken
            self.line.append((waiter, woken))

    @precondition(lambda self: self.held)
    @rule()
    def release(self):
        self.slots.release()
        if self.line:
            _, woken = self.line.pop(0)
            assert woken == [1]  # straight to the first in line
        else:
            self.held -= 1

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data):
        waiter, woken = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        assert self.slots.cancel(waiter) is False
        assert not woken

    @invariant()
    def counts_agree(self):
        assert (self.slots.in_use, self.slots.pending) == (self.held, len(self.line))


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_waiter_that_gives_up_after_it_was_granted_keeps_the_slot():
    slots = Slots(1)
    slots.try_acquire()
    waiter = slots.enqueue(lambda: None)
    slots.release()
    assert slots.cancel(waiter) is True
    assert slots.in_use == 1


def test_sixteen_threads_that_wait_and_give_up_lose_no_slot():
    slots = Slots(3)
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        rng = random.Random(seed)
        for _ in range(400):
            granted = threading.Event()
            waiter = slots.enqueue(granted.set)
            if granted.wait(rng.random() * 0.002) or slots.cancel(waiter):
                most = max(most, slots.in_use)
                slots.release()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (slots.in_use, slots.pending) == (0, 0)
    assert most <= 3


# -- limits -----------------------------------------------------------------------------------------------------------


def test_without_a_resource_there_is_no_limit_but_istios_timeouts():
    limits = CircuitLimits()
    counts = (
        limits.max_connections,
        limits.http1_max_pending_requests,
        limits.http2_max_requests,
        limits.max_retries,
    )
    assert counts == (UNLIMITED,) * 4 == (4294967295,) * 4
    assert (limits.connect_timeout, limits.idle_timeout, limits.max_connection_duration) == (10.0, 3600.0, None)
    assert (limits.max_requests_per_connection, limits.max_concurrent_streams) == (0, 2147483647)
    assert (limits.tcp_keepalive, limits.http2_keepalive) == (None, None)
    assert TcpKeepalive() == TcpKeepalive(probes=0, time=0, interval=0)


def test_one_slot_there_always_is():
    slots = Slots(0)
    assert (slots.limit, slots.try_acquire(), slots.try_acquire()) == (1, True, False)


# -- places -----------------------------------------------------------------------------------------------------------


def test_giving_back_twice_gives_back_once():
    slots = Slots(2)
    mine, other = Place(), Place()
    assert slots.try_acquire(mine)
    assert slots.try_acquire(other)
    mine.give_back(slots)
    mine.give_back(slots)
    slots.release(mine)
    assert (slots.in_use, mine.slots, other.slots) == (1, None, slots)


def test_a_place_in_line_is_given_back_too():
    slots = Slots(1)
    slots.try_acquire()
    place = Place()
    slots.enqueue(lambda: None, place)
    assert (slots.pending, place.slots) == (1, None)
    place.give_back(slots)
    assert (slots.pending, slots.in_use) == (0, 1)
    slots.release()
    assert (slots.in_use, place.slots) == (0, None)


def test_a_slot_that_is_granted_is_in_the_place_when_its_waiter_wakes():
    slots = Slots(1)
    mine, next_ = Place(), Place()
    slots.try_acquire(mine)
    seen = []
    slots.enqueue(lambda: seen.append(next_.slots), next_)
    slots.release(mine)
    assert (seen, mine.slots, slots.in_use) == ([slots], None, 1)
    next_.give_back(slots)
    assert slots.in_use == 0


def test_a_place_holds_a_slot_of_its_own_line_only():
    slots, others = Slots(1), Slots(1)
    place = Place()
    others.try_acquire(place)
    slots.try_acquire()
    slots.release(place)
    assert (slots.in_use, others.in_use) == (1, 1)


def test_whoever_is_admitted_beyond_the_limit_has_a_slot_to_release():
    slots = Slots(1)
    slots.try_acquire()
    woken: list[int] = []
    first, second = slots.enqueue(lambda: woken.append(1)), slots.enqueue(lambda: woken.append(2))
    slots.admit(second)
    slots.admit(second)
    assert (woken, slots.in_use, slots.pending) == ([2], 2, 1)
    slots.release()
    assert woken == [2, 1]
    slots.admit(first)
    assert (woken, slots.in_use) == ([2, 1], 2)


def test_one_who_gave_up_is_never_admitted():
    slots = Slots(1)
    slots.try_acquire()
    woken: list[int] = []
    waiter = slots.enqueue(lambda: woken.append(1))
    slots.cancel(waiter)
    slots.admit(waiter)
    assert (woken, slots.in_use) == ([], 1)


def test_a_wake_that_is_interrupted_is_done_again_and_the_interrupt_goes_on():
    slots = Slots(1)
    slots.try_acquire()
    woken: list[int] = []

    def wake() -> None:
        woken.append(1)
        if len(woken) == 1:
            raise KeyboardInterrupt

    slots.enqueue(wake)
    with pytest.raises(KeyboardInterrupt):
        slots.release()
    assert (woken, slots.in_use) == ([1, 1], 1)


def test_a_waiter_that_was_interrupted_before_it_left_the_line_is_passed_over():
    slots = Slots(1)
    slots.try_acquire()
    woken: list[int] = []
    gone = slots.enqueue(lambda: woken.append(1))
    slots.enqueue(lambda: woken.append(2))
    gone.state = "cancelled"
    slots.release()
    assert (woken, slots.pending) == ([2], 0)


def test_a_release_while_the_lock_is_held_by_the_same_thread_is_no_deadlock():
    slots = Slots(2)
    slots.try_acquire()
    slots.try_acquire()

    class Finalised:
        def __del__(self) -> None:
            slots.release()

    with slots._lock:
        Finalised()
    assert slots.in_use == 1
