"""Messages of a stream on asyncio: those of the installed grpcio come straight from the binding, others by its iterator."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from meshlib.transport.grpcio.client import aio_messages
from meshlib.transport.grpcio.client.aio_messages import CoreMessages, IteratedMessages, messages_of
from tests.support.grpc_echo import SERVICE, EchoServer, Message


@pytest.fixture(params=[CoreMessages, IteratedMessages])
def kind(request, monkeypatch):
    monkeypatch.setattr(aio_messages, "PLAIN", request.param is IteratedMessages)
    return request.param


async def read_to_end(messages):
    found = []
    while (message := await messages.read()) is not grpc.aio.EOF:
        found.append((message.text, messages.size))
    return found


def expand(channel, count, decode=Message.FromString):
    method = channel.unary_stream(f"/{SERVICE}/Expand", response_deserializer=decode)
    return method(Message(count=count).SerializeToString())


async def test_each_comes_with_its_size_and_after_the_last_the_end_is_said_again_and_again(kind):
    with EchoServer() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            messages = messages_of(expand(channel, 3))
            assert type(messages) is kind
            found = await read_to_end(messages)
            assert [text for text, _ in found] == ["0", "1", "2"]
            assert all(size > 5 for _, size in found)
            assert [await messages.read() for _ in range(2)] == [grpc.aio.EOF] * 2


async def test_a_stream_without_messages_has_an_end(kind):
    with EchoServer() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            assert await messages_of(expand(channel, 0)).read() is grpc.aio.EOF


async def test_its_status_is_raised_after_the_last(kind):
    with EchoServer("a", [("after", 2, "ABORTED")]) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            messages = messages_of(expand(channel, 5))
            for _ in range(2):
                await messages.read()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await messages.read()
            assert raised.value.code() is grpc.StatusCode.ABORTED


async def test_one_that_cannot_be_deserialized_is_none_as_grpcio_has_it(kind):
    def refused(_data):
        raise ValueError("no message")

    with EchoServer() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            assert await messages_of(expand(channel, 1, refused)).read() is None


async def test_who_cancels_the_call_ends_the_wait_for_a_message(kind):
    with EchoServer("a", ["ok"]) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.stream_stream(f"/{SERVICE}/Chat")()
            messages = messages_of(call)
            reading = asyncio.ensure_future(messages.read())
            await call.wait_for_connection()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading


def test_a_call_that_is_not_as_known_is_iterated(monkeypatch):
    class Other:
        async def __aiter__(self):
            yield b"1"

    assert type(messages_of(Other())) is IteratedMessages

    class Changed(Other):
        _cython_call = _preparation = _raise_for_status = _response_deserializer = None

    assert type(messages_of(Changed())) is IteratedMessages
