"""A port that dies and is revived."""

from __future__ import annotations

import asyncio
import socket

import pytest

from meshlib.testing.upstreams.listener import Listener, LoopThread


class Silent(asyncio.Protocol):
    """Accepts, and says nothing."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.listener.opened(transport)
        transport.write(b"hello")


@pytest.fixture
def thread():
    made = LoopThread()
    yield made
    made.close()


def test_while_it_is_stopped_its_port_refuses_and_belongs_to_nobody_else(thread):
    listener = Listener(Silent)
    thread.run(listener.start())
    with socket.create_connection(("127.0.0.1", listener.port)) as open_one:
        assert open_one.recv(5) == b"hello"
        thread.run(listener.stop())
        with pytest.raises(ConnectionResetError):
            open_one.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.port))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", listener.port))
    thread.run(listener.start())
    socket.create_connection(("127.0.0.1", listener.port)).close()
    thread.run(listener.close())


def test_what_runs_on_the_loop_ends_with_it():
    thread = LoopThread()

    async def begin() -> asyncio.Task[bool]:
        return asyncio.ensure_future(asyncio.Event().wait())

    task = thread.run(begin())
    thread.close()
    assert task.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        thread.run(begin())
