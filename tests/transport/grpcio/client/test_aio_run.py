"""What drives a call on asyncio with a single response: begun late or early, awaited or not, cancelled or not."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.support.grpc_echo import Message, echo_servers
from tests.support.grpc_runtimes import (
    Asyncio,
    active,
    mesh_of,
)


async def test_a_cancelled_call_on_asyncio_says_so():
    with echo_servers([30]) as [server], mesh_of(server) as mesh:
        runtime = Asyncio(mesh)
        for call in (
            runtime.stub.Unary(Message()),
            runtime.stub.Expand(Message(count=1)),
            runtime.stub.Collect(),
            runtime.stub.Chat(),
        ):
            await asyncio.sleep(0.02)
            assert not call.done()
            assert call.cancel()
            assert call.cancelled()
            with pytest.raises(asyncio.CancelledError):
                await (call.read() if hasattr(call, "read") else call)
            assert await call.code() is grpc.StatusCode.CANCELLED
            assert not call.cancel()
        await asyncio.sleep(0)
        assert active(mesh) == 0
        await mesh.aclose()


async def test_a_cancelled_task_cancels_its_call():
    with echo_servers([30]) as [server], mesh_of(server) as mesh:
        runtime = Asyncio(mesh)
        task = asyncio.create_task(runtime.unary())
        while not server.seen:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert active(mesh) == 0
        await mesh.aclose()


async def test_a_call_on_asyncio_goes_on_when_nobody_awaits_it_yet():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        call = Asyncio(mesh).stub.Unary(Message(text="x"))
        done = asyncio.Event()
        call.add_done_callback(lambda c: done.set())
        await asyncio.wait_for(done.wait(), 30)
        assert len(server.seen) == 1
        assert (await call).text == "x"
        assert (await call).text == "x"
        await mesh.aclose()
