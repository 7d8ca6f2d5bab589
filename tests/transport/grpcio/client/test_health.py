"""What connections and health services tell of endpoints, and what happens to calls when servers come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from benchmarks.free_ports import free_port
from tests.support.grpc_echo import EchoServer, Message, echo_servers, eventually, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, quick, refused, resources, soon
from tests.support.resources import to

ROUND_ROBIN = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
ASK = [("grpc.service_config", '{"healthCheckConfig": {"serviceName": "shop"}}')]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def endpoints(mesh):
    return {e["address"]: e for c in mesh.status()["clusters"] for e in c["endpoints"]}


# -- grpc.health.v1 -------------------------------------------------------------------------------------------------------


class HealthEcho(EchoServer):
    """An EchoServer with a health service, which must be there before the server starts."""

    def __init__(self, name, status=SERVING, **kwargs):
        self.health = health.HealthServicer()
        self.health.set("shop", status)
        super().__init__(name, **kwargs)

    def _before_start(self):
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)


async def test_an_endpoint_that_says_it_does_not_serve_gets_no_calls(runtime_class):
    if runtime_class.name == "futures":
        pytest.skip("the same watch as in threads")
    with HealthEcho("a") as a, HealthEcho("b") as b, mesh_of(a, b, policy=ROUND_ROBIN) as mesh:
        runtime = runtime_class(mesh, options=ASK)
        for _ in range(4):
            await runtime.unary()
        a.health.set("shop", NOT_SERVING)
        assert await soon(lambda: not endpoints(mesh)[a.address]["serving"])
        assert {await runtime.server() for _ in range(6)} == {"b"}
        a.health.set("shop", SERVING)
        assert await soon(lambda: endpoints(mesh)[a.address]["serving"])
        assert {await runtime.server() for _ in range(6)} == {"a", "b"}
        b.health.set("shop", NOT_SERVING)
        a.health.set("shop", NOT_SERVING)
        assert await soon(lambda: not any(e["usable"] for e in endpoints(mesh).values()))
        error = await refused(runtime.unary())
        assert error.details().startswith("no healthy upstream")
        await runtime.close()
        await mesh.aclose()


async def test_health_that_changes_after_a_reload_is_heard(runtime_class):
    if runtime_class.name == "futures":
        pytest.skip("the same watch as in threads")
    with HealthEcho("a") as a, HealthEcho("b") as b, mesh_of(a, b, policy=ROUND_ROBIN) as mesh:
        runtime = runtime_class(mesh, options=ASK)
        for _ in range(4):
            await runtime.unary()
        a.health.set("shop", NOT_SERVING)
        assert await soon(lambda: not endpoints(mesh)[a.address]["serving"])
        mesh.apply(resources(a, b, policy={"loadBalancer": {"simple": "RANDOM"}}))
        gc.collect()  # the cluster as it was bound before is gone
        a.health.set("shop", SERVING)
        assert await soon(lambda: endpoints(mesh)[a.address]["serving"])
        await mesh.aclose()


async def test_a_server_without_a_health_service_counts_as_healthy(runtime_class):
    if runtime_class.name == "futures":
        pytest.skip("the same watch as in threads")
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        runtime = runtime_class(mesh, options=ASK)
        for _ in range(3):
            assert await runtime.server() == "a"
        await asyncio.sleep(0.05)
        assert await runtime.server() == "a"
        await mesh.aclose()


def test_a_service_config_that_cannot_be_read_is_refused():
    from meshlib.errors import MeshError

    with mesh_of(1) as mesh, pytest.raises(MeshError, match="not a JSON object"):
        mesh.grpc_channel(TARGET, options=[("grpc.service_config", "{")])


# -- connectivity ---------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_cannot_be_reached_is_avoided_until_it_is_back(runtime_class):
    port = free_port()
    with echo_servers(None) as [server], mesh_of(server, port, policy=ROUND_ROBIN) as mesh:
        runtime = runtime_class(mesh)
        for _ in range(10):
            assert await runtime.server() == "a"
        there = endpoints(mesh)[f"127.0.0.1:{port}"]
        assert not there["reachable"]
        assert not there["usable"]
        attempts = sum(len(x) for x in [(await runtime.with_call())[3].attempts for _ in range(6)])
        assert attempts == 6  # nobody is sent there in vain any more
        with EchoServer("late", port=port) as back:
            assert await soon(lambda: endpoints(mesh)[f"127.0.0.1:{port}"]["usable"])
            assert {await runtime.server() for _ in range(6)} == {"a", "late"}
            assert back.seen
        await mesh.aclose()


OTHER_BALANCER = {"loadBalancer": {"simple": "RANDOM"}}
OTHER_CONNECTIONS = {**ROUND_ROBIN, "connectionPool": {"tcp": {"connectTimeout": "9s"}}}


@pytest.mark.parametrize("policy", [OTHER_BALANCER, OTHER_CONNECTIONS], ids=["channels kept", "channels dropped"])
async def test_an_endpoint_that_was_lost_before_a_reload_comes_back_after_it(runtime_class, policy):
    port = free_port()
    with echo_servers(None) as [server], mesh_of(server, port, policy=ROUND_ROBIN) as mesh:
        runtime = runtime_class(mesh)
        for _ in range(10):
            assert await runtime.server() == "a"
        assert not endpoints(mesh)[f"127.0.0.1:{port}"]["reachable"]
        mesh.apply(resources(server, port, policy=policy))
        gc.collect()  # the cluster as it was bound before is gone
        with EchoServer("late", port=port):
            assert await soon(lambda: endpoints(mesh)[f"127.0.0.1:{port}"]["reachable"])
        await mesh.aclose()


async def test_when_nobody_can_be_reached_each_may_be_tried(runtime_class):
    with mesh_of(1, 2, policy=ROUND_ROBIN) as mesh:
        runtime = runtime_class(mesh)
        for _ in range(4):
            error = await refused(runtime.unary())
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "remote connection failure" in error.details()
        assert [e["usable"] for e in endpoints(mesh).values()] == [True, True]
        await mesh.aclose()


async def test_a_server_that_ends_the_age_of_its_connections_loses_no_call(runtime_class):
    options = [("grpc.max_connection_age_ms", 60), ("grpc.max_connection_age_grace_ms", 2000)]
    with EchoServer(options=options) as server, mesh_of(server, rules=[{"route": [to(HOST)]}]) as mesh:
        runtime = runtime_class(mesh)
        end = time.monotonic() + 60
        calls = 0
        while len({s.peer for s in server.seen}) < 10:
            assert await runtime.server() == "one"
            calls += 1
            assert time.monotonic() < end, "its connections do not end"
        assert len(server.seen) == calls
        await mesh.aclose()


async def test_a_server_that_goes_with_grace_loses_no_call(runtime_class):
    """GOAWAY while calls are under way; the other replica takes over."""
    with echo_servers(None, None) as [a, b], mesh_of(a, b, policy=ROUND_ROBIN) as mesh:
        runtime = runtime_class(mesh)
        await runtime.unary()
        a.echo.script = [0.2]
        under_way = [asyncio.create_task(runtime.server()) for _ in range(6)]
        assert await soon(lambda: len(a.seen) >= 2)
        stopping = asyncio.create_task(asyncio.to_thread(a.stop, 3.0))
        more = [await runtime.server() for _ in range(20)]
        assert set(more) == {"b"} or set(more) == {"a", "b"}
        assert len(await asyncio.gather(*under_way)) == 6
        await stopping
        await mesh.aclose()


# -- faults under load ----------------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["unary", "expand", "collect"])
def test_a_killed_server_loses_no_call_that_may_be_retried(kind):
    rules = [{"route": [to(HOST)], "retries": quick("unavailable,cancelled,reset,connect-failure,refused-stream", 5)}]
    results: Counter[str] = Counter()
    stop = threading.Event()
    with (
        EchoServer("a", port=free_port()) as a,
        EchoServer("b") as b,
        mesh_of(a, b, rules=rules, policy=ROUND_ROBIN) as mesh,
    ):
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))

        def load():
            while not stop.is_set():
                try:
                    if kind == "unary":
                        stub.Unary(Message(text="x"), timeout=60)
                    elif kind == "expand":
                        # the first message commits a stream: what comes after cannot be retried
                        assert len(list(stub.Expand(Message(count=1), timeout=60))) == 1
                    else:
                        assert stub.Collect(iter([Message(text="x")] * 3), timeout=60).text == "xxx"
                    results["ok"] += 1
                except grpc.RpcError as error:
                    results[f"{error.code().name}: {error.details()} {error.exchange!r}"] += 1

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        port, alive = a.port, a
        for _ in range(6):
            for change in (alive.kill, lambda: EchoServer("again", port=port)):
                done = results["ok"] + 15
                assert eventually(lambda done=done: results["ok"] >= done)
                alive = change() or alive
        stop.set()
        for thread in threads:
            thread.join(60)
        alive.kill()
        lost = {text: count for text, count in results.items() if text != "ok"}
        if kind == "expand":  # a stream that broke after its message has the right status
            assert all(text.startswith(("UNAVAILABLE", "INTERNAL", "CANCELLED")) for text in lost)
        else:
            assert lost == {}
        assert eventually(lambda: not sum(c["active"] for c in mesh.status()["clusters"]))


@pytest.mark.fault
async def test_a_server_killed_in_the_middle_of_streams_gives_them_the_right_status(runtime_class):
    if runtime_class.name == "futures":
        pytest.skip("streams are the same as in threads")
    with EchoServer() as server, mesh_of(server) as mesh:
        runtime = runtime_class(mesh)
        if runtime.name == "asyncio":
            calls = [runtime.stub.Chat() for _ in range(10)]
            for call in calls:
                await call.write(Message(text="a"))
                await call.read()
            server.kill()
            for call in calls:
                error = await refused(call.read())
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert error.exchange.attempts[0].status == 200
        else:
            hold = threading.Event()

            def requests():
                yield Message(text="a")
                hold.wait(60)

            calls = [runtime.stub.Chat(requests()) for _ in range(10)]
            for call in calls:
                await asyncio.to_thread(next, call)
            server.kill()
            for call in calls:
                error = await refused(asyncio.to_thread(next, call))
                assert error.code() is grpc.StatusCode.UNAVAILABLE
            hold.set()
        assert await soon(lambda: not sum(c["active"] for c in mesh.status()["clusters"]))
        await mesh.aclose()
