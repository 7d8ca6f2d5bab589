"""What belongs to an event loop is touched on that loop only."""

from __future__ import annotations

import asyncio
import threading

from meshlib.transport.grpcio.client.loops import here, soon_on


async def test_on_the_loop_itself_work_is_done_at_once():
    done: list[int] = []
    loop = asyncio.get_running_loop()
    assert here(loop)
    soon_on(loop, lambda: done.append(1))
    assert done == [1]


async def test_from_a_thread_it_is_done_at_the_loops_next_turn():
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    seen: list[object] = []

    def work() -> None:
        seen.append(threading.current_thread())
        done.set()

    def elsewhere() -> None:
        seen.append(here(loop))
        soon_on(loop, work)

    await asyncio.to_thread(elsewhere)
    await asyncio.wait_for(done.wait(), 30)
    assert seen == [False, threading.current_thread()]


def test_what_belonged_to_a_closed_loop_ended_with_it():
    loop = asyncio.new_event_loop()
    loop.close()
    done: list[int] = []
    soon_on(loop, lambda: done.append(1))
    assert done == []
    assert not here(loop)
