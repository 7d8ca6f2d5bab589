"""Connections after 101: raw bytes both ways until somebody closes them. (Whole calls: tests/mesh/test_httpx_websockets.py.)"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import partial

import pytest

from meshlib.transport.upstream.switched import CLOSED, AsyncSwitched, SyncSwitched


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        yield mine, theirs


def test_what_came_with_the_head_is_read_first_and_in_pieces(pair):
    mine, theirs = pair
    switched = SyncSwitched(mine, b"early", lambda: None)
    theirs.sendall(b"later")
    assert [switched.read(3, 5), switched.read(99, 5), switched.read(99, 5)] == [b"ear", b"ly", b"later"]
    switched.write(b"x" * 10, 5)
    assert theirs.recv(99) == b"x" * 10
    assert list(switched) == []
    theirs.close()
    assert switched.read(1, 5) == b""
    switched.close()


def test_nothing_to_read_and_no_room_to_write_end_in_time(pair):
    mine, _ = pair
    switched = SyncSwitched(mine, b"", lambda: None)
    with pytest.raises(TimeoutError, match="nothing to read in time"):
        switched.read(1, 0.01)
    with pytest.raises(TimeoutError, match="nothing could be written in time"):
        switched.write(b"x" * 10_000_000, 0.01)
    switched.close()


def test_closing_wakes_who_reads_and_gives_up_once(pair):
    mine, _ = pair
    given_up: list[int] = []
    switched = SyncSwitched(mine, b"", lambda: given_up.append(1))
    ended: list[object] = []

    def read() -> None:
        try:
            ended.append(switched.read(1, 60))
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    switched.close()
    switched.abort()
    thread.join(30)
    assert not thread.is_alive()
    assert len(ended) == 1
    assert given_up == [1]
    with pytest.raises(ConnectionAbortedError, match=CLOSED):
        switched.write(b"x", 1)


def test_one_that_is_dropped_with_all_that_holds_it_closes_its_connection_without_a_warning(monkeypatch):
    """A caller may drop a stream, its client and the mesh at once: they are one piece of garbage, with the socket in it."""
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: heard.append(told.exc_value))
    mine, theirs = socket.socketpair()
    given_up: list[int] = []

    def discard(sock: socket.socket) -> None:
        given_up.append(1)
        sock.close()

    whole: list[object] = [mine]
    whole += [whole, SyncSwitched(mine, b"", partial(discard, mine))]
    del mine, whole
    with theirs, warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
        assert theirs.recv(1) == b""
    assert (given_up, heard) == ([1], [])


async def on_loop(left: bytes = b"") -> tuple[AsyncSwitched, socket.socket, list[int]]:
    mine, theirs = socket.socketpair()
    given_up: list[int] = []
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=mine)
    return AsyncSwitched(loop, transport, left, lambda: given_up.append(1)), theirs, given_up


async def test_on_a_loop_it_is_the_same():
    switched, theirs, given_up = await on_loop(b"early")
    with theirs:
        theirs.sendall(b"later")
        assert [await switched.read(3, 5), await switched.read(99, 5)] == [b"ear", b"ly"]
        assert await switched.read(99, 5) == b"later"
        await switched.write(b"x", 5)
        assert theirs.recv(9) == b"x"
        with pytest.raises(TimeoutError, match="nothing to read in time"):
            await switched.read(1, 0.01)
        assert [chunk async for chunk in switched] == []
        await switched.aclose()
        switched.abort()
        assert given_up == [1]
        assert theirs.recv(1) == b""
        with pytest.raises(ConnectionAbortedError):
            await switched.write(b"x", 1)


async def test_on_a_loop_one_that_is_dropped_closes_too():
    switched, theirs, given_up = await on_loop()
    with theirs:
        del switched
        gc.collect()
        while not given_up:
            await asyncio.sleep(0)
        theirs.settimeout(30)
        assert await asyncio.to_thread(theirs.recv, 1) == b""
