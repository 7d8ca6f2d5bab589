"""``mesh.aio_grpc_channel``: its calls, its states, and its end."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.support.grpc_echo import Message, echo_servers
from tests.support.grpc_runtimes import (
    TARGET,
    Asyncio,
    mesh_of,
)


async def test_a_conversation_goes_back_and_forth_on_asyncio():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        call = Asyncio(mesh).stub.Chat()
        for text in "abc":
            await call.write(Message(text=text))
            assert (await call.read()).text == text
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert call.done()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(Message())
        await mesh.aclose()


async def test_connectivity_on_asyncio():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        channel = mesh.aio_grpc_channel(TARGET)
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        await asyncio.wait_for(channel.channel_ready(), 30)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        changed = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
        await asyncio.sleep(0.01)
        assert not changed.done()
        server.kill()
        await asyncio.wait_for(changed, 30)
        await channel.close()
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        await mesh.aclose()


async def test_one_mesh_serves_several_event_loops():
    with echo_servers(None) as [server], mesh_of(server) as mesh:

        def in_a_loop():
            async def ask():
                return await Asyncio(mesh).server()

            return asyncio.run(ask())

        assert await asyncio.gather(*[asyncio.to_thread(in_a_loop) for _ in range(4)]) == ["a"] * 4
