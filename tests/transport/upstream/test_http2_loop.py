"""HTTP/2 connections of a loop: which there are, and which task makes the next one. (Calls: test_http2_call.py.)"""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from meshlib.alarms import Alarms
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.framing import framing_of
from meshlib.transport.protocol.heads_to_send import sent_head_of
from meshlib.transport.upstream import http2_loop
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_loop import HTTP1_SECONDS, AsyncioHttp2
from meshlib.transport.upstream.loop_connection import closed
from meshlib.transport.upstream.loop_deadlines import Deadlines
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import HTTP2_OR_1
from tests.support.h2_server import SETTINGS, H2Server
from tests.support.loop_lender import Transport


class Http1Transport(Transport):
    """Of a server that chose HTTP/1.1."""

    def get_extra_info(self, name, default=None):
        return self if name == "ssl_object" else default

    def selected_alpn_protocol(self) -> str:
        return "http/1.1"


class Beside:
    """The pool of HTTP/1.1 connections. ``dials`` are the protocols that were offered; ``made`` is what a dial makes, an
    exception to raise or None for a connection."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.alarms = Alarms()
        self.deadlines = Deadlines(self.loop)
        self.closed = False
        self.dials: list = []
        self.adopted: list = []
        self.made: asyncio.Transport | Exception | None = None
        self.at = 100.0

    def now(self) -> float:
        return self.at

    async def dial(self, protocol, target, protocols, trace=None):
        self.dials.append(protocols)
        if isinstance(self.made, Exception):
            raise self.made
        if self.made is not None:
            return self.made
        transport, _ = await self.loop.create_connection(lambda: protocol, target.host, target.port)
        return transport

    def adopt(self, transport, target) -> None:
        self.adopted.append((transport, target))

    def takes_slot(self, slots, limits) -> bool:
        return slots.try_acquire()

    def make_room(self, limits) -> None:
        """There is none to make."""

    def idle_of(self, limits) -> int:
        return 0

    @contextlib.asynccontextmanager
    async def until_closed(self, limit=None):
        yield


@pytest.fixture
async def beside():
    made = Beside()
    yield made
    made.deadlines.close()
    made.alarms.close()


@pytest.fixture
async def pool(beside):
    made = AsyncioHttp2(beside)
    yield made
    made.close()
    await closed()


@pytest.fixture
def server():
    with H2Server() as made:
        yield made


def target_of(server: H2Server, **settings) -> Target:
    return Target("127.0.0.1", server.port, http2=True, **settings)


async def send(pool: AsyncioHttp2, target: Target, method: bytes = b"GET") -> Outcome | None:
    attempt = Attempt(method, b"/", [(b"Host", b"a")], None, target)
    return await pool.send(attempt, framing_of(attempt.headers, None))


async def call(pool: AsyncioHttp2, target: Target) -> Outcome | None:
    found = await send(pool, target)
    if found is not None and found.body is not None:
        assert b"".join([part async for part in found.body]) == b"GET /"
    return found


async def test_calls_share_a_connection_and_each_target_has_its_own(pool, beside, server):
    first, second = target_of(server), target_of(server)
    assert [(await call(pool, target)).status for target in (first, first, second, first)] == [200] * 4
    assert (beside.dials, pool.idle_connections()) == ([HTTP2_OR_1] * 2, 2)


async def test_calls_that_come_together_wait_for_one_connection(pool, beside, server):
    target = target_of(server)
    outcomes = await asyncio.gather(*(call(pool, target) for _ in range(5)))
    assert [outcome.status for outcome in outcomes] == [200] * 5
    assert len(beside.dials) == 1


async def test_each_of_them_has_a_failure_of_its_own(pool, beside):
    beside.made = ConnectionRefusedError("nobody there")
    target = Target("127.0.0.1", 1, http2=True)
    first, second = await asyncio.gather(call(pool, target), call(pool, target))
    assert (first.failure, second.failure) == (Failure.CONNECT_FAILED,) * 2
    assert first is not second
    assert (len(beside.dials), pool._pools) == (1, {})


async def test_a_call_beyond_what_the_others_leave_room_for_makes_another(pool, beside, server):
    server.answer = lambda peer, request: peer.head(request)
    target = target_of(server, max_concurrent_streams=1)
    held = [await send(pool, target) for _ in range(2)]
    assert (len(beside.dials), pool.idle_connections()) == (2, 0)
    for outcome in held:
        outcome.body.abort()
    assert pool.idle_connections() == 2


async def test_a_server_that_chose_http1_gives_its_connection_away_and_is_not_asked_again_for_a_while(pool, beside):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    target = Target("127.0.0.1", 1, tls=object(), http2=True, limits=limits)
    beside.made = transport = Http1Transport()
    assert await call(pool, target) is None
    assert (beside.adopted, limits.slots.in_use) == ([(transport, target)], 0)
    beside.at += HTTP1_SECONDS - 1
    assert await call(pool, target) is None
    assert len(beside.dials) == 1
    beside.at += 1
    await call(pool, target)
    assert len(beside.dials) == 2


async def test_an_open_connection_holds_a_slot_until_it_is_closed(pool, server):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    slots: Slots = limits.slots
    assert (await call(pool, target_of(server, limits=limits))).status == 200
    assert (slots.in_use, pool.idle_of(limits)) == (1, 1)
    assert pool.retire_idle(limits)
    await closed()
    assert (slots.in_use, pool.retire_idle(limits)) == (0, False)


async def test_a_server_without_streams_is_let_go(pool, beside):
    with H2Server(settings={SETTINGS.MAX_CONCURRENT_STREAMS: 0}) as server:
        assert (await call(pool, target_of(server))).failure is Failure.REFUSED
        await closed()
        assert (len(beside.dials), pool._open) == (1, set())


async def test_nothing_is_dialled_for_a_head_that_cannot_be_written_or_when_the_mesh_is_closed(pool, beside, server):
    assert (await send(pool, target_of(server), b"G T")).failure is Failure.INVALID_REQUEST
    beside.closed = True
    assert (await call(pool, target_of(server))).failure is Failure.CLOSED
    assert beside.dials == []


async def test_a_target_that_is_dropped_takes_its_connections_with_it(pool, server):
    target, other = target_of(server), target_of(server)
    for one in (target, other):
        await call(pool, one)
    pool.drop_target(target)
    await closed()
    assert (pool.idle_connections(), list(pool._pools)) == (1, [other])


@pytest.fixture
def shortcuts(monkeypatch):
    """Also where MESHLIB_PLAIN=1 is set for the tests: this is about what it turns off."""
    monkeypatch.setattr(http2_loop, "PLAIN", False)


@pytest.mark.usefixtures("shortcuts")
async def test_a_call_that_is_cancelled_before_its_response_leaves_no_stream_and_no_time(pool, beside, server):
    """Its stream was opened, and its wait begun, before anything was awaited."""
    target = target_of(server)
    await call(pool, target)
    server.answer = lambda peer, request: None
    head = sent_head_of([(b"Host", b"a")])
    assert head is not None
    begun = pool.begun(Attempt(b"GET", b"/", head, None, target, 60.0))
    assert begun is not None
    task = asyncio.create_task(begun)
    (connection,) = pool._open
    assert len(connection.session.streams) == 1
    await asyncio.sleep(0)
    assert len(beside.deadlines.at) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (connection.session.streams, beside.deadlines.at) == ({}, {})


@pytest.mark.usefixtures("shortcuts")
async def test_a_call_that_is_alone_is_written_at_once_and_one_beside_others_after_their_turn(pool, server):
    first, second = target_of(server), target_of(server)
    for target in (first, second):
        await call(pool, target)
    server.answer = lambda peer, request: None
    written = []
    for connection in pool._open:

        def flush(connection=connection, flush=connection.flush) -> None:
            written.append(connection.target)
            flush()

        connection.flush = flush
    tasks = [asyncio.create_task(send(pool, first))]
    await asyncio.sleep(0)
    assert (written, pool.waiting) == ([first], 1)
    tasks.append(asyncio.create_task(send(pool, second)))
    await asyncio.sleep(0)
    assert (written, pool.waiting) == ([first], 2)
    await asyncio.sleep(0)
    assert written == [first, second]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pool.waiting == 0


async def test_what_is_received_while_others_wait_is_acknowledged_though_nobody_goes_on(pool, server):
    """A PING comes beside calls that wait: its acknowledgement is written after the turn."""
    target = target_of(server)
    await call(pool, target)
    server.answer = lambda peer, request: None
    tasks = [asyncio.create_task(send(pool, target)) for _ in range(2)]
    await asyncio.sleep(0.01)
    (connection,) = pool._open
    written = []
    write = connection.transport.write

    class Transport:
        def __getattr__(self, name):
            return getattr(real, name)

        def write(self, data):
            written.append(data)
            write(data)

    real, connection.transport = connection.transport, Transport()
    connection.data_received(b"\0\0\x08\x06\0\0\0\0\0" + b"12345678")
    for _ in range(3):
        await asyncio.sleep(0)
    assert b"".join(written) == b"\0\0\x08\x06\1\0\0\0\0" + b"12345678"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
