"""``clock=`` replaces all time by which a mesh decides: nothing here waits, though policies speak of minutes."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from tests.support.fake_clock import FakeClock, FourMethods
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import HOST, RUNTIMES, TARGET, mesh_of, soon
from tests.support.resources import destination_rule, pod, service, to
from tests.support.servers import EchoServer as HttpServer

CLOCKS = pytest.mark.parametrize("kind", [FakeClock, FourMethods])
KINDS = ("unary", "expand", "collect", "chat")


def delayed(seconds):
    return {"fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": seconds}}, "route": [to(HOST)]}


@CLOCKS
@pytest.mark.parametrize("runtime_class", RUNTIMES, ids=lambda w: w.name)
@pytest.mark.parametrize("call", KINDS)
async def test_a_fault_of_two_minutes_is_over_at_once(kind, runtime_class, call):
    clock = kind()
    with EchoServer() as server, mesh_of(server, rules=[delayed("120s")], clock=clock) as mesh:
        began = time.monotonic()
        assert await runtime_class(mesh).server(call) == "one"
        assert time.monotonic() - began < 60
        assert clock.slept == [120.0]


def guarded(**spec):
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"host": HOST, **spec},
    }


async def waited_for(mesh, clock, seconds):
    """Whether somebody waits so long now: a server may know of a call before the call's own runtime has set its alarm."""

    def waits():
        due = list(mesh._core.alarms._due)
        return any(alarm.ring is not None and abs(at - clock.monotonic() - seconds) < 1e-6 for at, _, alarm in due)

    return await soon(waits)


@CLOCKS
@pytest.mark.parametrize("runtime_class", RUNTIMES, ids=lambda w: w.name)
async def test_a_hedge_is_sent_when_the_clock_says_so(kind, runtime_class):
    clock = kind()
    rules = [{"route": [to(HOST)]}]
    hedged = guarded(hedging={"delay": "120s", "unsafeMethods": True})
    with EchoServer(script=[30, "ok"]) as server, mesh_of(server, rules=rules, more=[hedged], clock=clock) as mesh:
        call = asyncio.create_task(runtime_class(mesh).unary("x"))
        assert await soon(lambda: len(server.seen) == 1)
        assert await waited_for(mesh, clock, 120)
        clock.advance(119)
        await asyncio.sleep(0.03)
        assert len(server.seen) == 1
        clock.advance(1)
        assert (await asyncio.wait_for(call, 60)).text == "x"
        assert len(server.seen) == 2


@CLOCKS
@pytest.mark.parametrize("runtime_class", RUNTIMES, ids=lambda w: w.name)
async def test_a_place_in_line_is_given_up_when_the_clock_says_so(kind, runtime_class):
    clock = kind()
    one = guarded(bulkhead={"maxConcurrent": 1, "maxWaiting": 1})
    rules = [{"route": [to(HOST)], "timeout": "300s"}]
    with EchoServer(script=[30, "ok"]) as server, mesh_of(server, rules=rules, more=[one], clock=clock) as mesh:
        first = asyncio.create_task(runtime_class(mesh).unary("x"))
        assert await soon(lambda: len(server.seen) == 1)
        second = asyncio.create_task(runtime_class(mesh).unary("x"))
        assert await soon(lambda: mesh.status()["resilience"][0]["bulkhead"]["waiting"] == 1)
        if runtime_class.name != "threads":  # there the thread itself looks at the clock
            assert await waited_for(mesh, clock, 300)
        clock.advance(299)
        await asyncio.sleep(0.03)
        assert not second.done()
        clock.advance(1)
        with pytest.raises(grpc.RpcError):
            await asyncio.wait_for(second, 60)
        assert mesh.status()["resilience"][0]["bulkhead"]["waiting"] == 0
        server.echo.release.set()
        await asyncio.wait({first}, timeout=60)


@CLOCKS
async def test_what_is_left_of_a_calls_time_goes_by_the_clock(kind):
    clock = kind()
    with EchoServer(script=[30]) as server, mesh_of(server, clock=clock) as mesh:
        future = stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary.future(Message(), timeout=100)
        assert future.time_remaining() == 100.0
        clock.advance(40)
        assert future.time_remaining() == 60.0
        future.cancel()


@CLOCKS
async def test_calls_are_timed_by_the_clock_and_counted_without_it(kind):
    clock, registry = kind(), CollectorRegistry()
    with EchoServer(script=[30, "ok"]) as server, mesh_of(server, clock=clock, registry=registry) as mesh:
        call = asyncio.create_task(asyncio.to_thread(stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary, Message()))
        assert await soon(lambda: len(server.seen) == 1)
        clock.advance(40)
        server.echo.release.set()
        await call
        (took,) = [
            sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "istio_request_duration_milliseconds_sum"
        ]
    assert took == 40_000


@CLOCKS
@pytest.mark.parametrize(
    ("limits", "seconds", "kept"),
    [({"http": {"idleTimeout": "60s"}}, 60, False), ({"tcp": {"maxConnectionDuration": "60s"}}, 60, True)],
    ids=["idleTimeout", "maxConnectionDuration"],
)
async def test_connections_of_a_loop_are_kept_by_the_clock(kind, limits, seconds, kept):
    clock, peers = kind(), set()

    def behave(handler):
        peers.add(handler.client_address)
        return False

    with HttpServer("reviews", behave) as server:
        rule = destination_rule("reviews", connectionPool=limits)
        mesh = meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), rule], clock=clock)
        async with mesh, mesh.async_client() as client:
            for _ in range(2):
                assert (await client.get("http://reviews:9080/")).status_code == 200
            upstream = mesh._core.loop_upstream()
            assert (len(peers), upstream.idle_connections()) == (1, 1)
            clock.advance(seconds - 1)
            await asyncio.sleep(0.03)
            assert upstream.idle_connections() == 1
            clock.advance(1)
            if not kept:
                assert await soon(lambda: upstream.idle_connections() == 0)
            await client.get("http://reviews:9080/")
            assert len(peers) == 2
