"""Retries, timeouts, faults, outlier detection, limits and ResiliencePolicies on gRPC calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

import grpc
import pytest

from tests.support.grpc_echo import EchoServer, Message, echo_servers, eventually, stubs
from tests.support.grpc_runtimes import (
    ANSWERS,
    HOST,
    KINDS,
    TARGET,
    TIMEOUTS,
    Asyncio,
    Threads,
    by_kind,
    entry,
    mesh_of,
    messages_until_it_is_over,
    quick,
    refused,
    soon,
)
from tests.support.resources import destination_rule, to

CONDITIONS = {
    "cancelled": "CANCELLED",
    "deadline-exceeded": "DEADLINE_EXCEEDED",
    "internal": "INTERNAL",
    "resource-exhausted": "RESOURCE_EXHAUSTED",
    "unavailable": "UNAVAILABLE",
}
STATUSES = [s.name for s in grpc.StatusCode if s is not grpc.StatusCode.OK]


def rule(**more):
    return [{"route": [to(HOST)], **more}]


def policy_of(**spec):
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"host": HOST, **spec},
    }


# -- retries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [*CONDITIONS, "5xx,gateway-error,reset,retriable-4xx,503"])
async def test_each_condition_retries_its_own_status_and_no_other(condition):
    with EchoServer() as server, mesh_of(server, rules=rule(retries=quick(condition, 1))) as mesh:
        runtime = Asyncio(mesh)
        retried = set()
        for status in STATUSES:
            server.echo.script = [status, "ok"]
            server.seen.clear()
            try:
                await runtime.unary()
                retried.add(status)
            except grpc.RpcError as error:
                assert error.code().name == status
            assert len(server.seen) == (2 if status in retried else 1)
        assert retried == ({CONDITIONS[condition]} if condition in CONDITIONS else set())
        await mesh.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_is_retried_with_all_its_messages(runtime_class, kind):
    script = ["UNAVAILABLE", "UNAVAILABLE", "ok"]
    with EchoServer(script=script) as server, mesh_of(server, rules=rule(retries=quick("unavailable"))) as mesh:
        assert await by_kind(runtime_class(mesh), kind) == ANSWERS[kind]
        assert [s.metadata["x-envoy-attempt-count"] for s in server.seen] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_left_after_the_last_retry_is_the_servers_own_status(runtime_class, kind):
    with (
        EchoServer(script=["UNAVAILABLE"]) as server,
        mesh_of(server, rules=rule(retries=quick("unavailable", 2))) as mesh,
    ):
        error = await refused(by_kind(runtime_class(mesh), kind))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "scripted UNAVAILABLE")
        assert dict(iter(error.trailing_metadata())) == {"answered-by": "one"}
        assert error.exchange.flags == "URX"
        assert [a.failure for a in error.exchange.attempts] == ["unavailable"] * 3
        assert len(server.seen) == 3


@pytest.mark.parametrize("kind", ["expand", "chat"])
async def test_a_stream_is_committed_by_its_first_message(runtime_class, kind):
    script = [("after", 1, "UNAVAILABLE"), "ok"]
    with EchoServer(script=script) as server, mesh_of(server, rules=rule(retries=quick("unavailable"))) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.exchange.grpc_status == 14
        assert len(server.seen) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_is_committed_by_initial_metadata_as_in_envoy(runtime_class, kind):
    script = [("head", "UNAVAILABLE"), "ok"]
    with EchoServer(script=script) as server, mesh_of(server, rules=rule(retries=quick("unavailable"))) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert len(server.seen) == 1


async def test_by_default_a_call_that_finds_nobody_goes_elsewhere(runtime_class):
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    with echo_servers(None) as [server], mesh_of(1, server, policy=policy) as mesh:
        runtime = runtime_class(mesh)
        for kind in KINDS:
            assert await by_kind(runtime, kind) == ANSWERS[kind]


async def test_retries_avoid_the_endpoint_that_failed(runtime_class):
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    with (
        echo_servers(["UNAVAILABLE"], None) as [bad, good],
        mesh_of(bad, good, policy=policy, rules=rule(retries=quick("unavailable", 1))) as mesh,
    ):
        runtime = runtime_class(mesh)
        assert {await runtime.server() for _ in range(10)} == {"b"}
        assert bad.seen


async def test_the_caller_may_ask_for_retries_as_of_envoy(runtime_class):
    with EchoServer(script=["INTERNAL", "ok"]) as server, mesh_of(server, rules=rule(retries={"attempts": 0})) as mesh:
        asked = (("x-envoy-retry-grpc-on", "internal"), ("x-envoy-max-retries", "2"))
        assert (await runtime_class(mesh).unary("x", metadata=asked)).text == "x"


async def test_a_long_stream_of_requests_is_not_kept_for_ever(runtime_class):
    big = "x" * 300_000
    with EchoServer() as server, mesh_of(server, rules=rule(retries=quick("unavailable"))) as mesh:
        assert await runtime_class(mesh).collect(*[big] * 8) == big * 8


# -- timeouts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_the_routes_timeout_is_unavailable_as_in_envoy(runtime_class, kind):
    with EchoServer(script=[60]) as server, mesh_of(server, rules=rule(timeout="0.1s")) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details().startswith("upstream request timeout (no response within the route's timeout of 0.1 s;")
        assert error.exchange.flags == "UT"
        assert dict(iter(error.trailing_metadata()))["meshlib-flags"] == "UT"


async def until_the_server_hears_of_it(server, passes):
    """Let deadlines pass, each longer than the last, until a call has come as far as the server before it was over: on a busy
    machine a short one may be over before."""
    heard = len(server.seen)
    for seconds in (0.3, 3.0, 30.0):
        await passes(seconds)
        if len(server.seen) > heard:
            return seconds
    raise AssertionError("the server never heard of a call")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_callers_own_deadline_is_deadline_exceeded(runtime_class, kind):
    with EchoServer(script=["ok", 60]) as server, mesh_of(server, rules=rule(timeout="600s")) as mesh:
        runtime = runtime_class(mesh)
        await runtime.unary()  # there is a connection

        async def passes(seconds):
            error = await refused(by_kind(runtime, kind, timeout=seconds))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert error.exchange.flags == "DC"

        seconds = await until_the_server_hears_of_it(server, passes)
        assert server.seen[1].time_remaining < seconds + 0.1


async def test_the_server_is_told_the_smaller_of_all_limits(runtime_class):
    with (
        EchoServer() as server,
        mesh_of(server, rules=rule(timeout="300s", retries=quick("5xx", perTryTimeout="100s"))) as mesh,
    ):
        runtime = runtime_class(mesh)
        await runtime.unary()
        await runtime.unary(timeout=50)
    with EchoServer() as other, mesh_of(other, rules=rule(timeout="300s")) as mesh:
        runtime = runtime_class(mesh)
        await runtime.unary(timeout=1000)
        await runtime.expand(1, timeout=1000)
    told = [s.time_remaining for s in (*server.seen, *other.seen)]
    for seconds, limit in zip(told, (100, 50, 300, 300), strict=True):
        assert limit - 30 < seconds < limit + 1  # gRPC rounds up


@pytest.mark.parametrize("kind", KINDS)
async def test_an_attempt_that_takes_too_long_is_given_up_and_retried(runtime_class, kind):
    retries = quick("reset", 30, perTryTimeout="0.15s")
    with EchoServer(script=[60, "ok"]) as server, mesh_of(server, rules=rule(retries=retries)) as mesh:
        assert await by_kind(runtime_class(mesh), kind) == ANSWERS[kind]
        assert len(server.seen) >= 2  # on a machine that has other work, one that succeeds may take too long as well


async def test_per_try_timeout_does_not_cut_a_stream_that_has_begun(runtime_class):
    try:
        await _streams_go_on_beyond(0.7, runtime_class)
    except (AssertionError, grpc.RpcError):  # a busy machine may take longer to begin one
        await _streams_go_on_beyond(10.0, runtime_class)


async def _streams_go_on_beyond(limit, runtime_class):
    retries, longer = quick("reset", perTryTimeout=f"{limit}s"), limit + 0.3
    with EchoServer() as server, mesh_of(server, rules=rule(retries=retries)) as mesh:
        runtime = runtime_class(mesh)
        if runtime.name == "asyncio":
            call = runtime.stub.Chat()
            await call.write(Message(text="a"))
            assert (await call.read()).text == "a"
            await asyncio.sleep(longer)
            await call.write(Message(text="b"))
            assert (await call.read()).text == "b"
            await call.done_writing()
            return

        def slowly():
            yield Message(text="a")
            time.sleep(longer)
            yield Message(text="b")

        assert [m.text for m in await asyncio.to_thread(lambda: list(runtime.stub.Chat(slowly())))] == ["a", "b"]
        # not even when nobody has read yet
        call = runtime.stub.Expand(Message(count=2))
        await asyncio.sleep(longer)
        assert [m.text for m in await asyncio.to_thread(list, call)] == ["0", "1"]
        assert len(server.seen) == 2


async def test_the_deadline_of_the_call_being_served_bounds_the_calls_made_for_it(runtime_class):
    with EchoServer(script=[60]) as server, mesh_of(server) as mesh:
        runtime = runtime_class(mesh)
        for own in ({}, {"timeout": 40}):

            async def passes(seconds, own=own):
                with mesh.deadline(seconds):
                    error = await refused(runtime.unary(**own))
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED

            seconds = await until_the_server_hears_of_it(server, passes)
            assert server.seen[-1].time_remaining < seconds + 0.1
        heard = len(server.seen)
        with mesh.deadline(-1):
            error = await refused(runtime.unary())
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(server.seen) == heard


async def test_a_route_timeout_in_the_middle_of_a_stream(runtime_class):
    for timeout in TIMEOUTS:
        with EchoServer() as server, mesh_of(server, rules=rule(timeout=timeout)) as mesh:
            messages, error = await messages_until_it_is_over(runtime_class(mesh))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details().startswith("upstream request timeout")
            assert await soon(lambda: not sum(c["active"] for c in mesh.status()["clusters"]))
        if messages:
            return
    raise AssertionError("no message came in time")


# -- outlier detection, limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "detection", "ejected"),
    [
        ("UNAVAILABLE", {"consecutive5xxErrors": 2}, True),
        ("UNAVAILABLE", {"consecutiveGatewayErrors": 2}, True),
        ("DEADLINE_EXCEEDED", {"consecutiveGatewayErrors": 2}, True),
        ("INTERNAL", {"consecutive5xxErrors": 2}, True),
        ("INTERNAL", {"consecutiveGatewayErrors": 2, "consecutive5xxErrors": 0}, False),
        ("UNKNOWN", {"consecutive5xxErrors": 2}, True),
        ("NOT_FOUND", {"consecutive5xxErrors": 2}, False),
        ("RESOURCE_EXHAUSTED", {"consecutive5xxErrors": 2}, False),
        ("CANCELLED", {"consecutive5xxErrors": 2}, False),
        (("head", "UNAVAILABLE"), {"consecutive5xxErrors": 2}, False),
        (("after", 1, "UNAVAILABLE"), {"consecutive5xxErrors": 2}, False),
    ],
)
async def test_ejection_by_grpc_status_is_envoys(step, detection, ejected):
    policy = {
        "loadBalancer": {"simple": "ROUND_ROBIN"},
        "outlierDetection": {**detection, "interval": "60s", "baseEjectionTime": "60s", "maxEjectionPercent": 100},
    }
    with (
        echo_servers([step], None) as [bad, good],
        mesh_of(bad, good, policy=policy, rules=rule(retries={"attempts": 0})) as mesh,
    ):
        runtime = Asyncio(mesh)
        for _ in range(10):
            with contextlib.suppress(grpc.RpcError):
                await runtime.expand(2)
        assert len(bad.seen) == (2 if ejected else 5)
        await mesh.aclose()


async def test_too_many_calls_at_once_are_refused(runtime_class):
    policy = {"connectionPool": {"http": {"http2MaxRequests": 1}}}
    with EchoServer(script=[60]) as server, mesh_of(server, policy=policy) as mesh:
        runtime = runtime_class(mesh)
        held = asyncio.create_task(runtime.unary())
        while not server.seen:
            await asyncio.sleep(0.005)
        error = await refused(runtime.unary())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "reset reason: overflow" in error.details()
        assert dict(iter(error.trailing_metadata()))["x-envoy-overloaded"] == "true"
        server.echo.release.set()
        await held


async def test_max_connections_does_not_make_calls_wait_for_each_other(runtime_class):
    policy = {"connectionPool": {"tcp": {"maxConnections": 1}}}
    with EchoServer(script=[60, "ok"]) as server, mesh_of(server, policy=policy) as mesh:
        runtime = runtime_class(mesh)
        held = asyncio.create_task(runtime.unary())
        while not server.seen:
            await asyncio.sleep(0.005)
        assert await asyncio.wait_for(runtime.server(), 30) == "one"
        server.echo.release.set()
        await held


async def test_nor_does_it_where_the_port_is_not_said_to_speak_grpc():
    from meshlib import Mesh
    from tests.support.grpc_runtimes import entry as entry_of

    with EchoServer(script=[60, "ok"]) as server:
        plain = entry_of(("127.0.0.1", server.port, "one"))
        plain["spec"]["ports"][0].update(name="http", protocol="HTTP")
        plain["spec"]["endpoints"][0]["ports"] = {"http": server.port}
        policy = {"connectionPool": {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}}
        with Mesh.from_resources([plain, destination_rule(HOST, **policy)]) as mesh:
            runtime = Threads(mesh)
            held = asyncio.create_task(runtime.unary())
            while not server.seen:
                await asyncio.sleep(0.005)
            assert await asyncio.wait_for(runtime.server(), 30) == "one"
            server.echo.release.set()
            await held


@pytest.mark.parametrize(
    ("name", "flags"),
    [("x-envoy-upstream-rq-timeout-ms", "UT"), ("x-envoy-upstream-rq-per-try-timeout-ms", "UT")],
)
async def test_a_caller_may_ask_for_timeouts_as_of_envoy(runtime_class, name, flags):
    with EchoServer(script=[60]) as server, mesh_of(server, rules=rule(timeout="60s", retries={"attempts": 0})) as mesh:
        error = await refused(runtime_class(mesh).unary(metadata=((name, "400"),)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.exchange.flags == flags
        assert name not in server.seen[0].metadata


async def test_messages_are_not_kept_once_a_stream_is_committed():
    with EchoServer() as server, mesh_of(server) as mesh:
        call = Asyncio(mesh).stub.Chat()
        for _ in range(3):
            await call.write(Message(text="x" * 1000))
            await call.read()
        assert len(call.run.requests.kept) <= 3
        assert call.run.requests.kept._messages == []
        await call.done_writing()
        await mesh.aclose()


async def test_max_requests_per_connection_opens_a_new_one(runtime_class):
    policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 2}}}
    with EchoServer() as server, mesh_of(server, policy=policy) as mesh:
        runtime = runtime_class(mesh)
        for _ in range(6):
            await runtime.unary()
        assert sorted(Counter(s.peer for s in server.seen).values()) == [2, 2, 2]


# -- ResiliencePolicy -----------------------------------------------------------------------------------------------------


async def test_a_breaker_opens_on_failing_statuses(runtime_class):
    more = [policy_of(circuitBreaker={"failureThreshold": 3, "resetTimeout": "60s"})]
    with (
        EchoServer(script=["INTERNAL"]) as server,
        mesh_of(server, more=more, rules=rule(retries={"attempts": 0})) as mesh,
    ):
        runtime = runtime_class(mesh)
        codes = [(await refused(runtime.unary())).code().name for _ in range(5)]
        assert codes == ["INTERNAL"] * 3 + ["UNAVAILABLE"] * 2
        assert len(server.seen) == 3


async def test_a_status_that_is_the_callers_doing_does_not_open_it(runtime_class):
    more = [policy_of(circuitBreaker={"failureThreshold": 2, "resetTimeout": "60s"})]
    with EchoServer(script=["NOT_FOUND"]) as server, mesh_of(server, more=more) as mesh:
        runtime = runtime_class(mesh)
        assert [(await refused(runtime.unary())).code().name for _ in range(4)] == ["NOT_FOUND"] * 4


async def test_a_slow_unary_call_gets_company(runtime_class):
    more = [policy_of(hedging={"delay": "50ms", "unsafeMethods": True})]
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    with echo_servers([60], None) as [slow, fast], mesh_of(slow, fast, policy=policy, more=more) as mesh:
        runtime = runtime_class(mesh)
        assert {await runtime.server() for _ in range(4)} == {"b"}
        assert await soon(lambda: not sum(c["active"] for c in mesh.status()["clusters"]))


async def test_a_fallback_answers_from_elsewhere(runtime_class):
    more = [
        policy_of(fallback={"destination": {"host": "spare.test", "port": {"number": 9080}}}),
    ]
    with echo_servers(["UNAVAILABLE"], None) as [bad, spare]:
        more.append(entry(("127.0.0.1", spare.port, "x"), host="spare.test"))
        with mesh_of(bad, more=more, rules=rule(retries={"attempts": 0})) as mesh:
            runtime = runtime_class(mesh)
            for kind in KINDS:
                assert await runtime.server(kind) == "b"


async def test_a_deadline_policy_tells_its_own_header_too():
    more = [policy_of(deadline={"header": "x-request-deadline", "propagate": True})]
    with EchoServer() as server, mesh_of(server, rules=rule(timeout="200s"), more=more) as mesh:
        with mesh.deadline(100.0):
            await Threads(mesh).unary()
        assert 50_000 < int(server.seen[0].metadata["x-request-deadline"]) <= 100_000


def test_bulkheads_hold_futures_in_line():
    more = [policy_of(bulkhead={"maxConcurrent": 1, "maxWaiting": 1})]
    with EchoServer(script=[60, "ok"]) as server, mesh_of(server, more=more) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        first = stub.Unary.future(Message(text="1"))
        assert eventually(lambda: server.seen)
        second = stub.Unary.future(Message(text="2"))
        third = stub.Unary.future(Message(text="3"))
        assert third.exception(30).code() is grpc.StatusCode.UNAVAILABLE
        assert not second.done()
        server.echo.release.set()
        assert first.result(30).text == "1"
        assert second.result(30).text == "2"
