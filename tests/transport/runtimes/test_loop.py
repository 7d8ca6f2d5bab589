"""What runtimes of an event loop do for an exchange: as those of threads, without holding up anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import meshlib
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Place, Slots
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.runtimes.loop import LoopRuntime
from tests.support.fake_clock import FakeClock


class Body:
    def __init__(self, *parts: bytes, error: BaseException | None = None) -> None:
        self.parts, self.error, self.aborted = parts, error, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.aborted = True

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
async def mesh():
    async with meshlib.Mesh.from_resources([], clock=FakeClock()) as made:
        yield made


async def test_a_sleep_goes_by_the_meshs_clock(mesh):
    before = mesh._core.clock.now
    await LoopRuntime(mesh._core).sleep(5.0)
    assert mesh._core.clock.now == before + 5.0


async def test_a_slot_that_is_free_is_had_at_once_and_a_full_line_is_told(mesh):
    runtime, slots, place = LoopRuntime(mesh._core), Slots(1, 0), Place()
    assert await runtime.acquire(Acquire(slots, None, place)) is True
    assert place.slots is slots
    assert await runtime.acquire(Acquire(slots, 1.0, Place())) is None


@pytest.mark.parametrize("end", ["release", "close", "time"])
async def test_whoever_waits_is_woken_by_a_release_the_meshs_closing_or_the_clock(mesh, end):
    runtime, slots = LoopRuntime(mesh._core), Slots(1)
    slots.try_acquire()
    waiting = asyncio.create_task(runtime.acquire(Acquire(slots, 3.0, Place())))
    while not slots.pending:
        await asyncio.sleep(0)
    if end == "release":
        slots.release()
    elif end == "close":
        await mesh.aclose()
    else:
        mesh._core.clock.advance(3.0)
    assert await asyncio.wait_for(waiting, 30) is (end != "time")
    assert slots.pending == 0


async def test_whoever_is_cancelled_leaves_the_line_and_loses_no_slot(mesh):
    slots = Slots(1)
    slots.try_acquire()
    waiting = asyncio.create_task(LoopRuntime(mesh._core).acquire(Acquire(slots, None, Place())))
    while not slots.pending:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (slots.pending, slots.in_use) == (0, 1)
    slots.release()
    assert slots.in_use == 0


async def test_a_body_is_read_whole_and_no_further_than_it_may_be(mesh):
    runtime = LoopRuntime(mesh._core)
    outcome = await runtime.read(Outcome(status=200, body=Body(b"ab", b"c")), 3)
    assert (outcome.whole, outcome.body) == (b"abc", None)
    long = Body(b"ab", b"cd")
    refused = await runtime.read(Outcome(status=200, body=long), 3)
    assert (refused.failure, long.aborted) == (Failure.PROTOCOL_ERROR, True)
    cut = await runtime.read(Outcome(status=200, body=Body(b"a", error=BodyFailed(Failure.RESET, "cut"))), 9)
    assert (cut.failure, cut.detail) == (Failure.RESET, "cut")
