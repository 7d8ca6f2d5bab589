"""Without an SDK tracing costs a call nothing; one that is installed later is noticed, and contexts go on all the same."""

from __future__ import annotations

import gc

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine import inbound_context
from meshlib.engine.inbound import InboundRequest
from meshlib.telemetry.spans import EAGER_LOOKS, LOOK_EVERY, Spans
from meshlib.telemetry.tracing import Tracing
from tests.support.spans import calls_of

URL = "http://reviews.example/"
CONTEXT = "00-11111111111111111111111111111111-2222222222222222-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


class Calls:
    """A mesh's calls, which go nowhere."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []
        self.mesh = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
        self.client = self.mesh.client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request):
        self.seen.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"hello"))

    def make(self, count=1):
        for _ in range(count):
            self.client.get(URL)


@pytest.fixture
def calls():
    made = Calls()
    with made.mesh, made.client:
        yield made


def test_an_application_without_an_sdk_pays_nothing_once_it_is_under_way(calls, monkeypatch):
    calls.make(EAGER_LOOKS)
    asked = []
    started = Tracing.started
    monkeypatch.setattr(Tracing, "started", lambda *given: asked.append(given) or started(*given))
    calls.make(LOOK_EVERY * 3)
    assert len(asked) == 3


def test_an_sdk_is_noticed_late_too(calls, provider, exporter, monkeypatch):
    calls.make(EAGER_LOOKS + 7)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(calls.mesh._core.telemetry._tracing, "_tracer", trace.get_tracer("meshlib"))
    calls.make(LOOK_EVERY)
    noticed = len(calls_of(exporter.get_finished_spans()))
    assert noticed >= 1
    calls.make(10)
    assert len(calls_of(exporter.get_finished_spans())) == noticed + 10


def test_the_context_of_the_request_that_is_served_goes_on_while_nobody_looks(calls):
    calls.make(EAGER_LOOKS + 3)
    token = inbound_context.current.set(InboundRequest("GET", "/", (("traceparent", CONTEXT), ("x-request-id", "7"))))
    try:
        calls.make(LOOK_EVERY * 2)
    finally:
        inbound_context.current.reset(token)
    calls.make()
    forwarded = [request.headers.get("traceparent") for request in calls.seen]
    assert forwarded == [None] * (EAGER_LOOKS + 3) + [CONTEXT] * LOOK_EVERY * 2 + [None]


def test_a_provider_of_ones_own_is_used_from_the_first_call(provider):
    assert not Spans(provider, SpanKind.CLIENT).nobody_records()


@pytest.mark.parametrize("how", ["read", "closed", "dropped", "closed and dropped"])
def test_a_body_on_its_way_is_recorded_once_however_it_ends(calls, how):
    registry = calls.mesh._registry
    response = calls.client.send(calls.client.build_request("GET", URL), stream=True)

    def counted():
        return registry.get_sample_value("istio_requests_total", labels()) or 0

    def labels():
        found = [s.labels for family in registry.collect() for s in family.samples if s.name == "istio_requests_total"]
        return found[0] if found else {}

    assert counted() == 0
    if how == "read":
        response.read()
    if "closed" in how:
        response.close()
    del response
    gc.collect()
    assert counted() == 1
    assert labels()["response_code"] == "200"
    calls.make()
    assert counted() == 2


def test_what_gives_no_tracer_is_told_to_whoever_makes_the_mesh():
    for wrong in (42, Broken()):
        with pytest.raises(
            meshlib.errors.MeshError, match="gives no tracer .*: give an opentelemetry.sdk.trace.TracerProvider"
        ):
            meshlib.Mesh.from_resources([], registry=CollectorRegistry(), tracer_provider=wrong)


class Broken(trace.TracerProvider):
    def get_tracer(self, *_args, **_rest):
        raise RuntimeError("no")
