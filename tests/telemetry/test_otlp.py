"""Spans of calls end to end: through the SDK's exporter to an OTLP receiver, over gRPC and over HTTP."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry

import meshlib
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer


@pytest.fixture(scope="module")
def collector():
    with OtlpReceiver() as made:
        yield made


@pytest.fixture
def receiver(collector):
    collector.clear()
    return collector


@pytest.fixture(scope="module")
def server():
    with EchoServer("v1") as made:
        yield made


def resources(port: int) -> list[dict]:
    return [
        service("reviews"),
        pod("reviews", "v1", port),
        destination_rule("reviews", "v1"),
        virtual_service("reviews", {"route": [to("reviews", "v1")]}),
    ]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_span_of_a_call_arrives_with_what_the_mesh_knows(receiver, server, protocol):
    exporter = (
        OverGrpc(endpoint=receiver.grpc, insecure=True)
        if protocol == "grpc"
        else OverHttp(endpoint=f"{receiver.http}/v1/traces")
    )
    provider = TracerProvider(resource=Resource.create({"service.name": "productpage"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    made = resources(server.port)
    with meshlib.Mesh.from_resources(made, tracer_provider=provider, registry=CollectorRegistry()) as mesh:
        with mesh.client() as client:
            client.get("http://reviews:9080/reviews/0")
    provider.shutdown()
    receiver.wait_for(lambda there: there.spans)
    span = next(span for span in receiver.spans if span.attributes.get("meshlib.subset") == "v1")
    assert (span.resource["service.name"], span.scope) == ("productpage", "meshlib")
    assert span.attributes["meshlib.host"] == "reviews.default.svc.cluster.local"
    assert f"{span.item.trace_id.hex()}" in server.seen[-1]["headers"]["traceparent"]
