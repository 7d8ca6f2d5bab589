"""Streams on asyncio as their callers read them: by ``read``, by iterating, or by turns; up to the end and past it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_worlds import TARGET, mesh_of, soon


async def test_a_stream_that_ended_badly_says_so_at_every_read():
    with EchoServer("a", [("after", 2, "ABORTED")]) as server:
        async with mesh_of(server) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
            stub = stubs.EchoStub(channel)
            call = stub.Expand(Message(count=5))
            assert [(await call.read()).text for _ in range(2)] == ["0", "1"]
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call.read()
                assert raised.value.code() is grpc.StatusCode.ABORTED
                assert raised.value.exchange is call.exchange
            iterated = stub.Expand(Message(count=5))
            received = []

            async def iterate():
                async for message in iterated:
                    received.append(message.text)

            with pytest.raises(grpc.aio.AioRpcError, match="ABORTED"):
                await iterate()
            assert received == ["0", "1"]
            with pytest.raises(grpc.aio.AioRpcError, match="ABORTED"):
                await iterated.read()


async def test_a_stream_is_read_to_its_end_however_late():
    with EchoServer() as server:
        async with mesh_of(server) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
            call = stubs.EchoStub(channel).Expand(Message(count=5))
            assert (await call.read()).text == "0"
            await asyncio.sleep(0.2)  # its status is here by now, and so are its messages
            rest = [(await call.read()).text for _ in range(4)]
            assert rest == ["1", "2", "3", "4"]
            assert [await call.read() for _ in range(2)] == [grpc.aio.EOF] * 2


async def test_a_stream_can_be_read_and_iterated_by_turns():
    with EchoServer() as server:
        async with mesh_of(server) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
            call = stubs.EchoStub(channel).Expand(Message(count=5))
            found = [(await call.read()).text]
            async for message in call:
                found.append(message.text)
                if len(found) == 3:
                    break
            found += [message.text async for message in call]
            assert found == ["0", "1", "2", "3", "4"]


async def test_a_stream_that_is_cancelled_while_it_is_iterated_is_over():
    with EchoServer("a", ["ok"]) as server:
        async with mesh_of(server) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
            release = asyncio.Event()

            async def requests():
                yield Message(text="a")
                await release.wait()

            call = stubs.EchoStub(channel).Chat(requests())
            received = []

            async def iterate():
                async for message in call:
                    received.append(message.text)

            task = asyncio.create_task(iterate())
            assert await soon(lambda: received)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.cancelled()
            assert await call.code() is grpc.StatusCode.CANCELLED
