"""The four kinds of calls through the mesh: what arrives, what comes back, and what a caller can ask of a call."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

import meshlib
from benchmarks.free_ports import free_port
from tests.support.grpc_echo import SERVICE, EchoServer, Message, echo_servers, eventually, stubs
from tests.support.grpc_runtimes import (
    ANSWERS,
    HOST,
    KINDS,
    TARGET,
    Asyncio,
    Threads,
    by_kind,
    mesh_of,
    refused,
)
from tests.support.h2_server import H2Server
from tests.support.resources import to


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_is_answered(runtime_class, kind):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        runtime = runtime_class(mesh)
        assert await by_kind(runtime, kind) == ANSWERS[kind]
        assert [s.metadata["x-envoy-attempt-count"] for s in server.seen] == ["1"]
        await runtime.close()


async def test_the_server_sees_the_mesh_host_as_authority(runtime_class):
    seen = []

    def answer(peer, request, **_):
        seen.append((request.header(b":authority"), request.path))
        peer.respond(request, b"", headers=[(b"content-type", b"application/grpc"), (b"grpc-status", b"5")])

    with H2Server(answer) as server, mesh_of(server.port) as mesh:  # grpcio's servers do not show it
        error = await refused(runtime_class(mesh).unary(timeout=60))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert seen == [(TARGET.encode(), f"/{SERVICE}/Unary")]
        await mesh.aclose()


async def test_metadata_named_host_says_nothing_of_the_authority(runtime_class):
    """When a rule changes headers, it reads them all."""
    seen = []

    def answer(peer, request, **_):
        seen.append(request.header(b":authority"))
        peer.respond(request, b"", headers=[(b"content-type", b"application/grpc"), (b"grpc-status", b"5")])

    rules = [{"headers": {"request": {"set": {"x-rule": "1"}}}, "route": [to(HOST)]}]
    with H2Server(answer) as server, mesh_of(server.port, rules=rules) as mesh:
        await refused(runtime_class(mesh).unary(timeout=60, metadata=(("host", "elsewhere.test"),)))
        await mesh.aclose()
    assert seen == [TARGET.encode()]


@pytest.mark.parametrize("kind", KINDS)
async def test_metadata_goes_both_ways(runtime_class, kind):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        runtime = runtime_class(mesh)
        sent = (("end-user", "jason"), ("token-bin", b"\x00\xff"), ("twice", "a"), ("twice", "b"))
        await by_kind(runtime, kind, metadata=sent)
        (seen,) = server.seen
        assert seen.metadata["end-user"] == "jason"
        assert seen.metadata["token-bin"] == b"\x00\xff"
        _, _, trailing, exchange = await runtime.with_call()
        assert trailing["answered-by"] == "a"
        assert exchange.host == HOST
        assert exchange.endpoint == server.address
        assert exchange.grpc_status == 0


async def test_the_callers_timeout_reaches_the_server(runtime_class):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        runtime = runtime_class(mesh)
        for kind in KINDS:
            await by_kind(runtime, kind, timeout=60)
        assert [20 < s.time_remaining < 60.2 for s in server.seen] == [True] * 4


async def test_without_a_timeout_none_is_told(runtime_class):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        await runtime_class(mesh).unary()
        assert server.seen[0].time_remaining is None or server.seen[0].time_remaining > 1e6


async def test_messages_may_be_compressed(runtime_class):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        runtime = runtime_class(mesh, compression=grpc.Compression.Gzip)
        assert (await runtime.unary("x" * 10_000)).text == "x" * 10_000
        assert (await runtime.unary("x" * 10_000, compression=grpc.Compression.Deflate)).text == "x" * 10_000


async def test_options_of_the_caller_are_used():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        runtime = Threads(mesh, options=[("grpc.primary_user_agent", "shop/1.0")])
        await runtime.unary()
        assert server.seen[0].metadata["user-agent"].startswith("shop/1.0 grpc-python")


@pytest.mark.parametrize("prefix", ["", "dns:///", "dns://8.8.8.8/", "passthrough:///"])
async def test_targets_may_be_spelled_as_for_grpcio(prefix):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        assert await Threads(mesh, target=prefix + TARGET).server() == "a"


def test_a_target_without_a_port_takes_the_services_only_one():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        assert stubs.EchoStub(mesh.grpc_channel(HOST)).Unary(Message()).server == "a"


@pytest.mark.parametrize("target", ["unix:/tmp/socket", "", "echo.test:grpc"])
def test_a_target_that_is_no_host_is_refused_with_the_remedy(target):
    with (
        mesh_of() as mesh,
        pytest.raises(meshlib.errors.MeshError, match="grpc.insecure_channel|the host to call|is not a port"),
    ):
        mesh.grpc_channel(target)


def test_xds_targets_are_left_to_grpcio():
    with mesh_of() as mesh:
        with mesh.grpc_channel("xds:///shop") as channel:
            assert type(channel) is type(grpc.insecure_channel("localhost:1"))


async def test_xds_targets_are_left_to_grpcio_on_asyncio():
    with mesh_of() as mesh:
        channel = mesh.aio_grpc_channel("xds:///shop")
        assert type(channel) is type(grpc.aio.insecure_channel("localhost:1"))
        await channel.close()


# -- streams --------------------------------------------------------------------------------------------------------------


async def test_initial_metadata_can_be_had_before_the_first_message():
    with EchoServer(script=[("head", "ok")]) as server, mesh_of(server) as mesh:
        runtime = Threads(mesh)
        arrived = threading.Event()

        def requests():
            arrived.wait(60)
            yield Message(text="late")

        call = runtime.stub.Chat(requests())
        assert dict(await asyncio.to_thread(call.initial_metadata)) == {"head-sent": "yes"}
        arrived.set()
        assert [m.text for m in call] == ["late"]

        chat = Asyncio(mesh).stub.Chat()
        assert dict(iter(await chat.initial_metadata())) == {"head-sent": "yes"}
        await chat.write(Message(text="late"))
        await chat.done_writing()
        assert [m.text async for m in chat] == ["late"]
        await mesh.aclose()


# -- channels -------------------------------------------------------------------------------------------------------------


async def test_a_closed_channel_refuses_calls_as_grpcio_does():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        with mesh.grpc_channel(TARGET) as channel:
            stub = stubs.EchoStub(channel)
            under_way = stub.Expand(Message(count=100_000))
            next(under_way)
        for call in (stub.Unary, stub.Unary.future, stub.Unary.with_call, stub.Expand):
            with pytest.raises(ValueError, match="closed channel"):
                call(Message())
        with pytest.raises(grpc.RpcError) as caught:
            list(under_way)
        assert caught.value.code() is grpc.StatusCode.CANCELLED

        async with mesh.aio_grpc_channel(TARGET) as aio_channel:
            aio_stub = stubs.EchoStub(aio_channel)
            call = aio_stub.Expand(Message(count=100_000))
            await call.read()
        with pytest.raises(grpc.aio.UsageError):
            aio_stub.Unary(Message())
        assert call.cancelled()
        # the mesh and its other channels go on
        assert await Threads(mesh).server() == "a"
        await mesh.aclose()


async def test_a_closed_mesh_refuses_calls():
    with echo_servers(None) as [server]:
        mesh = mesh_of(server)
        runtime = Threads(mesh)
        await runtime.unary()
        mesh.close()
        with pytest.raises(meshlib.errors.MeshClosed):
            await runtime.unary()


async def test_channels_to_one_host_share_their_connections(runtime_class):
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        for _ in range(5):
            runtime = runtime_class(mesh)
            await runtime.unary()
            await runtime.close()
        assert len({s.peer for s in server.seen}) == 1


def test_connectivity_is_that_of_the_endpoints():
    with echo_servers(None) as [server], mesh_of(server, 1) as mesh:
        channel = mesh.grpc_channel(TARGET)
        grpc.channel_ready_future(channel).result(60)
        states = []
        channel.subscribe(states.append, try_to_connect=True)
        assert eventually(lambda: states and states[-1] is grpc.ChannelConnectivity.READY)
        channel.unsubscribe(states.append)
        channel.close()


def test_a_channel_to_nobody_does_not_become_ready():
    with mesh_of(1) as mesh:
        channel = mesh.grpc_channel(TARGET)
        with pytest.raises(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(0.3)
        states = []
        channel.subscribe(states.append, try_to_connect=True)
        assert eventually(lambda: grpc.ChannelConnectivity.TRANSIENT_FAILURE in states)
        channel.close()


async def test_wait_for_ready_waits_for_an_endpoint(runtime_class):
    port = free_port()
    with mesh_of(port, rules=[{"route": [to(HOST)], "retries": {"attempts": 0}}]) as mesh:
        runtime = runtime_class(mesh)
        assert (await refused(runtime.unary())).code() is grpc.StatusCode.UNAVAILABLE
        waiting = asyncio.create_task(runtime.unary("x", wait_for_ready=True, timeout=60))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        with EchoServer("late", port=port):
            assert (await waiting).server == "late"
            if runtime.name == "threads":
                late_again = await runtime.with_call(wait_for_ready=True)
                assert late_again[3].flags == ""


async def test_the_story_of_a_call_that_waited_is_that_of_its_end():
    port = free_port()
    with mesh_of(port, rules=[{"route": [to(HOST)], "retries": {"attempts": 0}}]) as mesh:
        waiting = asyncio.create_task(Threads(mesh).with_call(wait_for_ready=True, timeout=60))
        await asyncio.sleep(0.1)
        with EchoServer("late", port=port):
            exchange = (await waiting)[3]
            assert exchange.flags == ""
            assert exchange.attempts[0].failure == "connect_failed"
            assert exchange.attempts[-1].failure == ""


async def test_wait_for_ready_ends_with_the_deadline(runtime_class):
    with mesh_of(1) as mesh:
        error = await refused(runtime_class(mesh).unary(wait_for_ready=True, timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
