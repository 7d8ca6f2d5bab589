"""``future()`` of calls with a single response: what grpcio's own futures tell, and when."""

from __future__ import annotations

import threading

import grpc
import pytest

from tests.support.grpc_echo import EchoServer, Message, echo_servers, eventually, stubs
from tests.support.grpc_runtimes import (
    HOST,
    TARGET,
    active,
    mesh_of,
)


def test_a_future_tells_when_it_is_done():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        done = threading.Event()
        future = stub.Unary.future(Message(text="x"))
        future.add_done_callback(lambda f: done.set() if f is future else None)
        assert done.wait(30)
        assert (future.done(), future.running(), future.cancelled(), future.is_active()) == (True, False, False, False)
        assert future.exception() is None
        assert future.traceback() is None
        assert future.result().text == "x"
        assert future.code() is grpc.StatusCode.OK
        assert future.details() == ""
        assert dict(iter(future.trailing_metadata())) == {"answered-by": "a"}
        late = []
        future.add_done_callback(late.append)
        assert late == [future]
        assert future.add_callback(lambda: None) is False


def test_a_future_can_be_waited_for_some_time_only():
    with echo_servers([30]) as [server], mesh_of(server) as mesh:
        future = stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary.future(Message(), timeout=20)
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(0.05)
        assert 0 < future.time_remaining() <= 20
        assert future.cancel() is True
        assert future.cancel() is False
        with pytest.raises(grpc.FutureCancelledError):
            future.result()
        assert future.cancelled()
        assert future.code() is grpc.StatusCode.CANCELLED
        assert eventually(lambda: active(mesh) == 0)


def test_a_dropped_future_cancels_its_call():
    with echo_servers([30]) as [server], mesh_of(server) as mesh:
        future = stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary.future(Message())
        assert eventually(lambda: server.seen)
        del future
        assert eventually(lambda: active(mesh) == 0)


def test_a_future_may_give_up_its_place_in_line():
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"host": HOST, "bulkhead": {"maxConcurrent": 1, "maxWaiting": 5}},
    }
    with EchoServer(script=[60, "ok"]) as server, mesh_of(server, more=[policy]) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        first = stub.Unary.future(Message(text="1"))
        assert eventually(lambda: server.seen)
        cancelled = stub.Unary.future(Message(text="2"))
        late = stub.Unary.future(Message(text="3"), timeout=0.1)
        last = stub.Unary.future(Message(text="4"))
        cancelled.cancel()
        assert late.exception(30).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        server.echo.release.set()
        assert first.result(30).text == "1"
        assert last.result(30).text == "4"
