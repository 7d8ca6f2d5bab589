"""Streams of requests on asyncio, whose calls end while they are read, or which raise by themselves."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from meshlib.transport.grpcio.client.aio_requests import AioRequests


@pytest.mark.parametrize(
    "error", [grpc.aio.InternalError("batch"), asyncio.InvalidStateError("over")], ids=["core", "done"]
)
async def test_a_call_that_ends_while_its_iterator_is_read_is_not_cancelled_for_it(error):
    """Its status is what the caller is to hear: a deadline, say."""

    class Over:
        async def write(self, _data: bytes) -> None:
            raise error

    cancelled: list[bool] = []
    requests = AioRequests(iter([b"one", b"two"]), None, lambda: cancelled.append(True))
    requests.commit()
    requests.attach(Over())
    await asyncio.gather(*requests._tasks)
    assert (cancelled, requests.error) == ([], None)


async def test_an_iterator_that_raises_what_an_ended_call_raises_is_its_own_doing():
    async def source():
        yield b"one"
        raise grpc.aio.InternalError("of another call")

    class Taking:
        async def write(self, _data: bytes) -> None:
            """Takes it."""

    cancelled: list[bool] = []
    requests = AioRequests(source(), None, lambda: cancelled.append(True))
    requests.commit()
    requests.attach(Taking())
    await asyncio.gather(*requests._tasks)
    assert cancelled == [True]
    assert isinstance(requests.error, grpc.aio.InternalError)
