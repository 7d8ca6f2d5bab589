"""``FakeClock``: nobody waits, and what sleeps side by side takes as long as the longest."""

from __future__ import annotations

import asyncio
import threading

import pytest

from meshlib.alarms import Alarms
from meshlib.testing import FakeClock


def test_sleeping_moves_it_and_takes_no_time():
    clock = FakeClock(now=10)
    clock.sleep(3600)
    assert (clock.monotonic(), clock.sleeps) == (3610, [3600])


def test_wall_clock_time_moves_with_it():
    clock = FakeClock(time=500)
    clock.advance(7)
    assert clock.time() == 507


def test_it_does_not_go_back():
    with pytest.raises(ValueError, match="does not go back"):
        FakeClock().advance(-1)


def test_tasks_that_sleep_at_once_do_so_side_by_side():
    clock, ended = FakeClock(now=0), []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep_async(seconds)
        ended.append((name, clock.monotonic()))

    async def go() -> None:
        await asyncio.gather(sleep("long", 5), sleep("short", 1), sleep("another", 5))

    asyncio.run(go())
    assert ended[0] == ("short", 1)
    assert clock.monotonic() == 5


def test_a_task_that_is_cancelled_asleep_holds_nobody_up():
    clock = FakeClock(now=0)

    async def go() -> None:
        task = asyncio.ensure_future(clock.sleep_async(1))
        await asyncio.sleep(0)
        task.cancel()
        await clock.sleep_async(9)

    asyncio.run(go())
    assert clock.monotonic() == 9


def test_while_it_is_held_a_thread_sleeps_until_it_is_moved():
    clock, woke = FakeClock(now=0), threading.Event()

    def sleep() -> None:
        clock.sleep(5)
        woke.set()

    thread = threading.Thread(target=sleep)
    with clock.held():
        thread.start()
        clock.wait_for_sleepers()
        clock.advance(4)
        assert (clock.sleeping, woke.is_set()) == (1, False)
        clock.advance(1)
        woke.wait(60)
    thread.join(60)
    assert clock.monotonic() == 5


def test_while_it_is_held_a_task_sleeps_until_it_is_moved():
    clock = FakeClock(now=0)

    async def go() -> None:
        with clock.held():
            task = asyncio.ensure_future(clock.sleep_async(5))
            while not clock.sleeping:
                await asyncio.sleep(0)
            clock.advance(4)
            for _ in range(20):
                await asyncio.sleep(0)
            assert not task.done()
            clock.advance(1)
            await task

    asyncio.run(go())
    assert clock.monotonic() == 5


def test_who_sleeps_when_the_hold_ends_goes_on():
    clock = FakeClock(now=0)
    thread = threading.Thread(target=clock.sleep, args=(5,))
    with clock.held():
        thread.start()
        clock.wait_for_sleepers()
    thread.join(60)
    assert clock.monotonic() == 5


def test_who_waits_for_sleepers_that_do_not_come_is_told_so():
    clock = FakeClock()
    with pytest.raises(TimeoutError, match="0 of 2 sleep on the clock after 0 s: it is not held, so that nobody waits"):
        clock.wait_for_sleepers(2, seconds=0)
    with clock.held(), pytest.raises(TimeoutError, match="0 of 1 sleep on the clock after 0 s$"):
        clock.wait_for_sleepers(seconds=0)


def test_alarms_ring_when_it_is_moved():
    clock, rang = FakeClock(), threading.Event()
    alarms = Alarms(clock)
    alarms.after(60, rang.set)
    clock.advance(59)
    assert not rang.is_set()
    clock.advance(1)
    rang.wait(60)
    alarms.close()
