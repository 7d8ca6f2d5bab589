"""``response.extensions["network_stream"]`` of a pool's connection: it tells, and lets nobody read or write."""

from __future__ import annotations

import asyncio
import socket

import httpcore
import httpcore2
import httpx
import httpx2
import pytest

from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.upstream.network_stream import AsyncPooledStream, PooledStream, switched_streams


def test_a_connection_of_threads_tells_of_itself_and_carries_no_further_request_once_closed():
    mine, theirs = socket.socketpair()
    with mine, theirs:
        reader = ResponseReader()
        stream = PooledStream(mine, reader)
        assert stream.get_extra_info("socket") is mine
        assert stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("is_readable") is False
        theirs.sendall(b"x")
        assert stream.get_extra_info("is_readable") is True
        assert stream.get_extra_info("weather") is None
        for use in (lambda: stream.read(1), lambda: stream.write(b"x")):
            with pytest.raises(RuntimeError, match="belongs to a pool of the mesh"):
                use()
        assert not reader.poisoned
        stream.close()
        assert reader.poisoned
        PooledStream(mine).close()  # HTTP/2: other calls are on it


async def test_so_does_one_of_a_loop():
    mine, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=mine)
        reader = ResponseReader()
        stream = AsyncPooledStream(transport, reader)
        assert stream.get_extra_info("socket").fileno() == mine.fileno()
        with pytest.raises(RuntimeError, match="belongs to a pool"):
            await stream.read(1)
        with pytest.raises(RuntimeError, match="belongs to a pool"):
            await stream.write(b"x")
        await stream.aclose()
        assert reader.poisoned
        transport.close()


class Switched:
    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def read(self, most: int, timeout: float | None) -> bytes:
        if self.error:
            raise self.error
        return b"r" * most

    write = read

    def extra(self, name: str) -> str:
        return name


@pytest.mark.parametrize(("module", "core"), [(httpx, httpcore), (httpx2, httpcore2)])
def test_after_101_it_is_the_callers_with_its_own_cores_exceptions(module, core):
    kind = switched_streams(module).sync
    assert switched_streams(module).sync is kind, "made once"
    closed: list[int] = []
    stream = kind(Switched(None), lambda: closed.append(1))
    assert isinstance(stream, core.NetworkStream)
    assert (stream.read(3), stream.get_extra_info("socket")) == (b"rrr", "socket")
    stream.close()
    assert closed == [1]
    for error, read, write in (
        (TimeoutError("late"), core.ReadTimeout, core.WriteTimeout),
        (ConnectionResetError("cut"), core.ReadError, core.WriteError),
    ):
        broken = kind(Switched(error), lambda: None)
        with pytest.raises(read, match=str(error)):
            broken.read(1)
        with pytest.raises(write, match=str(error)):
            broken.write(1)
