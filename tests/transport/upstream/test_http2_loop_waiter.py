"""What the task of one HTTP/2 call awaits."""

from __future__ import annotations

import asyncio

from meshlib.transport.upstream.http2_loop_waiter import Waiter
from meshlib.transport.upstream.loop_deadlines import Deadlines


def on_a_loop(test):
    async def run():
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        try:
            await test(loop, Waiter(loop, deadlines), deadlines)
        finally:
            deadlines.close()

    asyncio.run(run())


def test_a_change_ends_the_wait():
    async def test(loop, waiter, deadlines):
        loop.call_soon(waiter.wake)
        assert await waiter.wait(None)
        assert not waiter.changed

    on_a_loop(test)


def test_a_change_that_came_before_ends_it_at_once():
    async def test(loop, waiter, deadlines):
        waiter.wake()
        waiter.wake()
        assert await waiter.wait(loop.time() - 1)
        assert not waiter.changed

    on_a_loop(test)


def test_its_time_ends_it_and_no_time_is_no_wait():
    async def test(loop, waiter, deadlines):
        until = loop.time() + 0.01
        assert not await waiter.wait(until)
        assert loop.time() >= until
        assert not await waiter.wait(until)

    on_a_loop(test)


def test_a_time_that_is_over_does_not_ring_in_the_next_wait():
    async def test(loop, waiter, deadlines):
        loop.call_soon(waiter.wake)
        assert await waiter.wait(loop.time() + 0.01)
        loop.call_later(0.03, waiter.wake)
        assert await waiter.wait(None)
        assert not deadlines.at

    on_a_loop(test)


def test_a_cancelled_wait_leaves_nothing_behind():
    async def test(loop, waiter, deadlines):
        task = loop.create_task(waiter.wait(loop.time() + 60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert not deadlines.at
        waiter.wake()  # nobody waits
        assert await waiter.wait(None)

    on_a_loop(test)


def test_a_wait_without_a_coroutine_ends_as_the_other_does():
    async def test(loop, waiter, deadlines):
        assert waiter.begin(loop.time()) is None
        future = waiter.begin(loop.time() + 60)
        assert len(deadlines.at) == 1
        waiter.wake()
        assert await future
        waiter.over()
        assert not deadlines.at
        waiter.wake()  # nobody waits
        late = waiter.begin(loop.time() + 0.01)
        assert not await late
        waiter.over()

    on_a_loop(test)
