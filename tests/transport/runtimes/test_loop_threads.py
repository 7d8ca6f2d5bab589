"""How long what a loop hands to anyio's threads stands in line, seen by one who stands there too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import anyio.to_thread
import pytest

from meshlib.transport.runtimes.loop_threads import LoopThreads
from meshlib.transport.runtimes.thread_line import BEAT
from tests.support.fake_clock import FakeClock


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_free_thread_is_waited_for_by_nobody():
    async def asked() -> tuple[float, int]:
        threads = LoopThreads(FakeClock().monotonic)
        return threads.seconds(), len(threads._looking)

    assert asyncio.run(asked()) == (0.0, 0)


def test_where_all_are_busy_somebody_looks_how_long_it_takes_and_takes_nothing():
    async def asked() -> None:
        clock = FakeClock()
        threads = LoopThreads(clock.monotonic)
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        done = threading.Event()
        busy = asyncio.create_task(anyio.to_thread.run_sync(done.wait))
        await turns()
        assert threads.seconds() == 0.0
        await turns()
        clock.advance(1.0)
        assert threads.seconds() == pytest.approx(1.0), "before it has its turn"
        waits = asyncio.create_task(anyio.to_thread.run_sync(lambda: "served"))
        await turns()
        clock.advance(1.0)
        done.set()
        await busy
        assert await waits == "served"
        assert threads.seconds() == pytest.approx(2.0)
        clock.advance(0.3)
        assert threads.seconds() == 0.0
        assert limiter.borrowed_tokens == 0
        assert threads._looking == set()

    asyncio.run(asked())


def test_one_looks_each_beat_and_who_is_cancelled_leaves_the_line():
    async def asked() -> None:
        clock = FakeClock()
        threads = LoopThreads(clock.monotonic)
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        await limiter.acquire_on_behalf_of("somebody")
        for _ in range(3):
            threads.seconds()
            threads.seconds()
            clock.advance(2 * BEAT)
        assert len(threads._looking) == 3
        await turns()
        for task in list(threads._looking):
            task.cancel()
        await turns()
        limiter.release_on_behalf_of("somebody")
        assert (limiter.borrowed_tokens, limiter.statistics().tasks_waiting) == (0, 0)
        (line,) = threads._by_loop.values()
        assert line._standing == {}

    asyncio.run(asked())


def test_without_a_loop_nothing_waits_and_of_loops_that_are_closed_nothing_is_kept():
    threads = LoopThreads(FakeClock().monotonic)
    assert threads.seconds() == 0.0

    async def asked() -> float:
        return threads.seconds()

    assert asyncio.run(asked()) == 0.0
    assert asyncio.run(asked()) == 0.0
    assert len(threads._by_loop) == 1


def test_whether_there_are_such_threads_is_whether_anything_has_loaded_anyio():
    program = (
        "import time, sys\n"
        "from meshlib.transport.runtimes.loop_threads import LoopThreads\n"
        "threads = LoopThreads(time.monotonic)\n"
        "assert not threads.known and threads.seconds() == 0.0 and 'anyio' not in sys.modules\n"
        "import anyio.to_thread\n"
        "assert threads.known\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
