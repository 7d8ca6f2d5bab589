"""Streams on asyncio as their callers read them: by ``read``, by iterating, or by turns; up to the end and past it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, quick, soon
from tests.support.resources import to


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


# -- wait_for_connection ------------------------------------------------------------------------------------------------

BEGUN = {
    "unary": lambda stub: stub.Unary(Message(), timeout=60),
    "expand": lambda stub: stub.Expand(Message(count=1), timeout=60),
    "collect": lambda stub: stub.Collect(timeout=60),
    "chat": lambda stub: stub.Chat(timeout=60),
}


@pytest.mark.parametrize("kind", ["collect", "chat"])
async def test_a_stream_of_requests_is_connected_before_anything_is_written_or_answered(kind):
    with EchoServer(script=[30]) as server, mesh_of(server) as mesh:
        call = BEGUN[kind](stubs.EchoStub(mesh.aio_grpc_channel(TARGET)))
        await asyncio.wait_for(call.wait_for_connection(), 30)
        assert not call.done()
        await call.write(Message(text="x"))
        await call.done_writing()
        server.echo.release.set()
        if kind == "collect":
            assert (await call).text == "x"
        else:
            assert (await call.read()).server == "one"


@pytest.mark.parametrize("kind", BEGUN)
async def test_who_waits_for_a_connection_hears_that_the_call_failed(kind):
    with mesh_of(1) as mesh:
        call = BEGUN[kind](stubs.EchoStub(mesh.aio_grpc_channel(TARGET)))
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.wait_for(call.wait_for_connection(), 30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", BEGUN)
async def test_an_attempt_that_is_not_the_last_is_no_end_of_the_wait(kind):
    rules = [{"route": [to(HOST)], "retries": quick("unavailable", 2)}]
    with EchoServer(script=["UNAVAILABLE", "ok"]) as server, mesh_of(server, rules=rules) as mesh:
        call = BEGUN[kind](stubs.EchoStub(mesh.aio_grpc_channel(TARGET)))
        await asyncio.wait_for(call.wait_for_connection(), 30)
        if kind in ("collect", "chat"):
            await call.write(Message(text="x"))
            await call.done_writing()
        assert (await (call.read() if kind in ("expand", "chat") else call)).server == "one"
        assert len(server.seen) == 2


@pytest.mark.parametrize("kind", BEGUN)
async def test_who_stops_waiting_for_a_connection_cancels_the_call(kind):
    with EchoServer(script=[30]) as server, mesh_of(server) as mesh:
        call = BEGUN[kind](stubs.EchoStub(mesh.aio_grpc_channel(TARGET)))
        waiting = asyncio.create_task(call.wait_for_connection())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await soon(call.done)
        assert call.cancelled()
        assert await soon(lambda: mesh.status()["clusters"][0]["active"] == 0)
