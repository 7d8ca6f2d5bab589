"""How long calls stand in line for a thread, and that too long a line is shed."""

from __future__ import annotations

import threading

import grpc
import pytest

import meshlib
from meshlib.transport.grpcio.server.queued import seconds_in_line, timed
from tests.support.fake_clock import FakeClock
from tests.support.protection import protection
from tests.transport.grpcio.server.test_threads import Server


def test_it_is_told_once_to_the_call_that_begins():
    def behaviour(_request):
        return seconds_in_line(7.5), seconds_in_line(7.5)

    assert timed(behaviour, 5.0)("request") == (2.5, 0.0)
    assert seconds_in_line(9.0) == 0.0


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
            assert method(b"", timeout=30) == b"done", "it did not stand in line"
