"""One span a call and one below it for each attempt, what is told on them, and what happens to a call, as events."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from tests.support.fake_clock import FakeClock
from tests.support.grpc_echo import eventually
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer, failing
from tests.support.spans import Kept

URL = "http://user:canary@reviews:9080/reviews/0?token=canary"
RETRIES = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}


@pytest.fixture(scope="module")
def upstream():
    with EchoServer("v1") as made:
        yield made


@pytest.fixture
def server(upstream):
    upstream.behave = None
    upstream.seen.clear()
    return upstream


@pytest.fixture
def kept():
    made = Kept()
    yield made
    made.provider.shutdown()


def mesh_of(port, kept, *more, policy=None, clock=None, **rule):
    rules = destination_rule("reviews", "v1", **(policy or {}))
    made = [service("reviews"), pod("reviews", "v1", port), rules, *more]
    made.append(virtual_service("reviews", {"name": "all", "route": [to("reviews", "v1")], **rule}))
    options = {"tracer_provider": kept.provider, "registry": CollectorRegistry(), "clock": clock}
    return meshlib.Mesh.from_resources(made, workload=meshlib.Workload("page-v1", labels={"app": "page"}), **options)


def call(mesh, runtime, **options):
    """One call of httpx; its response."""
    if runtime == "threads":
        with mesh.client() as client:
            return client.get(URL, **options)

    async def go():
        async with mesh.async_client() as client:
            return await client.get(URL, **options)

    return asyncio.run(go())


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request):
    return request.param


def test_a_call_and_its_attempt_by_the_stable_conventions(server, kept, runtime):
    with mesh_of(server.port, kept) as mesh:
        call(mesh, runtime)
    [attempt], [made] = kept.attempts, kept.calls
    assert (made.name, made.kind, attempt.name, attempt.kind) == (
        "GET",
        SpanKind.CLIENT,
        "GET attempt",
        SpanKind.CLIENT,
    )
    assert attempt.parent.span_id == made.context.span_id
    both = {
        "http.request.method": "GET",
        "url.full": "http://reviews:9080/reviews/0?REDACTED",
        "server.address": "reviews",
        "server.port": 9080,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "meshlib.endpoint": f"127.0.0.1:{server.port}",
    }
    assert both.items() <= dict(made.attributes).items()
    assert both.items() <= dict(attempt.attributes).items()
    of_call = {
        "meshlib.resource": "VirtualService/default/reviews",
        "meshlib.route": "all",
        "meshlib.host": "reviews.default.svc.cluster.local",
        "meshlib.subset": "v1",
        "meshlib.flags": "",
        "meshlib.attempts": 1,
        "istio.canonical_service": "page",
        "istio.namespace": "default",
        "guid:x-request-id": server.seen[0]["headers"]["x-request-id"],
    }
    assert of_call.items() <= dict(made.attributes).items()
    of_attempt = {"meshlib.attempt": 1, "network.peer.address": "127.0.0.1", "network.peer.port": server.port}
    assert of_attempt.items() <= dict(attempt.attributes).items()
    assert (made.status.status_code, attempt.status.status_code) == (StatusCode.UNSET, StatusCode.UNSET)
    assert "http.request.resend_count" not in attempt.attributes
    assert "canary" not in made.to_json() + attempt.to_json()


def test_each_attempt_of_a_retried_call_has_its_span_whose_context_its_upstream_gets(server, kept, runtime):
    left = [503, 503]
    server.behave = lambda handler: bool(left) and (handler.answer(left.pop()) or True)
    with mesh_of(server.port, kept, retries=RETRIES) as mesh:
        assert call(mesh, runtime).status_code == 200
    [made] = kept.calls
    assert [span.parent.span_id for span in kept.attempts] == [made.context.span_id] * 3
    sent = [seen["headers"]["traceparent"] for seen in server.seen]
    assert sent == [
        f"00-{made.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
        for span in kept.attempts
    ]
    told = [
        tuple(map(span.attributes.get, ("meshlib.attempt", "http.request.resend_count", "error.type")))
        for span in kept.attempts
    ]
    assert told == [(1, None, "503"), (2, 1, "503"), (3, 2, None)]
    assert [span.status.status_code for span in kept.attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    retries = [(event.name, event.attributes["meshlib.reason"]) for event in made.events]
    assert retries == [("meshlib.retry", "503")] * 2
    assert (made.status.status_code, made.attributes["http.request.resend_count"]) == (StatusCode.UNSET, 2)
    ends = [span.end_time for span in kept.attempts]
    assert ends == sorted(ends)
    assert len({seen["headers"]["x-request-id"] for seen in server.seen}) == 1


def test_a_connection_that_is_refused_is_told_by_name(kept, runtime):
    with mesh_of(free_port(), kept) as mesh, pytest.raises(httpx.ConnectError):
        call(mesh, runtime)
    [made] = kept.calls
    assert (made.attributes["error.type"], made.attributes["meshlib.flags"]) == ("connect_failed", "UF,URX")
    assert {span.attributes["error.type"] for span in kept.attempts} == {"connect_failed"}
    assert len(kept.attempts) == 3, "as many as Istio tries by default"
    assert made.status.status_code is StatusCode.ERROR


def test_a_status_of_the_caller_s_doing_is_an_error_of_a_client_span(server, kept):
    server.behave = failing(404)
    with mesh_of(server.port, kept) as mesh:
        call(mesh, "threads")
    assert [span.attributes["error.type"] for span in kept.spans] == ["404", "404"]


def test_an_ejection_is_an_event_of_the_call_that_caused_it(server, kept, runtime):
    server.behave = failing(500)
    policy = {"outlierDetection": {"consecutive5xxErrors": 2, "maxEjectionPercent": 100}}
    with mesh_of(server.port, kept, policy=policy, retries={"attempts": 0}) as mesh:
        for _ in range(2):
            call(mesh, runtime)
    first, second = kept.calls
    assert [event.name for event in first.events] == []
    assert [(event.name, event.attributes["meshlib.endpoint"]) for event in second.events] == [
        ("meshlib.ejection", f"127.0.0.1:{server.port}")
    ]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"abort": {"httpStatus": 418, "percentage": {"value": 100}}}, (0.0, True)),
        ({"delay": {"fixedDelay": "1ms", "percentage": {"value": 100}}}, (0.001, False)),
    ],
)
def test_a_fault_is_an_event(server, kept, runtime, fault, told):
    with mesh_of(server.port, kept, fault=fault) as mesh:
        call(mesh, runtime)
    [made] = kept.calls
    [event] = made.events
    assert event.name == "meshlib.fault"
    assert (event.attributes["meshlib.fault.delay"], event.attributes["meshlib.fault.aborts"]) == told
    assert len(kept.attempts) == (0 if told[1] else 1)


def test_a_hedge_is_an_event_and_an_attempt_with_a_context_of_its_own(server, kept, runtime):
    first = []
    clock = FakeClock()

    def hang(handler):
        if not first:
            first.append(True)
            clock.advance(1.0)  # the first attempt is here: only now it is time for another
            released.wait(20)
        return False

    released = threading.Event()
    server.behave = hang
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "reviews"},
        "spec": {
            "host": "reviews",
            "hedging": {"delay": "10ms", "maxHedges": 1},
        },
    }
    try:
        with mesh_of(server.port, kept, policy, clock=clock) as mesh:
            assert call(mesh, runtime).status_code == 200
            released.set()
    finally:
        released.set()
    [made] = kept.calls
    assert "meshlib.hedge" in [event.name for event in made.events]
    lost, won = sorted(kept.attempts, key=lambda span: span.start_time)
    assert (lost.attributes.get("meshlib.lost_to_hedge"), won.attributes.get("meshlib.hedge")) == (True, True)
    sent = [seen["headers"]["traceparent"].split("-")[2] for seen in server.seen]
    assert sent == [f"{span.context.span_id:016x}" for span in (lost, won)]


async def test_a_call_that_is_cancelled_ends_its_spans_when_it_was(server, kept):
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    server.behave = lambda handler: (
        loop.call_soon_threadsafe(gate.set) or handler.wfile.flush() or stop.wait(20) or False
    )
    stop = threading.Event()
    async with mesh_of(server.port, kept) as mesh:
        async with mesh.async_client() as client:
            task = asyncio.create_task(client.get("http://reviews:9080/"))
            await gate.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stop.set()
        mesh.status()
    [attempt], [made] = kept.attempts, kept.calls
    assert made.attributes["error.type"] == "cancelled"
    assert attempt.end_time == made.end_time >= made.start_time


def test_a_mirrored_copy_is_told_the_context_of_the_call(server, kept):
    rule = {"mirrors": [{"destination": {"host": "reviews", "subset": "v1"}}]}
    with mesh_of(server.port, kept, **rule) as mesh:
        call(mesh, "threads")
        assert eventually(lambda: len(server.seen) == 2)
    [attempt], [made] = kept.attempts, kept.calls
    sent = {seen["headers"]["host"].split(":")[0]: seen["headers"]["traceparent"].split("-")[2] for seen in server.seen}
    assert sent == {
        "reviews": f"{attempt.context.span_id:016x}",
        "reviews-shadow": f"{made.context.span_id:016x}",
    }


@pytest.mark.parametrize(
    "method", ["set_attributes", "set_attribute", "add_event", "set_status", "end", "get_span_context"]
)
def test_an_sdk_that_raises_anywhere_fails_no_call_and_is_counted(server, kept, runtime, method):
    left = [503]
    server.behave = lambda handler: bool(left) and (handler.answer(left.pop()) or True)
    kept.breaks(method)
    with mesh_of(server.port, kept, retries=RETRIES) as mesh:
        assert call(mesh, runtime).status_code == 200
        assert mesh.status()["failures"]["telemetry"] >= 1
