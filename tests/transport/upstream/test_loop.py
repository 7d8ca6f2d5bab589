"""The connections of one event loop: which is lent, which is kept, which goes, and when none is made any more."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.loop import AsyncioUpstream
from meshlib.transport.upstream.loop_connection import Connection
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from tests.support.evil_server import OK, EvilServer
from tests.support.fake_clock import FakeClock
from tests.support.loop_lender import Transport


class Timer:
    def __init__(self, at: float, ring) -> None:
        self.at, self.ring, self.cancelled = at, ring, False

    def cancel(self) -> None:
        self.cancelled = True


class Alarms:
    """One that rings when it is told to, at its time."""

    def __init__(self) -> None:
        self.at = 100.0
        self.timers: list[Timer] = []

    def now(self) -> float:
        return self.at

    def on_loop(self, loop, seconds, ring) -> Timer:
        self.timers.append(Timer(self.at + seconds, ring))
        return self.timers[-1]

    def ring(self) -> None:
        (timer,) = [one for one in self.timers if not one.cancelled]
        self.timers.clear()
        self.at = timer.at
        timer.ring()


@pytest.fixture
async def upstream():
    names = Names(FakeClock())
    made = AsyncioUpstream(asyncio.get_running_loop(), names, Alarms())
    yield made
    made.close()
    names.close()
    for _ in range(4):
        await asyncio.sleep(0)


def keep(upstream: AsyncioUpstream, target: Target) -> Connection:
    """A connection that has just carried a call."""
    connection = Connection(upstream, target)
    connection.connection_made(Transport())
    connection.requests = 1
    connection.reader.begin(False)
    connection.reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    upstream.release(connection)
    return connection


async def call(upstream: AsyncioUpstream, target: Target) -> Outcome:
    outcome = await upstream.send(Attempt(b"GET", b"/", [(b"Host", b"a")], None, target, 10.0))
    if outcome.body is not None:
        assert [part async for part in outcome.body]
    return outcome


async def test_one_call_after_the_other_goes_over_one_connection(upstream):
    with EvilServer([OK]) as server:
        for _ in range(3):
            assert (await call(upstream, Target("127.0.0.1", server.port))).status == 200
        assert server.connections == 3  # each target has its own
        target = Target("127.0.0.1", server.port)
        for _ in range(3):
            assert (await call(upstream, target)).status == 200
        assert (server.connections, upstream.idle_connections()) == (4, 4)


async def test_the_last_one_used_is_lent_first_and_none_that_is_closed_or_idle_for_too_long(upstream):
    target = Target("127.0.0.1", 1, idle_timeout=60.0)
    first = keep(upstream, target)
    upstream.alarms.at += 59.0
    second, gone = keep(upstream, target), keep(upstream, target)
    gone.closed = True
    assert upstream.take(target) is second
    upstream.alarms.at += 1.0
    assert upstream.take(target) is None
    assert first.closed
    assert not second.closed


async def test_one_timer_sees_to_all_that_are_idle_and_there_is_none_without(upstream):
    short, long = Target("127.0.0.1", 1, idle_timeout=5.0), Target("127.0.0.1", 2, idle_timeout=60.0)
    first, second = keep(upstream, short), keep(upstream, long)
    upstream.alarms.ring()
    assert (upstream.alarms.at, first.closed, second.closed) == (105.0, True, False)
    upstream.alarms.ring()
    assert (upstream.alarms.at, second.closed) == (160.0, True)
    assert (upstream.alarms.timers, upstream.idle_connections()) == ([], 0)


async def test_one_that_goes_by_itself_is_forgotten(upstream):
    target = Target("127.0.0.1", 1)
    keep(upstream, target).connection_lost(None)
    assert (upstream.idle_connections(), upstream.take(target)) == (0, None)


@pytest.mark.parametrize("settings", [{"max_requests": 1}, {"max_duration": 0.0}])
async def test_one_that_is_worn_out_is_not_kept(upstream, settings):
    assert keep(upstream, Target("127.0.0.1", 1, **settings)).closed
    assert upstream.idle_connections() == 0


async def test_a_target_that_is_dropped_takes_its_idle_connections_with_it(upstream):
    target = Target("127.0.0.1", 1)
    idle, other = keep(upstream, target), keep(upstream, Target("127.0.0.1", 2))
    upstream.drop_targets([target])
    assert (idle.closed, other.closed) == (True, False)


async def test_a_client_keeps_no_more_than_its_limits_allow_and_makes_room_by_the_oldest(upstream):
    limits = ClientLimits(httpx.Limits(max_connections=2, max_keepalive_connections=2))
    target = Target("127.0.0.1", 1, limits=limits)
    first = keep(upstream, target)
    upstream.alarms.at += 1.0
    second, third = keep(upstream, target), keep(upstream, target)
    assert [one.closed for one in (first, second, third)] == [False, False, True]
    assert limits.slots.try_acquire()
    upstream.make_room(limits)
    assert [one.closed for one in (first, second)] == [True, False]


async def test_closing_ends_calls_what_is_idle_and_what_is_waited_for(upstream):
    target = Target("127.0.0.1", 1)
    keep(upstream, target)
    busy, idle = upstream.take(target), keep(upstream, target)
    waiting = asyncio.ensure_future(hold(upstream))
    await asyncio.sleep(0)
    upstream.close()
    assert (busy.closed, idle.closed) == (True, True)
    with pytest.raises(TimeoutError):
        await waiting
    assert (await call(upstream, target)).failure is Failure.CLOSED


async def hold(upstream: AsyncioUpstream) -> None:
    async with upstream.until_closed():
        await asyncio.Event().wait()


async def test_a_call_that_is_cancelled_leaves_neither_connection_nor_slot(upstream):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = Target("127.0.0.1", listening.getsockname()[1], limits=limits)
        calling = asyncio.ensure_future(call(upstream, target))
        while not upstream._busy:
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert (upstream._busy, limits.slots.in_use) == (set(), 0)
