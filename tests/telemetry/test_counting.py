"""Calls are noted when they end and counted beside the calls."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import httpx
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.routes import Destination
from meshlib.telemetry.metrics import MOST_PENDING, Metrics
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service

_RECORD = SimpleNamespace(
    destination=None,
    rule_object=None,
    endpoint="",
    status=200,
    flags="",
    grpc_status=None,
    host="reviews.default.svc.cluster.local",
    started=0.0,
    virtual_host=object(),
)
CALL = SimpleNamespace(
    record=_RECORD,
    live=SimpleNamespace(snapshot=SimpleNamespace(blocked=None), bound={}),
    request=SimpleNamespace(protocol="http"),
)


def counted(registry):
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "istio_requests_total"
    )


def test_calls_are_counted_later_and_once():
    registry, later = CollectorRegistry(), []
    metrics = Metrics(registry, Workload("test"), lambda seconds, count: later.append(count))
    for _ in range(3):
        metrics.finished(CALL, 1.0)
    assert counted(registry) == 0
    assert len(later) == 1
    later.pop()()
    assert counted(registry) == 3
    metrics.finished(CALL, 1.0)
    assert len(later) == 1
    metrics.count()
    later.pop()()
    assert counted(registry) == 4


def test_many_calls_are_not_left_waiting():
    registry = CollectorRegistry()
    metrics = Metrics(registry, Workload("test"), lambda seconds, count: None)
    for _ in range(MOST_PENDING + 1):
        metrics.finished(CALL, 1.0)
    assert counted(registry) >= MOST_PENDING


def test_without_anybody_to_count_later_calls_are_counted_at_once():
    registry = CollectorRegistry()
    Metrics(registry, Workload("test")).finished(CALL, 1.0)
    assert counted(registry) == 1


def test_what_the_parent_has_noted_is_not_counted_in_a_forked_child():
    registry = CollectorRegistry()
    metrics = Metrics(registry, Workload("test"), lambda seconds, count: None)
    metrics.finished(CALL, 1.0)
    metrics.forget_pending()
    metrics.count()
    assert counted(registry) == 0
    metrics.finished(CALL, 1.0)
    metrics.count()
    assert counted(registry) == 1


def test_closing_the_mesh_counts_what_is_left():
    registry = CollectorRegistry()
    mesh = meshlib.Mesh.from_resources([], registry=registry, clock=FakeClock())
    mesh._core.telemetry._metrics.finished(CALL, 1.0)
    mesh.close()
    assert not mesh._core.telemetry._metrics._pending


def test_what_was_made_to_count_quickly_goes_with_the_configuration_it_was_made_for():
    def resources(weight):
        split = [to("reviews", "v1", weight), to("reviews", "v2", 100 - weight)]
        pods = [pod("reviews", version, 1) for version in ("v1", "v2")]
        return [
            service("reviews"),
            *pods,
            destination_rule("reviews", "v1", "v2"),
            virtual_service("reviews", {"route": split}),
        ]

    def kept():
        gc.collect()
        return sum(type(one) is Destination for one in gc.get_objects())

    def reload_and_call(times):
        for number in range(times):
            mesh.apply(resources(10 + number))
            for _ in range(5):
                client.get("http://reviews:9080/")

    registry = CollectorRegistry()
    answer = httpx.MockTransport(lambda request: httpx.Response(200))
    with meshlib.Mesh.from_resources(resources(50), registry=registry) as mesh, mesh.client(transport=answer) as client:
        reload_and_call(5)
        before = kept()
        reload_and_call(30)
        assert kept() <= before + 5
        mesh.status()
        assert counted(registry) == 175
