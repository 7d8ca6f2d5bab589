"""Connection slots are never lost, whoever gives up when."""

from __future__ import annotations

import random
import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshlib.policy.circuit_limits import Slots


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
        thread.join()
    assert (slots.in_use, slots.pending) == (0, 0)
    assert most <= 3
