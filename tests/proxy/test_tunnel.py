"""Bytes both ways between a client and an upstream that have left HTTP."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.proxy import tunnel as module
from meshlib.proxy.tunnel import AHEAD, Tunnel


class Transport:
    """A client's."""

    def __init__(self):
        self.written, self.closed, self.reading = b"", False, True

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Upstream:
    """One that says what it is told to, and takes what it may."""

    def __init__(self):
        self.to_read, self.written, self.closed = asyncio.Queue(), b"", False
        self.takes = asyncio.Event()
        self.takes.set()

    async def read(self, _most, _timeout):
        found = await self.to_read.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def write(self, data, _timeout):
        await self.takes.wait()
        self.written += data

    async def aclose(self):
        self.closed = True


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


async def made():
    client, upstream = Transport(), Upstream()
    return client, upstream, Tunnel(asyncio.get_running_loop(), client, upstream)


async def test_what_each_side_says_arrives_at_the_other():
    client, upstream, tunnel = await made()
    tunnel.received(b"up")
    upstream.to_read.put_nowait(b"down")
    await turns()
    assert (client.written, upstream.written) == (b"down", b"up")
    tunnel.lost()
    upstream.to_read.put_nowait(b"")
    await turns()


@pytest.mark.parametrize("end", [b"", ConnectionResetError()])
async def test_the_end_of_the_upstream_is_the_clients(end):
    client, upstream, tunnel = await made()
    upstream.to_read.put_nowait(end)
    await turns()
    assert client.closed
    tunnel.lost()
    await turns()
    assert upstream.closed


async def test_what_the_client_said_last_still_goes_out():
    _, upstream, tunnel = await made()
    tunnel.received(b"last")
    tunnel.lost()
    upstream.to_read.put_nowait(b"")
    await turns()
    assert (upstream.written, upstream.closed) == (b"last", True)


async def test_a_client_that_is_ahead_of_the_upstream_is_not_read():
    client, upstream, tunnel = await made()
    upstream.takes.clear()
    tunnel.received(b"x")
    await turns()
    tunnel.received(b"x" * (AHEAD + 1))
    assert not client.reading
    upstream.takes.set()
    await turns()
    assert client.reading
    tunnel.lost()
    upstream.to_read.put_nowait(b"")
    await turns()


async def test_a_client_that_is_behind_is_not_written_to():
    client, upstream, tunnel = await made()
    tunnel.writable(False)
    upstream.to_read.put_nowait(b"one")
    upstream.to_read.put_nowait(b"two")
    await turns()
    assert client.written == b"one"
    tunnel.writable(True)
    await turns()
    assert client.written == b"onetwo"
    tunnel.lost()
    upstream.to_read.put_nowait(b"")
    await turns()


async def test_a_client_that_says_no_more_is_not_written_to_either_as_in_envoy():
    _, upstream, tunnel = await made()
    assert tunnel.ended() is False
    tunnel.lost()
    upstream.to_read.put_nowait(b"")
    await turns()


async def test_an_upstream_that_takes_nothing_of_a_client_that_has_gone_is_left(monkeypatch):
    """It would keep both tasks, its connection and what is served there for ever."""
    monkeypatch.setattr(module, "LINGER", 0.0)
    _, upstream, tunnel = await made()
    upstream.takes.clear()
    tunnel.received(b"x")
    await turns()
    tunnel.lost()
    await turns()
    assert upstream.closed
    assert all(task.done() for task in tunnel._tasks)
