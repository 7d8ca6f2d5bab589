"""Spans of the proxy: to a collector, from each process by a provider of its own."""

from __future__ import annotations

import os

import pytest
from opentelemetry.sdk.trace import TracerProvider

from meshlib.problems import MeshError
from meshlib.proxy.spans import SpansByProcess, spans_to
from meshlib.telemetry.own_spans import OwnTracerProvider
from tests.support.inbound_proxy import InboundProxy
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer


def test_a_process_makes_its_provider_with_its_first_span():
    made = []

    def make():
        made.append(TracerProvider())
        return made[-1]

    spans = SpansByProcess(make)
    tracer = spans.get_tracer("meshlib")
    assert made == []
    with tracer.start_as_current_span("a") as span:
        assert span.get_span_context().is_valid
    tracer.start_span("b").end()
    assert len(made) == 1
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tracer.start_span("c").end()
            os.write(write, b"%d" % len(made))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 9) == b"2"
    os.close(read)
    os.close(write)
    spans.shutdown()


def test_what_is_shut_down_is_what_this_process_has_made():
    SpansByProcess(lambda: pytest.fail("there was no span")).shutdown()


def test_a_collector_has_a_url():
    with pytest.raises(MeshError, match="jaeger:4318"):
        spans_to("jaeger:4318", "web")


def test_over_http_spans_are_written_by_ourselves():
    with OtlpReceiver() as receiver:
        spans = spans_to(receiver.http, "web")
        assert isinstance(spans.here(), OwnTracerProvider)
        spans.get_tracer("meshlib").start_span("GET").end()
        spans.shutdown()
        (told,) = receiver.spans
    assert (told.name, told.scope, told.resource["service.name"]) == ("GET", "meshlib", "web")


@pytest.mark.parametrize("how", ["over gRPC", "configured", "a version that takes no bytes"])
def test_else_the_sdk_makes_them(how, monkeypatch):
    if how == "configured":
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    if how == "a version that takes no bytes":
        monkeypatch.setattr("meshlib.otel.sends_bytes", lambda _exporter: None)
    spans = spans_to("grpc://127.0.0.1:4317" if how == "over gRPC" else "http://127.0.0.1:4318", "web")
    assert isinstance(spans.here(), TracerProvider)
    spans.shutdown()


def test_the_proxy_tells_a_collector_of_its_calls_and_goes_on_with_the_clients_trace():
    trace = "80f198ee56343ba864fe8b2a57d3eff7"
    with OtlpReceiver() as receiver, EchoServer("v1") as server:
        found = [service("reviews"), pod("reviews", "v1", server.port)]
        with Proxy(found, tracer_provider=spans_to(receiver.http, "web")) as proxy, proxy.client() as client:
            for _ in range(2):
                assert (
                    client.get("/", "GET", "reviews:9080", f"traceparent: 00-{trace}-e457b5a2e4d86bd1-01").status == 200
                )
        told = receiver.spans
    assert [seen["headers"]["traceparent"].split("-")[1] for seen in server.seen] == [trace] * 2
    assert len(told) == 4  # a call and its attempt, twice


@pytest.mark.parametrize("who", ["we", "the SDK"])
def test_the_application_behind_the_proxy_goes_on_below_the_span_of_its_request(who, monkeypatch):
    trace, parent = "80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1"
    if who == "the SDK":
        monkeypatch.setattr("meshlib.otel.sends_bytes", lambda _exporter: None)
    with OtlpReceiver() as receiver, EchoServer("v1") as server:
        spans = spans_to(receiver.http, "reviews")
        with InboundProxy(server.port, tracer_provider=spans) as proxy, proxy.client() as client:
            assert client.get("/a", "GET", "reviews:9080", f"traceparent: 00-{trace}-{parent}-01").status == 200
            assert client.get("/b", "GET", "reviews:9080", f"traceparent: 00-{trace}-{parent}-00").status == 200
            assert client.get("/c", "GET", "reviews:9080").status == 200
        spans.shutdown()
        told = {each.attributes["url.path"]: each.item for each in receiver.spans}
    first, second, third = (seen["headers"]["traceparent"].split("-") for seen in server.seen)
    assert first == ["00", trace, told["/a"].span_id.hex(), "01"]
    assert told["/a"].parent_span_id.hex() == parent
    assert (second[1], second[3]) == (trace, "00")
    assert third[:3] == ["00", told["/c"].trace_id.hex(), told["/c"].span_id.hex()]
    assert third[3] in ("01", "03")  # sampled; the SDK says of its ids that they are random as well
    assert sorted(told) == ["/a", "/c"]
