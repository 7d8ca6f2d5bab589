"""The end of an event loop is told while the loop can still close what belongs to it."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from meshlib.transport.core.loop_end import LoopEnds
from meshlib.transport.upstream.loop_connection import CLOSING_TURNS


@pytest.fixture
def told():
    return []


@pytest.fixture
def ends(told):
    return LoopEnds(lambda loop: told.append((loop, loop.is_running(), len(asyncio.all_tasks(loop)))))


async def watched(ends: LoopEnds, times: int = 1) -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        ends.watch(loop)
    return loop


def test_it_is_told_once_on_the_loop_that_ends_however_often_it_was_asked_for(ends, told):
    loop = asyncio.run(watched(ends, times=3))
    ((ended, running, _),) = told
    assert ended is loop
    assert running


def test_it_is_told_when_the_tasks_of_the_loop_are_over(ends, told):
    cancelled = []

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(list(told))

    async def main() -> None:
        await watched(ends)
        task = asyncio.ensure_future(for_ever())
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())
    assert cancelled == [[]]
    assert len(told) == 1


def test_what_is_closed_then_has_the_turns_of_the_loop_that_it_needs(told):
    turns = []

    def ended(loop: asyncio.AbstractEventLoop) -> None:
        def turn() -> None:
            turns.append(len(turns) + 1)
            loop.call_soon(turn)

        loop.call_soon(turn)

    loop = asyncio.new_event_loop()
    ends = LoopEnds(ended)
    loop.run_until_complete(watched(ends))
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert len(turns) > CLOSING_TURNS
    loop.close()


def test_each_loop_is_told_of_by_itself(ends, told):
    loops = [asyncio.run(watched(ends)) for _ in range(3)]
    assert [loop for loop, *_ in told] == loops


def test_nothing_is_told_once_nobody_wants_to_know(ends, told):
    async def main() -> None:
        await watched(ends)
        ends.forget()

    asyncio.run(main())
    assert told == []


def test_of_a_loop_that_is_only_closed_nothing_is_told_and_nothing_said(ends, told):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(watched(ends))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends.forget()
        del ends
        gc.collect()
    assert told == []


@pytest.mark.parametrize("said", ["error", "ignore"])
def test_a_loop_on_which_it_is_too_late_is_not_told_of_and_goes_on(ends, told, said):
    """asyncio warns of a generator that begins when the others have been ended."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.shutdown_asyncgens())
    with warnings.catch_warnings():
        warnings.simplefilter(said)
        assert loop.run_until_complete(watched(ends)) is loop
    loop.close()
    ends.forget()
    assert told == []


def test_loops_that_are_closed_are_not_kept(ends):
    for _ in range(3):
        asyncio.run(watched(ends))
    assert len(ends._watched) == 1
