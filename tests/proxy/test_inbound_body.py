"""The body of a request as checks look at it and as the application reads it."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.policy.refusal import Refusal
from meshlib.proxy.inbound_body import ServedBody, TooLong, WholeBody

PIECES = [b"one", b"two", b"three"]


async def pieces():
    for piece in PIECES:
        yield piece


class Counted:
    def __init__(self, most: int = 1000) -> None:
        self.size, self.most = 0, most

    def __call__(self, size: int) -> Refusal | None:
        self.size += size
        return Refusal(413, "Payload Too Large") if self.size > self.most else None


async def read(body: ServedBody) -> list[bytes]:
    return [piece async for piece in body]


def test_it_is_counted_as_the_application_reads_it():
    async def scene():
        counted = Counted()
        assert await read(ServedBody(pieces(), counted)) == PIECES
        assert counted.size == 11

    asyncio.run(scene())


def test_whoever_has_looked_at_its_beginning_has_taken_nothing():
    async def scene():
        counted = Counted()
        body = ServedBody(pieces(), counted)
        assert await body.peek_async(2) == (b"one", False)
        assert await body.peek_async(4) == (b"onetwo", False)
        assert await body.peek_async(4) == (b"onetwo", False)
        assert await body.peek_async(100) == (b"onetwothree", True)
        assert counted.size == 0
        assert await read(body) == PIECES
        assert counted.size == 11

    asyncio.run(scene())


def test_where_more_has_come_than_may_it_breaks_off_and_says_why():
    async def scene():
        body = ServedBody(pieces(), Counted(5))
        with pytest.raises(TooLong) as raised:
            await read(body)
        assert raised.value.refusal is body.too_long
        assert body.too_long.status == 413

    asyncio.run(scene())


def test_one_that_is_all_here_shows_all():
    assert asyncio.run(WholeBody(b"all").peek_async(1)) == (b"all", True)
