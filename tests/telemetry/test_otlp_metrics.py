"""Metrics through OpenTelemetry's SDK: what a collector gets is what a scrape would read."""

from __future__ import annotations

import os

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from prometheus_client import CollectorRegistry, Counter, Histogram

import meshlib
from meshlib.telemetry.otlp_metrics import metrics_of, resource_of
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock
from tests.support.otlp_receiver import OtlpReceiver, plain
from tests.support.resources import pod, service

BASE = [service("reviews"), pod("reviews", "v1", 1)]


@pytest.fixture(scope="module")
def receiver():
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def only_when_told(monkeypatch, receiver):
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    receiver.clear()
    receiver.accept()


class Kept(MetricExporter):
    """An exporter that keeps what it is given, or raises."""

    def __init__(self, error=None, result=MetricExportResult.SUCCESS):
        super().__init__()
        self.given, self.error, self.result, self.down = [], error, result, 0

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        if self.error is not None:
            raise self.error
        self.given.append(metrics_data)
        return self.result

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **kwargs):
        self.down += 1

    def names(self):
        return {
            metric.name
            for data in self.given
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def mesh_with(exporter, registry=None, **options):
    return meshlib.Mesh.from_resources(
        BASE, metric_exporter=exporter, registry=registry or CollectorRegistry(), clock=FakeClock(), **options
    )


def call(mesh, *statuses):
    for status in statuses:
        inner = httpx.MockTransport(lambda request, status=status: httpx.Response(status))
        with httpx.Client(transport=mesh.http_transport(inner=inner)) as client:
            client.get("http://reviews:9080/")


def test_a_collector_gets_counters_gauges_and_histograms_with_istios_names(receiver):
    exporter = OTLPMetricExporter(f"{receiver.http}/v1/metrics")
    registry = CollectorRegistry()
    with mesh_with(exporter, registry, workload=Workload("productpage-v1")) as mesh:
        call(mesh, 200, 200, 404)
        assert mesh._metrics.export is not None
        mesh._metrics.export.flush()
        got = {each.name: each for each in receiver.metrics if each.scope == "meshlib"}
        requests = got["istio_requests_total"].item.sum
        assert requests.is_monotonic
        assert requests.aggregation_temporality == 2, "cumulative"
        by_code = {plain(p.attributes)["response_code"]: p.as_double for p in requests.data_points}
        assert by_code == {"200": 2.0, "404": 1.0}
        (attributes,) = [plain(p.attributes) for p in requests.data_points if p.as_double == 2.0]
        assert attributes["destination_service"] == "reviews.default.svc.cluster.local"
        assert attributes["source_workload"] == "productpage-v1"
        assert 0 < requests.data_points[0].start_time_unix_nano <= requests.data_points[0].time_unix_nano
        durations = got["istio_request_duration_milliseconds"].item.histogram
        assert sorted(p.count for p in durations.data_points) == [1, 2]
        point = max(durations.data_points, key=lambda p: p.count)
        assert list(point.explicit_bounds[:4]) == [0.5, 1, 5, 10]
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        assert sum(point.bucket_counts) == 2
        assert not point.HasField("min")
        usable = got["meshlib_endpoints_usable"].item.gauge.data_points
        assert [p.as_double for p in usable] == [1.0]
        resource = got["istio_requests_total"].resource
        assert (resource["service.name"], resource["service.namespace"]) == ("productpage-v1", "default")
        assert resource["service.instance.id"]


def test_what_others_have_in_the_registry_is_theirs_to_export():
    registry, exporter = CollectorRegistry(), Kept()
    Counter("orders", "The application's own.", registry=registry).inc()
    with mesh_with(exporter, registry) as mesh:
        mesh._metrics.export.flush()
        assert "meshlib_config_info" in exporter.names()
        assert not any(name.startswith("orders") for name in exporter.names())


def test_closing_exports_what_came_last_and_holds_nobody(receiver):
    exporter = OTLPMetricExporter(f"{receiver.http}/v1/metrics")
    mesh = mesh_with(exporter)
    call(mesh, 200)
    mesh.close()
    mesh.close()
    receiver.wait_for(lambda seen: any(each.name == "istio_requests_total" for each in seen.metrics))


def test_a_collector_that_refuses_costs_an_export_and_is_counted(receiver):
    receiver.refuse(400)
    with mesh_with(OTLPMetricExporter(f"{receiver.http}/v1/metrics")) as mesh:
        call(mesh, 200)
        mesh._metrics.export.flush()
        assert (mesh._metrics.export.exports, mesh._metrics.export.failures) == (1, 1)
        assert mesh._metrics.shown.numbers().failures == 1
        receiver.accept()
        mesh._metrics.export.flush()
        assert any(each.name == "istio_requests_total" for each in receiver.metrics), "all of it comes with the next"


def test_ten_minutes_without_a_collector_lose_nothing_and_keep_nothing():
    """Exports are cumulative: each has all, so that none waits for a collector that is down."""
    exporter, clock = Kept(error=ConnectionError("refused")), FakeClock()
    with meshlib.Mesh.from_resources(BASE, metric_exporter=exporter, registry=CollectorRegistry(), clock=clock) as mesh:
        for _ in range(20):
            call(mesh, 200)
            clock.advance(30.0)
            mesh._metrics.export.flush()
        assert (mesh._metrics.export.failures, exporter.given) == (20, [])
        assert mesh._metrics.shown.numbers().failures == 20
        exporter.error = None
        mesh._metrics.export.flush()
        (data,) = exporter.given
        points = [
            point.value
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "istio_requests_total"
            for point in metric.data.data_points
        ]
        assert points == [20.0], "the first export that arrives has every call"


def test_an_exporter_that_raises_is_counted_and_said_once(caplog):
    with mesh_with(Kept(error=ValueError("no"))) as mesh:
        mesh._metrics.export.flush()
        mesh._metrics.export.flush()
        assert mesh._metrics.export.failures == 2
        call(mesh, 200)
    assert sum("could not be exported" in each.message for each in caplog.records) == 1


def test_a_registry_that_raises_leaves_what_the_sdk_has(caplog):
    class Broken:
        def collect(self):
            raise RuntimeError("theirs")

    registry, exporter = CollectorRegistry(), Kept()
    registry.register(Broken())
    with mesh_with(exporter, registry) as mesh:
        mesh._metrics.export.flush()
        assert mesh._metrics.export.failures == 1
        assert exporter.names() == {"meshlib_otlp_exports_total"}


def test_each_process_is_an_instance_of_its_own(monkeypatch):
    exporter = Kept()
    with mesh_with(exporter) as mesh:
        mesh._metrics.export.flush()
        monkeypatch.setattr(os, "getpid", lambda: 1)
        mesh._metrics.export.flush()
    first, second = (
        given.resource_metrics[0].resource.attributes["service.instance.id"] for given in exporter.given[:2]
    )
    assert first != second


def test_the_environment_names_the_resource_before_the_workload_does(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-front")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=web")
    attributes = resource_of(Workload("productpage-v1")).attributes
    assert (attributes["service.name"], attributes["service.namespace"]) == ("shop-front", "web")


def test_histograms_are_given_bucket_by_bucket_with_their_exemplars():
    registry = CollectorRegistry()
    histogram = Histogram("istio_x", "X.", ["a"], registry=registry, buckets=(1, 10))
    histogram.labels("b").observe(0.5)
    histogram.labels("b").observe(5, exemplar={"trace_id": "0" * 31 + "a", "span_id": "0" * 15 + "b"})
    histogram.labels("b").observe(50)
    histogram.labels("c").observe(0.1)
    (family,) = registry.collect()
    (metric,) = metrics_of(family, began=1.0, at=2.0)
    points = {point.attributes["a"]: point for point in metric.data.data_points}
    assert (points["b"].bucket_counts, points["b"].explicit_bounds) == ([1, 1, 1], [1.0, 10.0])
    assert (points["b"].count, points["b"].sum) == (3, 55.5)
    assert points["c"].bucket_counts == [1, 0, 0]
    (exemplar,) = points["b"].exemplars
    assert (exemplar.trace_id, exemplar.span_id, exemplar.value) == (10, 11, 5)
    assert points["c"].exemplars == []
