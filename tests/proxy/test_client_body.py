"""The body of a request while it comes."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.proxy.client_body import ClientBody, Source
from meshlib.transport.protocol.http2_request import read_head
from meshlib.transport.protocol.http2_server_stream import ServerStream
from meshlib.transport.protocol.request_body import SourceFailed

HEAD = read_head(((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")))
STREAM = ServerStream(1, HEAD, False, 0.0)


def test_the_window_is_given_back_as_pieces_are_taken():
    took: list[int] = []
    source = Source(lambda source, size: took.append(size), STREAM)
    source.put(b"ab")
    source.put(b"c")
    assert source.size == 3
    assert source.all() == b"abc"
    assert source.all() == b""
    assert (took, source.size) == ([3], 0)


def test_a_reader_waits_for_what_comes_and_for_the_end():
    async def read() -> list[bytes]:
        source = Source(lambda source, size: None, STREAM)
        pieces = []

        async def reader() -> None:
            async for piece in ClientBody(source):
                pieces.append(piece)

        task = asyncio.create_task(reader())
        await asyncio.sleep(0)
        source.put(b"a")
        source.put(b"b")
        await asyncio.sleep(0)
        source.put(b"c")
        await asyncio.sleep(0)
        source.end()
        await task
        return pieces

    assert asyncio.run(read()) == [b"ab", b"c"]


def test_a_body_that_breaks_off_is_not_one_that_ends():
    async def read() -> None:
        source = Source(lambda source, size: None, STREAM)
        source.put(b"a")
        source.fail(ConnectionResetError("gone"))
        async for piece in ClientBody(source):
            assert piece == b"a"

    with pytest.raises(SourceFailed, match="gone"):
        asyncio.run(read())


def test_the_next_attempt_goes_on_where_a_cancelled_one_was():
    async def read() -> bytes:
        source = Source(lambda source, size: None, STREAM)
        body = ClientBody(source)
        source.put(b"a")

        async def reader() -> bytes:
            return b"".join([piece async for piece in body])

        first = asyncio.create_task(reader())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        source.put(b"b")
        source.end()
        return await reader()

    assert asyncio.run(read()) == b"ab"


def test_a_reader_of_pieces_needs_nothing_but_them():
    async def read() -> list[bytes]:
        source = Source(lambda source, size: None, STREAM)
        source.put(b"a")
        source.end()
        source.end()
        return [piece async for piece in source]

    assert asyncio.run(read()) == [b"a"]


def test_trailers_are_known_at_the_end():
    source = Source(lambda source, size: None, STREAM)
    body = ClientBody(source)
    assert (body.duplex, body.trailers) == (True, [])
    source.trailers = [(b"a", b"b")]
    assert body.trailers == [(b"a", b"b")]


async def test_a_reader_of_a_body_that_is_cancelled_has_taken_nothing_from_the_next_one():
    """An attempt of a hedge may be: the other one must not take the body for shorter than it is."""
    left: list[int] = []
    asked: list[int] = []
    source = Source(lambda source, size: left.append(source.size), wanted=lambda: asked.append(1))
    waiting = asyncio.ensure_future(anext(source))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    source.put(b"abc")
    assert await anext(source) == b"abc"
    source.end()
    with pytest.raises(StopAsyncIteration):
        await anext(source)
    assert (left, asked) == ([0], [1])


def test_a_body_that_comes_before_it_is_asked_for_is_not_asked_for():
    async def read() -> bytes:
        source = Source(lambda source, size: None, wanted=lambda: pytest.fail("it is here"))
        source.put(b"a")
        return await anext(source)

    assert asyncio.run(read()) == b"a"
