"""One timer for all that a loop waits for: nothing rings early, late, twice or after it was discarded."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from meshlib.transport.upstream.loop_deadlines import Deadlines, UntilClosed


class Timer:
    def __init__(self, at: float, ring) -> None:
        self.at, self.ring, self.cancelled = at, ring, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of an event loop as there is to it: ``turns`` moves its time from timer to timer. ``made`` counts them."""

    def __init__(self) -> None:
        self.at = 100.0
        self.made = 0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.at

    def call_at(self, when, ring) -> Timer:
        self.made += 1
        self.timers.append(Timer(when, ring))
        return self.timers[-1]

    def turns(self) -> None:
        while left := [timer for timer in self.timers if not timer.cancelled]:
            timer = min(left, key=lambda one: one.at)
            self.timers.remove(timer)
            self.at = max(self.at, timer.at)
            timer.ring()
        self.timers.clear()


@pytest.fixture
def loop():
    return Loop()


def test_each_rings_once_at_its_time_and_never_early(loop):
    deadlines, rng, rung = Deadlines(loop), random.Random(7), []
    for number in range(200):
        at = loop.at + rng.random() * 10
        deadlines.add(lambda number=number, at=at: rung.append((number, at, loop.at)), at)
    loop.turns()
    assert sorted(number for number, _, _ in rung) == list(range(200))
    assert all(at <= when <= at + 1e-6 for _, at, when in rung)


def test_what_was_discarded_does_not_ring(loop):
    deadlines, rung = Deadlines(loop), []

    def late() -> None:
        rung.append("late")

    def early() -> None:
        rung.append("early")
        deadlines.discard(late)

    deadlines.add(late, loop.at + 1.0)
    deadlines.discard(late)
    deadlines.add(early, loop.at + 2.0)
    deadlines.add(late, loop.at + 2.0)  # discarded by the one that rings before it
    loop.turns()
    assert rung == ["early"]


def test_a_thousand_attempts_in_time_cost_one_timer(loop):
    deadlines = Deadlines(loop)
    for number in range(1000):
        ring = [number].clear
        deadlines.add(ring, loop.at + 5.0)
        loop.at += 0.001
        deadlines.discard(ring)
    assert loop.made == 1
    loop.turns()
    assert not loop.timers
    assert deadlines._timer is None


def test_one_that_is_due_before_the_others_is_not_missed(loop):
    deadlines, rung = Deadlines(loop), []
    deadlines.add(lambda: rung.append("slow"), loop.at + 5.0)
    deadlines.add(lambda: rung.append("quick"), loop.at + 1.0)
    loop.turns()
    assert rung == ["quick", "slow"]


def test_what_rings_may_add_another(loop):
    deadlines, rung = Deadlines(loop), []

    def first() -> None:
        rung.append(loop.at)
        deadlines.add(second, loop.at + 1.0)

    def second() -> None:
        rung.append(loop.at)

    deadlines.add(first, loop.at + 1.0)
    deadlines.add(lambda: None, loop.at + 10.0)
    loop.turns()
    assert rung == [101.0, 102.0]


def test_closed_it_leaves_nothing_behind(loop):
    deadlines, rung = Deadlines(loop), []
    deadlines.add(lambda: rung.append(1), loop.at + 1.0)
    deadlines.close()
    loop.turns()
    assert rung == []


def test_a_timer_that_comes_a_little_early_waits_for_the_rest(loop):
    deadlines, rung = Deadlines(loop), []
    deadlines.add(lambda: rung.append(loop.at), 101.0)
    (timer,) = loop.timers
    loop.timers.clear()
    loop.at = 100.9995  # uvloop counts in milliseconds
    timer.ring()
    assert rung == []
    loop.turns()
    assert rung == [101.0]


def bounded(limit: float | None, waits: set[UntilClosed] | None = None) -> UntilClosed:
    return UntilClosed(set() if waits is None else waits, Deadlines(asyncio.get_running_loop()), limit)


async def test_what_is_awaited_is_bounded_by_seconds() -> None:
    waits: set[UntilClosed] = set()
    with pytest.raises(TimeoutError):
        async with bounded(0.0, waits):
            await asyncio.get_running_loop().create_future()
    assert not waits
    assert not this_task().cancelling()


async def test_who_ends_all_that_wait_ends_what_has_no_bound() -> None:
    waits: set[UntilClosed] = set()
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: [end() for end in list(waits) * 2])  # twice is no more than once
    with pytest.raises(TimeoutError):
        async with bounded(None, waits):
            await loop.create_future()
    assert not waits
    assert not this_task().cancelling()


async def test_what_was_awaited_in_time_leaves_nothing_behind() -> None:
    waits: set[UntilClosed] = set()
    deadlines = Deadlines(asyncio.get_running_loop())
    async with UntilClosed(waits, deadlines, 20.0):
        (end,) = waits
        assert list(deadlines.at) == [end]
    assert not waits
    assert not deadlines.at
    end()  # too late: the task goes on
    await asyncio.sleep(0)
    deadlines.close()


@pytest.mark.parametrize("over", [False, True])
async def test_who_cancels_the_task_is_obeyed_though_the_time_is_over_too(over: bool) -> None:
    """The one who cancels it waits for its end."""
    waits: set[UntilClosed] = set()

    async def waiting() -> None:
        async with bounded(None, waits):
            await asyncio.get_running_loop().create_future()

    task = asyncio.get_running_loop().create_task(waiting())
    await asyncio.sleep(0)
    (end,) = waits
    if over:
        end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_raised_as_its_time_ends_is_raised() -> None:
    """And the task is not cancelled by what was to end the wait."""

    async def fails() -> None:
        waits: set[UntilClosed] = set()
        async with bounded(None, waits):
            (end,) = waits
            end()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert not this_task().cancelling()
    with contextlib.suppress(asyncio.CancelledError):  # as with asyncio.timeout, before Python 3.13
        await asyncio.sleep(0)


async def test_one_inside_another_ends_alone() -> None:
    outer: set[UntilClosed] = set()
    async with bounded(20.0, outer):
        with pytest.raises(TimeoutError):
            async with bounded(0.0):
                await asyncio.get_running_loop().create_future()
        assert len(outer) == 1
        await asyncio.sleep(0)


def this_task() -> asyncio.Task[object]:
    found = asyncio.current_task()
    assert found is not None
    return found
