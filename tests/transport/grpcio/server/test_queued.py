"""How long calls stand in line for a thread, and that too long a line is shed."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures

import grpc
import pytest

import meshlib
from meshlib.policy.load_shedding import WINDOW
from meshlib.transport.grpcio.server.queued import seconds_in_line, timed
from tests.support.fake_clock import FakeClock
from tests.support.protection import protection
from tests.transport.grpcio.server.test_threads import Server


def test_it_is_told_once_to_the_call_that_begins():
    def behaviour(_request):
        return seconds_in_line(7.5), seconds_in_line(7.5)

    assert timed(behaviour, 5.0)("request") == (2.5, None)
    assert seconds_in_line(9.0) is None


def test_the_function_keeps_what_grpcio_looks_for():
    def behaviour(_request):
        return None

    behaviour.experimental_non_blocking = True
    assert timed(behaviour, 1.0).experimental_non_blocking


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_calls_that_stood_in_line_too_long_are_shed(mode):
    clock = FakeClock()
    began, go_on = threading.Event(), threading.Event()

    def slow(_request, _context):
        began.set()
        assert go_on.wait(30)
        return b"done"

    class Generic(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(slow)

    shedding = protection(loadShedding={"maxQueueTime": "2s", "mode": mode})
    with (
        meshlib.Mesh.from_resources([shedding], clock=clock) as mesh,
        Server(mesh, handlers=[Generic()], workers=1) as server,
    ):
        method = server.channel.unary_unary("/any/thing")
        first = method.future(b"", timeout=30)
        assert began.wait(30)
        second = method.future(b"", timeout=30)
        pool = server.server._state.thread_pool
        while pool._work_queue.empty():  # grpcio has taken it and put it in line
            threading.Event().wait(0.001)
        clock.advance(2.5)
        go_on.set()
        assert first.result() == b"done"
        if mode == "shadow":
            assert second.result() == b"done"
        else:
            with pytest.raises(grpc.RpcError) as shed:
                second.result()
            assert shed.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.RpcError):
                method(b"", timeout=30)  # the line was too long in this window
            clock.advance(2 * WINDOW)
            assert method(b"", timeout=30) == b"done", "nobody stands in line any more"


async def test_plain_functions_of_an_asyncio_server_stand_in_line_for_its_pool():
    clock = FakeClock()
    began, go_on = threading.Event(), threading.Event()

    def slow(_request, _context):
        began.set()
        assert go_on.wait(30)
        return b"done"

    async def quick(_request, _context):
        return b"quick"

    class Generic(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(slow if details.method == "/a/slow" else quick)

    with (
        meshlib.Mesh.from_resources([protection(loadShedding={"maxQueueTime": "2s"})], clock=clock) as mesh,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        server = grpc.aio.server(pool, handlers=[Generic()], interceptors=mesh.aio_grpc_server_interceptors())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                method, other = channel.unary_unary("/a/slow"), channel.unary_unary("/a/quick")
                first = asyncio.ensure_future(method(b"", timeout=30))
                await asyncio.to_thread(began.wait, 30)
                second = asyncio.ensure_future(method(b"", timeout=30))
                while pool._work_queue.empty():
                    await asyncio.sleep(0.001)
                assert await other(b"", timeout=30) == b"quick", (
                    "it needs no thread, and nobody has waited too long yet"
                )
                clock.advance(2.5)
                go_on.set()
                assert await first == b"done"
                with pytest.raises(grpc.aio.AioRpcError) as shed:
                    await second
                assert shed.value.code() is grpc.StatusCode.UNAVAILABLE
                with pytest.raises(grpc.aio.AioRpcError):
                    await other(b"", timeout=30)
                clock.advance(2 * WINDOW)
                assert await other(b"", timeout=30) == b"quick"
        finally:
            go_on.set()
            await server.stop(0)
