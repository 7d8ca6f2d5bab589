"""Calls that are a part of a trace are examples of how long calls take; what a registry raises hurts nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import meshlib
from meshlib.telemetry.exposition import exposition
from meshlib.telemetry.metrics import Metrics
from tests.support.mesh_server import MeshServer, tells
from tests.support.metrics_server import metrics_server
from tests.support.prometheus import Prometheus, needs_prometheus, prometheus
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

__all__ = ["prometheus"]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ANSWER = httpx.MockTransport(lambda _: httpx.Response(200))


class Spans:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def traces(self) -> set[str]:
        return {f"{span.context.trace_id:032x}" for span in self.exporter.get_finished_spans() if span.context}


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


def examples(registry: CollectorRegistry) -> list[Any]:
    text = b"".join(exposition(registry, OPENMETRICS).pieces).decode()
    return [s.exemplar for f in text_string_to_metric_families(text) for s in f.samples if s.exemplar is not None]


def test_a_call_that_is_recorded_in_a_span_is_the_exemplar_of_its_bucket(spans: Spans) -> None:
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=registry, tracer_provider=spans.provider) as mesh:
        with mesh.client(transport=ANSWER) as client:
            client.get("http://reviews.example/")
    (found,) = examples(registry)
    assert {found.labels["trace_id"]} == spans.traces()
    assert found.value > 0


def test_so_is_a_call_that_is_served(spans: Spans) -> None:
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=registry, tracer_provider=spans.provider) as mesh:
        with MeshServer(tells, mesh) as server:
            httpx.get(f"http://127.0.0.1:{server.port}/")
    (found,) = examples(registry)
    assert {found.labels["trace_id"]} == spans.traces()


OVERRIDES = {
    "a tag of its own": {"tagOverrides": {"kind": {"value": "'x'"}}},
    "a tag that is evaluated": {"tagOverrides": {"kind": {"value": "request.method"}}},
    "a tag less": {"tagOverrides": {"response_flags": {"operation": "REMOVE"}}},
    "it is off": {"disabled": True},
}


@pytest.mark.parametrize("override", OVERRIDES.values(), ids=OVERRIDES.keys())
@pytest.mark.parametrize("metric", ["REQUEST_COUNT", "REQUEST_SIZE"])
def test_so_is_one_while_a_telemetry_changes_another_metric(
    spans: Spans, metric: str, override: dict[str, Any]
) -> None:
    registry = CollectorRegistry()
    changed = {"match": {"metric": metric}, **override}
    telemetry = {
        "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "all"},
        "spec": {"metrics": [{"providers": [{"name": "prometheus"}], "overrides": [changed]}]},
    }  # fmt: skip
    with meshlib.Mesh.from_resources([telemetry], registry=registry, tracer_provider=spans.provider) as mesh:
        with mesh.client(transport=ANSWER) as client, MeshServer(tells, mesh) as server:
            client.get("http://reviews.example/")
            httpx.get(f"http://127.0.0.1:{server.port}/")
    found = examples(registry)
    assert len(found) == 2
    assert {each.labels["trace_id"] for each in found} == spans.traces()


def test_that_asks_no_expression_for_more_than_one_failure_a_call(spans: Spans) -> None:
    override = {"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": {"who": {"value": "request.headers['x-nobody']"}}}
    telemetry = {
        "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "all"},
        "spec": {"metrics": [{"providers": [{"name": "prometheus"}], "overrides": [override]}]},
    }  # fmt: skip
    with (
        meshlib.Mesh.from_resources([telemetry], registry=CollectorRegistry(), tracer_provider=spans.provider) as mesh,
        mesh.client(transport=ANSWER) as client,
    ):
        before = mesh.status()["telemetry"]["expression_errors"].get("request.headers['x-nobody']", 0)
        client.get("http://reviews.example/")
        assert mesh.status()["telemetry"]["expression_errors"]["request.headers['x-nobody']"] == before + 1


def test_so_is_one_that_is_counted_for_envoys_statistics_too(spans: Spans) -> None:
    registry = CollectorRegistry()
    with EchoServer() as server:
        made = [service("reviews"), pod("reviews", "v1", server.port)]
        options: dict[str, Any] = {"registry": registry, "tracer_provider": spans.provider, "envoy_metrics": True}
        with meshlib.Mesh.from_resources(made, **options) as mesh, mesh.client() as client:
            client.get("http://reviews:9080/")
    (found,) = examples(registry)
    assert {found.labels["trace_id"]} == spans.traces()


def test_without_a_tracer_there_is_none() -> None:
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=registry) as mesh, mesh.client(transport=ANSWER) as client:
        client.get("http://reviews.example/")
    assert examples(registry) == []


@needs_prometheus
def test_prometheus_keeps_them(spans: Spans, prometheus: Prometheus) -> None:
    registry = CollectorRegistry()
    with EchoServer() as server:
        made = [service("reviews"), pod("reviews", "v1", server.port)]
        with meshlib.Mesh.from_resources(made, registry=registry, tracer_provider=spans.provider) as mesh:
            with mesh.client() as client, metrics_server(registry) as target:
                client.get("http://reviews:9080/")
                prometheus.scrape("traced", target)
                prometheus.scraped("traced", times=1)
    (found,) = prometheus.exemplars("istio_request_duration_milliseconds_bucket")
    assert {found["labels"]["trace_id"]} == spans.traces()


def test_metrics_that_raise_leave_spans_and_calls_alone(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    with meshlib.Mesh.from_resources([], registry=CollectorRegistry(), tracer_provider=spans.provider) as mesh:
        with mesh.client(transport=ANSWER) as client:

            def no(*_: object) -> None:
                raise RuntimeError("no")

            monkeypatch.setattr(Metrics, "_make", no)
            assert client.get("http://reviews.example/").status_code == 200
        assert mesh._core.telemetry.failures == 1
    assert len(spans.traces()) == 1
