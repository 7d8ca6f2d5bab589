"""A connection before it is served: its transport reads what its client says first, and goes on with what serves it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from meshlib.serving.unheard import Unheard
from tests.support.acceptor import until


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: connections are not tried on it")
        policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
        return policy
    return asyncio.DefaultEventLoopPolicy()


class Served(asyncio.Protocol):
    """Notes what it hears; may close at once."""

    def __init__(self, closes: bool = False) -> None:
        self.heard: list[object] = []
        self._closes = closes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self.heard.append("made")
        if self._closes:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.append("lost")


class Accepted:
    """A client, and its connection, which listens."""

    def __init__(self, client: socket.socket, sock: socket.socket, closes: bool) -> None:
        self.client = client
        self.served = Served(closes)
        self.first: list[bytes] = []
        self.gone = 0
        self.unheard = Unheard(sock, self._heard, self._silent)

    def _heard(self, unheard: Unheard, data: bytes) -> None:
        self.first.append(data)
        unheard.pass_on(self.served, data)

    def _silent(self, unheard: Unheard) -> None:
        self.gone += 1


@contextlib.asynccontextmanager
async def accepted(closes: bool = False) -> AsyncIterator[Accepted]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        sock, _ = listener.accept()
        sock.setblocking(False)
        made = Accepted(client, sock, closes)
        made.unheard.listen(asyncio.get_running_loop())
        yield made
        made.unheard.drop()
        if made.served.heard:
            made.served.transport.abort()
        await until(lambda: sock.fileno() < 0)


async def test_what_serves_it_hears_all_that_was_said() -> None:
    async with accepted() as connection:
        connection.client.sendall(b"first")
        await until(lambda: len(connection.served.heard) == 2)
        assert connection.served.heard == ["made", b"first"]
        unheard = connection.unheard
        assert unheard.transport is unheard._took is None, "it refers to itself, and is left to the garbage collector"
        connection.client.sendall(b"second")
        await until(lambda: len(connection.served.heard) == 3)
        assert connection.served.heard[2] == b"second"
        assert connection.first == [b"first"]
        connection.client.close()
        await until(lambda: "lost" in connection.served.heard)
    assert connection.gone == 0


async def test_what_closes_it_at_once_hears_nothing_more() -> None:
    async with accepted(closes=True) as connection:
        connection.client.sendall(b"first")
        await until(lambda: "lost" in connection.served.heard)
        assert connection.served.heard == ["made", "lost"]


async def test_a_client_that_goes_without_a_word_is_told_of_once() -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async with accepted() as connection:
        connection.client.close()
        await until(lambda: connection.gone == 1)
    assert (connection.first, connection.gone) == ([], 1)
    unheard = connection.unheard
    assert unheard._connecting is unheard._took is None, "it refers to itself, and is left to the garbage collector"
    assert not problems


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_it_may_be_closed_before_it_has_said_anything(when: str) -> None:
    """At once it has no transport yet."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async with accepted() as connection:
        if when == "later":
            await until(lambda: connection.unheard.transport is not None)
        connection.client.sendall(b"first")
        connection.unheard.drop()
    assert connection.first == []
    assert not problems


async def test_it_says_who_it_is() -> None:
    async with accepted() as connection:
        name: Callable[[], tuple[str, int]] = connection.client.getsockname
        assert connection.unheard.peer == f"127.0.0.1:{name()[1]}"
