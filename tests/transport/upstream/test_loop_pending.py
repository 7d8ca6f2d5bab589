"""One awaited request: its outcome, its body at the reader's pace, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import gc

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.framing import framing_of
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.loop_pending import HIGH_WATER, PIECE, Pending
from tests.support.loop_lender import TARGET, LoopLender

HOST = (b"Host", b"a")


@pytest.fixture
async def lent():
    return LoopLender(asyncio.get_running_loop())


def begin(lent: LoopLender, **limits) -> Pending:
    head_timeout = limits.pop("head_timeout", None)
    caller = CallerTimeouts(**limits)
    pending = Pending(lent.connection, Attempt(b"GET", b"/", [HOST], None, TARGET, head_timeout, caller=caller))
    lent.connection.start(b"GET / HTTP/1.1\r\n\r\n", False, pending, [HOST])
    return pending


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


async def waits(task: asyncio.Task) -> None:
    """Let a task go on until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()


async def test_a_response_that_came_whole_needs_no_body_and_frees_the_connection(lent):
    pending = begin(lent)
    lent.connection.data_received(head(2) + b"ok")
    outcome = await pending.outcome
    assert (outcome.status, outcome.whole, outcome.body) == (200, b"ok", None)
    assert lent.fates == ["released"]


async def test_whoever_holds_a_slot_holds_it_until_the_body_is_read(lent):
    slots = lent.connection.slot = Slots(1)
    assert slots.try_acquire()
    pending = begin(lent)
    lent.connection.data_received(head(2) + b"ok")
    outcome = await pending.outcome
    assert (outcome.whole, lent.fates) == (None, [])
    assert [chunk async for chunk in outcome.body] == [b"ok"]
    assert lent.fates == ["released"]


async def test_a_reader_that_is_behind_stops_the_connection_until_it_has_caught_up(lent):
    pending, part = begin(lent), HIGH_WATER // 2
    lent.connection.data_received(head(4 * part))
    body = aiter((await pending.outcome).body)
    for _ in range(3):
        lent.connection.data_received(bytes(part))
    assert lent.transport.calls == ["pause"]
    await anext(body)
    await anext(body)
    assert lent.transport.calls == ["pause"]
    await anext(body)
    assert lent.transport.calls == ["pause", "resume"]
    await body.aclose()
    assert lent.fates == ["dropped"]


async def test_a_connection_is_not_given_back_paused_by_the_end_of_a_large_response(lent):
    """A reader that has not come yet, or never does, is no concern of the next call on it."""
    pending = begin(lent)
    lent.connection.data_received(head(HIGH_WATER + 8) + bytes(HIGH_WATER))
    await pending.outcome
    lent.connection.data_received(bytes(8))
    assert (lent.transport.calls, lent.fates) == ([], ["released"])


async def test_a_connection_that_was_paused_is_read_again_when_its_response_is_over(lent):
    pending = begin(lent)
    lent.connection.data_received(head(2 * HIGH_WATER) + bytes(HIGH_WATER + 1))
    outcome = await pending.outcome
    lent.connection.data_received(bytes(HIGH_WATER - 1))  # was on its way already
    outcome.body.abort()
    assert (lent.transport.calls, lent.fates) == (["pause", "resume"], ["released"])


async def test_no_head_in_time_drops_the_connection_and_is_said_once(lent):
    pending = begin(lent, head_timeout=0.5)
    pending.head_timed_out()
    outcome = await pending.outcome
    assert (outcome.failure, outcome.detail) == (Failure.TIMEOUT, "no response within 0.5 s")
    pending.head_timed_out()
    pending.abort()
    assert lent.fates == ["dropped"]


async def test_a_body_that_is_silent_for_too_long_or_cut_fails_while_it_is_read(lent):
    pending = begin(lent, read=3.0)
    lent.connection.data_received(head(4) + b"ab")
    body = aiter((await pending.outcome).body)
    assert await anext(body) == b"ab"
    reading = asyncio.ensure_future(anext(body))
    await waits(reading)
    (ring,) = lent.deadlines.rings
    ring()
    with pytest.raises(BodyFailed) as silent:
        await reading
    assert silent.value.failure is Failure.TIMEOUT
    assert lent.fates == ["dropped"]
    assert lent.deadlines.rings == []


async def test_a_large_body_waits_for_the_system_piece_by_piece(lent):
    pending = begin(lent, write=3.0)
    before = len(lent.transport.written)
    body = bytes(PIECE + 1)
    framing = framing_of([HOST, (b"Content-Length", b"%d" % len(body))], body)
    pending.on_writable(False)
    sending = asyncio.ensure_future(pending.send_body(framing))
    await waits(sending)
    assert len(lent.transport.written) - before == PIECE
    pending.on_writable(True)
    assert await sending is None
    assert len(lent.transport.written) - before == len(body)


async def test_a_server_that_takes_nothing_is_a_write_timeout_and_one_that_takes_some_is_not(lent):
    pending = begin(lent, write=3.0)
    pending.on_writable(False)
    lent.transport.unsent = 100
    sending = asyncio.ensure_future(pending.send_body(None))
    await waits(sending)
    lent.transport.unsent = 99
    lent.deadlines.rings[0]()
    await waits(sending)
    lent.deadlines.rings[0]()
    problem = await sending
    assert problem.failure is Failure.WRITE_TIMEOUT


async def test_a_response_before_the_request_is_over_is_the_last_on_its_connection(lent):
    pending = begin(lent)
    pending.on_writable(False)
    sending = asyncio.ensure_future(pending.send_body(None))
    await waits(sending)
    lent.connection.data_received(head(2) + b"no")
    assert await sending is None
    assert (await pending.outcome).whole == b"no"
    assert not lent.connection.reader.reusable


async def test_a_body_that_nobody_reads_goes_with_whoever_held_it_and_drops_its_connection(lent):
    """Without the garbage collector."""
    gc.disable()
    try:
        pending = begin(lent)
        lent.connection.data_received(head(4) + b"ab")
        outcome = await pending.outcome
        pending.told()
        del pending, outcome
        for _ in range(3):
            await asyncio.sleep(0)
        assert lent.fates == ["dropped"]
    finally:
        gc.enable()
