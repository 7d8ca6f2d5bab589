"""Handlers that send their responses by a callback (grpcio's ``experimental_non_blocking``), grpc_health's stock servicer
first of all: served, guarded and counted as any other."""

from __future__ import annotations

import threading
import time
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshlib.engine import deadlines
from tests.support.grpc_echo import eventually
from tests.support.grpc_served import Counted
from tests.support.inbound import envoy_filter, fault_patch

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
OK = ("200", "0", "-")


class Server:
    """A server of threads behind the mesh's interceptors."""

    def __init__(self, mesh, servicer=None, handlers=(), workers=2):
        self.server = grpc.server(
            futures.ThreadPoolExecutor(workers), handlers=handlers, interceptors=mesh.grpc_server_interceptors()
        )
        if servicer is not None:
            health_pb2_grpc.add_HealthServicer_to_server(servicer, self.server)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}")
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        self.server.stop(None).wait(60)


def served_by(behaviour):
    behaviour.experimental_non_blocking = True

    class Generic(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_stream_rpc_method_handler(behaviour)

    return [Generic()]


def call(server, **more):
    return server.channel.unary_stream("/any/thing")(b"", timeout=60, **more)


@pytest.mark.parametrize("non_blocking", [True, False])
def test_the_stock_health_servicer_works(non_blocking):
    counted = Counted()
    servicer = health.HealthServicer(experimental_non_blocking=non_blocking)
    # one thread, which a watch must not hold
    with Server(counted.mesh, servicer, workers=1 if non_blocking else 3) as server:
        stub = health_pb2_grpc.HealthStub(server.channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(2)]
        assert [next(w).status for w in watches] == [SERVING] * 2
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status == SERVING
        servicer.set("", NOT_SERVING)
        assert [next(w).status for w in watches] == [NOT_SERVING] * 2
        for watch in watches:
            watch.cancel()
        assert eventually(lambda: not any(servicer._send_response_callbacks.values()))
        assert eventually(lambda: sum(counted.results.values()) == 3)
        assert counted.messages() == (3, 5)


@pytest.mark.parametrize(
    "servicer", [health.aio.HealthServicer(), health.HealthServicer()], ids=["its own", "of threads"]
)
async def test_the_stock_health_servicer_works_on_asyncio(servicer):
    counted = Counted()
    server = grpc.aio.server(futures.ThreadPoolExecutor(2), interceptors=counted.mesh.aio_grpc_server_interceptors())
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)).status == SERVING
        if isinstance(servicer, health.aio.HealthServicer):  # of the other, grpcio leaves a thread hanging for ever
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
            assert (await watch.read()).status == SERVING
            await servicer.set("", NOT_SERVING)
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
    await server.stop(0)


def test_responses_may_come_from_any_thread_and_are_counted():
    counted = Counted()

    def behaviour(request, context, send_response_callback):
        def later():
            for text in (b"1", b"2", None):
                send_response_callback(text)

        threading.Thread(target=later).start()

    with Server(counted.mesh, handlers=served_by(behaviour)) as server:
        assert list(call(server)) == [b"1", b"2"]
        assert counted.settled({OK: 1})
        assert counted.messages() == (1, 2)


def test_what_the_handler_raises_or_aborts_with_is_its_callers_status():
    counted = Counted()

    def behaviour(request, context, send_response_callback):
        send_response_callback(b"1")
        context.abort(grpc.StatusCode.ABORTED, "enough")

    with Server(counted.mesh, handlers=served_by(behaviour)) as server:
        stream = call(server)
        assert next(stream) == b"1"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "enough")
        assert counted.settled({("200", "10", "-"): 1})


def test_a_caller_that_goes_away_ends_the_call_once():
    counted = Counted()
    sends = []

    def behaviour(request, context, send_response_callback):
        sends.append(send_response_callback)
        send_response_callback(b"1")

    with Server(counted.mesh, handlers=served_by(behaviour)) as server:
        stream = call(server)
        assert next(stream) == b"1"
        stream.cancel()
        assert eventually(lambda: sum(counted.results.values()) == 1)
        ((key, _),) = counted.results.items()
        assert "DR" in key[2]
        sends[0](b"2")
        sends[0](None)
        assert sum(counted.results.values()) == 1


def test_it_is_guarded_as_any_other_handler():
    refusal = envoy_filter("abort", fault_patch(abort={"http_status": 403, "percentage": {"numerator": 100}}))
    counted = Counted(refusal)
    called = []

    with Server(counted.mesh, handlers=served_by(lambda *a, **k: called.append(a))) as server:
        with pytest.raises(grpc.RpcError) as caught:
            list(call(server))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert not called


def test_its_request_and_deadline_are_current_while_it_runs():
    counted = Counted()
    seen = []

    def behaviour(request, context, send_response_callback):
        seen.append((counted.mesh.inbound().path, deadlines.around() > time.monotonic()))
        send_response_callback(None)

    with Server(counted.mesh, handlers=served_by(behaviour)) as server:
        assert list(call(server)) == []
        assert seen == [("/any/thing", True)]
