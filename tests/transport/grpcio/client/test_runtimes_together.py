"""Threads and event loops that share a mesh: what belongs to one of them is never touched by another."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from benchmarks.free_ports import free_port
from meshlib.transport.grpcio.client import attempt, reachability
from tests.support.grpc_echo import EchoServer, Message, eventually, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, quick
from tests.support.open_sockets import sockets_to
from tests.support.resources import to

ALL = range(12)
RETRIED = [{"route": [to(HOST)], "retries": quick("connect-failure,reset,refused-stream,unavailable", 4)}]


def unary(mesh):
    return stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary


async def on_loop(mesh, calls=ALL):
    """Who answers on asyncio."""
    async with mesh.aio_grpc_channel(TARGET) as channel:
        stub = stubs.EchoStub(channel)
        return {(await stub.Unary(Message(), timeout=60)).server for _ in calls}


def channels(mesh):
    return [target for bound in mesh._core.live.bound.values() for target in bound.targets.values()]


def reachable(mesh):
    return [e.reachable for b in mesh._core.live.bound.values() for e in b.endpoints]


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)

    def close(self, *, cancel=True):
        """End it as ``asyncio.run`` does, or (not ``cancel``) as nobody should."""
        if self.loop.is_closed():
            return
        if self.thread.is_alive():
            self.stop()
        tasks = asyncio.all_tasks(self.loop) if cancel else ()
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(_all(tasks))
        self.loop.close()


async def _all(tasks):
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def other():
    made = Loop()
    yield made
    made.close()


def spawned_stream(mesh):
    call = stubs.EchoStub(mesh.grpc_channel(TARGET)).Expand(Message(count=1), timeout=60)
    return {m.server for m in call}


CALLS = {
    "blocking": lambda mesh: {unary(mesh)(Message(), timeout=60).server},
    "future": lambda mesh: {unary(mesh).future(Message(), timeout=60).result(60).server},
    "stream": spawned_stream,
}


@pytest.mark.parametrize("how", CALLS)
def test_threads_lose_an_endpoint_that_a_loop_has_a_channel_to(loop, how):
    with (
        EchoServer("a") as kept,
        EchoServer("b", port=free_port()) as lost,
        mesh_of(kept, lost, rules=RETRIED, seed=1) as mesh,
    ):
        assert loop.run(on_loop(mesh)) == {"a", "b"}  # the loop's channels are the first
        lost.kill()
        assert {s for _ in ALL for s in CALLS[how](mesh)} == {"a"}
        assert reachable(mesh) == [True, False]
        with EchoServer("b", port=lost.port):
            assert eventually(lambda: all(reachable(mesh)))
            assert {s for _ in ALL for s in CALLS[how](mesh)} == {"a", "b"}
            assert loop.run(on_loop(mesh)) == {"a", "b"}


def test_a_loop_loses_an_endpoint_that_threads_and_another_loop_have_channels_to(loop, other):
    with (
        EchoServer("a") as kept,
        EchoServer("b", port=free_port()) as lost,
        mesh_of(kept, lost, rules=RETRIED, seed=1) as mesh,
    ):
        assert {unary(mesh)(Message()).server for _ in ALL} == {"a", "b"}
        assert loop.run(on_loop(mesh)) == {"a", "b"}
        lost.kill()
        assert other.run(on_loop(mesh)) == {"a"}
        assert reachable(mesh) == [True, False]
        with EchoServer("b", port=lost.port):
            assert eventually(lambda: all(reachable(mesh)))


@pytest.mark.parametrize("end", ["its tasks cancelled", "closed under its tasks", "stopped"])
def test_a_loop_that_ends_while_it_watches_an_endpoint_leaves_it_to_the_others(loop, monkeypatch, end):
    monkeypatch.setattr(reachability, "STALLED", 0.02)
    with (
        EchoServer("a") as kept,
        EchoServer("b", port=free_port()) as lost,
        mesh_of(kept, lost, rules=RETRIED, seed=1) as mesh,
    ):
        lost.kill()
        assert loop.run(on_loop(mesh)) == {"a"}
        assert reachable(mesh) == [True, False]
        loop.stop()
        if end != "stopped":
            loop.close(cancel=end == "its tasks cancelled")
        assert eventually(lambda: all(reachable(mesh)))


def test_an_endpoint_that_cannot_be_watched_is_tried_again(monkeypatch, caplog):
    def cannot(*_):
        raise RuntimeError("no thread to be had")

    monkeypatch.setattr(reachability, "_watch_from_thread", cannot)
    with (
        EchoServer("a") as kept,
        EchoServer("b", port=free_port()) as lost,
        mesh_of(kept, lost, rules=RETRIED, seed=1) as mesh,
    ):
        lost.kill()
        assert {unary(mesh)(Message()).server for _ in ALL} == {"a"}
        assert reachable(mesh) == [True, True]
    assert "no thread to be had" in caplog.text


@pytest.mark.parametrize("how", ["future", "stream"])
def test_a_call_whose_end_cannot_be_made_sense_of_ends_all_the_same(monkeypatch, how):
    def cannot(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(attempt, "ended", cannot)
    with EchoServer("a", ["UNAVAILABLE"] * 9) as server, mesh_of(server) as mesh:
        ended = []

        def call():
            try:
                CALLS[how](mesh)
            except grpc.RpcError as error:
                ended.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(60)
        assert [(e.code(), str(e.__cause__)) for e in ended] == [(grpc.StatusCode.INTERNAL, "a bug")]
        assert mesh.status()["clusters"][0]["active"] == 0
        assert mesh.status()["alarm_failures"] == 0


def test_a_call_dropped_in_a_thread_is_cancelled_on_its_own_loop(loop):
    with EchoServer("a", [30]) as server, mesh_of(server) as mesh:
        loop.loop.set_debug(True)  # asyncio says so when another thread schedules something

        async def begin():
            call = stubs.EchoStub(mesh.aio_grpc_channel(TARGET)).Unary(Message())
            await asyncio.sleep(0.05)
            return [call]

        held = loop.run(begin())
        assert eventually(lambda: mesh.status()["clusters"][0]["active"] == 1)
        held.clear()
        assert eventually(lambda: mesh.status()["clusters"][0]["active"] == 0)


def test_a_channel_of_two_loops_closes_on_both(loop, other):
    with EchoServer("a", [30, 30]) as server, mesh_of(server) as mesh:
        channel = mesh.aio_grpc_channel(TARGET)

        async def begin():
            call = stubs.EchoStub(channel).Unary(Message())
            await asyncio.sleep(0.05)
            return call

        calls = [loop.run(begin()), other.run(begin())]
        loop.run(channel.close())
        assert eventually(lambda: all(call.done() for call in calls))
        assert eventually(lambda: mesh.status()["clusters"][0]["active"] == 0)


def test_channels_of_a_loop_go_when_it_ends(loop):
    """A job that is run by ``asyncio.run`` leaves no connection behind, also when no other loop comes after it."""
    with EchoServer("a") as server, mesh_of(server) as mesh:
        assert asyncio.run(on_loop(mesh)) == {"a"}
        assert channels(mesh) == []
        assert eventually(lambda: sockets_to(server.port) == 0)  # gRPC core's threads close it
        assert unary(mesh)(Message()).server == "a"
        assert loop.run(on_loop(mesh)) == {"a"}
        others = channels(mesh)
        assert {each.loop for each in others} == {None, loop.loop}
        assert asyncio.run(on_loop(mesh)) == {"a"}
        assert channels(mesh) == others  # those of threads and of another loop stay


def test_a_loop_closed_under_a_call_in_line_passes_its_slot_on():
    one_at_a_time = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"host": HOST, "bulkhead": {"maxConcurrent": 1, "maxWaiting": 9}},
    }
    with EchoServer("a", [30, "ok"]) as server, mesh_of(server, more=[one_at_a_time]) as mesh:
        first = unary(mesh).future(Message())
        assert eventually(lambda: server.seen)
        loop = asyncio.new_event_loop()

        async def begin():
            call = stubs.EchoStub(mesh.aio_grpc_channel(TARGET)).Unary(Message())
            await asyncio.sleep(0.05)
            return call

        in_line = loop.run_until_complete(begin())
        last = unary(mesh).future(Message(), timeout=60)
        loop.close()
        first.cancel()
        assert last.result(60).server == "a"
        in_line.run.task._log_destroy_pending = (
            False  # asyncio would tell, whenever it is collected, that it never ended
        )
        del in_line
