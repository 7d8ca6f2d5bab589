"""Whatever callers and upstreams put into headers and metadata, a call ends in one of the ways that are written down."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Ended
from meshlib.engine.exchange import exchange_of
from meshlib.engine.explain import explain
from meshlib.engine.inbound import InboundCall, inbound
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.outcome import Outcome
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.telemetry.inbound_tracing import InboundTracing
from meshlib.telemetry.tracing import Tracing
from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.request import GrpcRequest
from meshlib.transport.grpcio.client.shown_call import with_metadata
from meshlib.transport.grpcio.metadata import from_raw
from tests.support.fake_clock import FakeClock
from tests.support.inbound import admitted
from tests.support.resources import to, virtual_service
from tests.support.scripted import Bench
from tests.support.servers import EchoServer
from tests.support.strangers import BEYOND_LATIN, HOST, NUMBERS, READ, reading_everything

OF_THE_PROXY = tuple(name for name in READ if name.startswith("x-envoy-"))
PATHS = ("/", "/redirected/a?b", "/answered", "/rewritten/\u00e9")

names = st.sampled_from(READ)
wire_values = st.sampled_from(NUMBERS) | st.text(st.characters(max_codepoint=255), max_size=40)
texts = wire_values | st.sampled_from(BEYOND_LATIN) | st.text(max_size=20)


def request_headers(values: Any) -> Any:
    return st.lists(st.tuples(names, values), max_size=8)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(*reading_everything())


class Calls:
    """One mesh over a MockTransport that answers with what the test says."""

    def __init__(self) -> None:
        self.answer: list[tuple[bytes, bytes]] = []
        self.status = 200
        self.seen: list[httpx.Request] = []
        self.mesh = meshlib.Mesh.from_resources(
            reading_everything(),
            clock=FakeClock(),
            registry=CollectorRegistry(),
            tracer_provider=TracerProvider(),
            seed=1,
        )
        inner = httpx.MockTransport(self.respond)
        self.client = self.mesh.client(transport=inner, local_replies="respond")
        self.loop = asyncio.new_event_loop()
        self.async_client = self.mesh.async_client(transport=inner, local_replies="respond")

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return httpx.Response(self.status, headers=self.answer)

    def send(self, runtime: str, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> httpx.Response:
        request = httpx.Request(method, f"http://{HOST}{path}", headers=headers)
        if runtime == "threads":
            return self.client.send(request)
        return self.loop.run_until_complete(self.async_client.send(request))

    def close(self) -> None:
        self.client.close()
        self.loop.run_until_complete(self.async_client.aclose())
        self.loop.close()
        self.mesh.close()


@pytest.fixture(scope="module")
def calls():
    made = Calls()
    yield made
    made.close()


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request):
    return request.param


@pytest.mark.parametrize("value", NUMBERS)
def test_what_is_no_number_is_ignored_and_the_call_goes_on(calls, runtime, value):
    calls.status, calls.answer = 503, []
    headers = [(name.encode(), value.encode("latin-1")) for name in OF_THE_PROXY if name != "x-envoy-max-retries"]
    assert calls.send(runtime, "GET", "/", headers).status_code in (503, 504)
    calls.seen.clear()
    retries = [(b"x-envoy-max-retries", value.encode("latin-1"))]
    assert calls.send(runtime, "GET", "/", retries).status_code in (503, 504)
    wanted = {"0": 0, "+5": 5, " 7 ": 7, "0" * 5000 + "3": 3}.get(value, 1)  # the rule's one
    if value == "4294967295":
        assert len(calls.seen) > 8  # until the route's timeout
    else:
        assert len(calls.seen) == 1 + wanted


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["threads", "asyncio"]),
    st.sampled_from(["GET", "OPTIONS", "POST", "BREW", "M\u00dcLL", "\u65b9\u6cd5"]),
    st.sampled_from(PATHS),
    request_headers(wire_values),
    st.sampled_from([200, 201, 302, 404, 409, 500, 503]),
    request_headers(wire_values),
)
def test_a_call_is_answered_or_raises_what_httpx_raises(calls, runtime, method, path, sent, status, answer):
    calls.status = status
    calls.answer = [(name.encode(), value.encode("latin-1")) for name, value in answer if name != "content-encoding"]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent]
    try:
        response = calls.send(runtime, method, path, raw)
    except httpx.HTTPError:
        return
    assert 200 <= response.status_code < 600
    assert calls.mesh.status()["telemetry_failures"] == 0


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(PATHS), request_headers(texts))
def test_explain_explains_whatever_it_is_asked(bench, method, path, headers):
    view = PlainRequest(method, "http", HOST, path, dict(headers))
    found = explain(bench.live, view, bench.clock.now)
    assert str(found)
    assert found.to_dict()["host"] == HOST


metadata_values = texts | st.binary(max_size=20)


def grpc_call(bench: Bench, metadata: tuple[Any, ...]) -> Call:
    method = Method("unary_unary", "/pkg.Svc/Method", None, None)
    request = GrpcRequest(method, b"", "http", HOST, HOST, metadata, 1.0)
    call = Call(request, bench.live, bench.clock, bench.rng, NO_TIMEOUTS)
    call.record = route(bench.live.snapshot, request)
    return call


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names | texts.filter(bool) | st.just("key-bin"), metadata_values), max_size=8))
def test_metadata_of_any_kind_goes_through_every_policy(bench, metadata):
    call = grpc_call(bench, tuple(metadata))
    Tracing(TracerProvider()).started(call)
    exchange = exchange_of(call)
    run(exchange, bench.script(Outcome(status=503), Outcome(status=200, whole=b""), took=0.0))
    finish(exchange)
    from_raw(call.request.headers)
    call.request.metadata(1)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names | st.just("key-bin"), wire_values), max_size=8))
def test_a_status_that_a_rule_copies_from_a_stranger_is_one_of_grpcs_or_none(bench, trailers):
    class Told:
        def details(self) -> str:
            return ""

    call = grpc_call(bench, ())
    outcome = GrpcOutcome(code=14, at_once=True)
    outcome.told_headers = True
    outcome.headers = [(name.encode(), value.encode("latin-1")) for name, value in trailers]
    told = with_metadata(Told(), outcome, call.record)
    assert type(told) is Told or told.code().value[0] in range(17)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(names | texts, texts | st.binary(max_size=20)), max_size=8), st.sampled_from(["grpc", "http"])
)
def test_an_inbound_request_is_served_or_refused(bench, headers, protocol):
    request = InboundRequest("POST", "/pkg.Svc/Method", headers, protocol=protocol)
    clock = FakeClock()
    call = InboundCall(request, bench.live.snapshot.inbound.default, clock, random.Random(1), clock.monotonic() + 10)
    assert call.inbound.faults
    span = InboundTracing(TracerProvider()).started(call)
    exchange = inbound(call)
    if admitted(exchange, clock.sleep) is None:
        finish(exchange, Ended(200, 0))
    InboundTracing(TracerProvider()).finished(call, span)


def test_the_longest_time_that_a_caller_may_ask_for_is_no_limit_too_many(runtime):
    """Event loops, sockets and clocks overflow at some number of seconds: over real connections, then."""
    with EchoServer("a") as server:
        entry = reading_everything()[0]
        entry["spec"]["endpoints"] = [{"address": "127.0.0.1", "ports": {"http": server.port}}]
        rule = {"route": [to(HOST)], "timeout": "1s"}
        with meshlib.Mesh.from_resources([entry, virtual_service("reviews", rule, hosts=[HOST])]) as mesh:
            for name in ("x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms"):
                for value in ("18446744073709551615", "99999999999", "4294967295", "2147483648"):
                    headers = {name: value}

                    async def go(headers: dict[str, str] = headers) -> httpx.Response:
                        async with mesh.async_client(trust_env=False, timeout=None) as client:
                            return await client.post(f"http://{HOST}/", headers=headers, content=b"x" * 100_000)

                    if runtime == "asyncio":
                        assert asyncio.run(go()).status_code == 200
                    else:
                        with mesh.client(trust_env=False, timeout=None) as client:
                            body = client.post(f"http://{HOST}/", headers=headers, content=b"x" * 100_000)
                            assert body.status_code == 200
