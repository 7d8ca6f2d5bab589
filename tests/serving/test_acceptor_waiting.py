"""How long an acceptor waits for those who say nothing: one alarm for all of them, and none once it has stopped."""

from __future__ import annotations

import asyncio
import socket

import pytest

from meshlib.policy.mtls_mode import MtlsMode
from tests.support.acceptor import accepting, until
from tests.support.identities import CLIENT, World

STRICT, PERMISSIVE = MtlsMode.STRICT, MtlsMode.PERMISSIVE
WHO = f"{CLIENT} hello"


@pytest.fixture
def world() -> World:
    world = World()
    world.rotate()
    return world


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: the acceptor is not tried on it")
        policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
        return policy
    return asyncio.DefaultEventLoopPolicy()


async def test_each_is_waited_for_as_long_though_one_alarm_rings_for_all(world: World) -> None:
    async with accepting(world, STRICT) as port:
        waiting = []
        for _ in range(3):
            waiting.append(await port.connect())
            await until(lambda: port.acceptor.waiting == len(waiting))
            port.clock.advance(4)
        for left in (2, 1, 0):  # at 10, 14 and 18 seconds; the last one came at 8
            await until(lambda left=left: port.acceptor.waiting <= left)  # type: ignore[misc]
            assert port.acceptor.counts["timed_out"] == 3 - left
            assert await waiting[2 - left].ended() in ("ConnectionResetError", "closed")
            port.clock.advance(3.9)
            await asyncio.sleep(0)
            assert port.acceptor.waiting == left
            port.clock.advance(0.1)
        assert port.acceptor.counts["gone"] == 0  # they were cut off


async def test_one_that_stops_takes_in_no_more_than_may_wait(world: World) -> None:
    """Those whom they would take the place of hold their descriptors until the next turn."""
    async with accepting(world, STRICT, most_waiting=5, batch=2) as port:
        clients = [socket.create_connection(("127.0.0.1", port.port)) for _ in range(20)]
        port.acceptor.stop()
        assert port.acceptor.waiting == 5
        assert dict(port.acceptor.counts) == {"accepted": 5}
        for client in clients[5:]:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        for client in clients:
            client.close()


async def test_one_that_has_stopped_still_tells_whom_it_refuses(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with accepting(world, STRICT) as port:
        with socket.create_connection(("127.0.0.1", port.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            port.acceptor.stop()
            await port.acceptor.settled()
            client.setblocking(False)
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(client, 100)
        assert (port.acceptor.counts["reset"], port.acceptor.counts["gone"]) == (1, 0)
    assert f"plain text to port {port.port}" in caplog.text


async def test_what_was_said_before_it_stops_is_heard_before_it_has_settled(world: World) -> None:
    """Who drains waits no longer than that."""
    async with accepting(world, PERMISSIVE) as port:
        address = ("127.0.0.1", port.port)
        with socket.create_connection(address) as client, socket.create_connection(address):  # says nothing
            client.sendall(b"hello")
            port.acceptor.stop()
            await port.acceptor.settled()
            assert len(port.serves.made) == port.acceptor.waiting == 1
            client.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"plain hello"


async def test_no_alarm_is_left_of_one_that_has_stopped(world: World) -> None:
    async with accepting(world, STRICT) as port:
        assert await port.ask(world.client()) == WHO
        assert port.acceptor._alarm is not None
        port.acceptor.stop()
        assert port.acceptor._alarm is None
