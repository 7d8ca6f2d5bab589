"""Calls are noted when they end and counted beside the calls."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.telemetry.metrics import MOST_PENDING, Metrics
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock

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
    wire=SimpleNamespace(protocol="http"),
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
