"""Calls are counted in tables when they end, and what is scraped reads as prometheus_client's own."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import subprocess
import sys
import threading
import unittest.mock
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

import meshlib
from meshlib.compiler.routes import Destination
from meshlib.telemetry.families import BUCKETS, LABELS, families
from meshlib.telemetry.metrics import Metrics
from meshlib.telemetry.tables import LockedCallSeries, LockedCountSeries, WrittenCalls
from meshlib.workload import Workload
from tests.support.evil_server import EvilServer
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.shortcuts import NEEDS_SHORTCUTS

_RECORD = SimpleNamespace(
    destination=None,
    rule_object=None,
    endpoint="",
    status=200,
    flags="",
    grpc_status=None,
    peer_metadata=None,
    host="reviews.default.svc.cluster.local",
    started=0.0,
    virtual_host=object(),
)
CALL = SimpleNamespace(
    record=_RECORD,
    live=SimpleNamespace(snapshot=SimpleNamespace(blocked=None), bound={}),
    request=SimpleNamespace(protocol="http", sent_bytes=lambda: 100, scheme="http"),
    outcome=None,
)


def total(registry, name):
    return sum(sample.value for family in registry.collect() for sample in family.samples if sample.name == name)


def counted(registry):
    return total(registry, "istio_requests_total")


def own(registry):
    """What prometheus_client itself makes of the same families."""
    counter = Counter("istio_requests_total", "Requests through the mesh.", LABELS, registry=registry)
    histogram = Histogram(
        "istio_request_duration_milliseconds",
        "Duration of requests, in milliseconds, to the last byte of the response.",
        LABELS,
        registry=registry,
        buckets=BUCKETS,
    )
    resilience = Counter(
        "meshlib_resilience",
        "What mechanisms of ResiliencePolicies did or, in shadow mode, would have done.",
        ("service", "mechanism", "mode", "verdict"),
        registry=registry,
    )
    routes = Counter(
        "meshlib_route_requests",
        "Requests by the statPrefix of the VirtualService match they took.",
        ("virtual_service", "stat_prefix", "response_code"),
        registry=registry,
    )
    return WrittenCalls(counter, histogram), resilience, routes


@pytest.fixture(params=[True, False], ids=["with _created", "without"])
def created(request, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.25)
    monkeypatch.setattr("meshlib.telemetry.tables.now", lambda: 1_700_000_000.25)
    if not request.param:
        disable_created_metrics()
    yield request.param
    enable_created_metrics()


@pytest.mark.parametrize("text", [generate_latest, openmetrics], ids=["text", "openmetrics"])
def test_a_scrape_reads_as_prometheus_clients_own(created, text):
    rng = random.Random(7)
    registries = CollectorRegistry(), CollectorRegistry()
    ours, theirs = tuple(families(registries[0])), own(registries[1])
    named = [tuple(f"{rng.choice(names)}-{n}" for n in range(len(LABELS))) for names in [("a", 'q"uo\nted', "\\")] * 6]
    assert text(registries[0]) == text(registries[1])
    for _ in range(3000):
        labels = rng.choice(named)
        took = rng.choice([*BUCKETS, rng.uniform(0, 2000), rng.expovariate(1e-6), 0.0, -1.0])
        for calls, resilience, routes in (ours, theirs):
            calls.labels(*labels).observe(took)
            resilience.labels("reviews", "retry", "enforce", "denied").inc()
            routes.labels("VirtualService/default/reviews", "first", "200").inc()
    assert text(registries[0]) == text(registries[1])
    assert (b"_created" in text(registries[0])) is created


def test_the_families_are_known_by_their_names():
    registry = CollectorRegistry()
    Metrics(registry, Workload("test")).finished(CALL, 1.0)
    some = registry.restricted_registry(["istio_requests_total", "istio_request_duration_milliseconds_sum"])
    assert [family.name for family in some.collect()] == ["istio_requests", "istio_request_duration_milliseconds"]
    with pytest.raises(ValueError, match="istio_requests_total"):
        Counter("istio_requests_total", "Somebody else's.", registry=registry)


def test_calls_are_counted_when_they_end_and_no_thread_is_started():
    registry = CollectorRegistry()
    before = set(threading.enumerate())
    with meshlib.Mesh.from_resources([], registry=registry) as mesh:
        for _ in range(3):
            mesh._core.telemetry.ended(CALL, None)
        assert set(threading.enumerate()) <= before
        assert counted(registry) == 3
    assert counted(registry) == 3


def test_many_threads_count_exactly():
    registry = CollectorRegistry()
    metrics = Metrics(registry, Workload("test"))
    start = threading.Barrier(8)

    def some():
        start.wait(60)
        for _ in range(5000):
            metrics.finished(CALL, 1.0)

    switches = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=some) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(switches)
    assert counted(registry) == 40_000
    assert total(registry, "istio_request_duration_milliseconds_sum") == 40_000_000


def test_an_interpreter_without_the_gil_counts_under_a_lock():
    calls, count = LockedCallSeries(BUCKETS), LockedCountSeries()
    for _ in range(3):
        calls.observe(7.0)
        count.inc(2)
    assert (sum(calls.counts), calls.counts[BUCKETS.index(10)], calls.sum, count.value) == (3, 3, 21.0, 6.0)


def test_what_the_parent_has_noted_is_not_recorded_in_a_forked_child():
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=registry) as mesh:
        mesh._core.telemetry.broken(CALL, None)
        mesh._core.telemetry.after_fork()
        assert counted(registry) == 0
        mesh._core.telemetry.ended(CALL, None)
        assert counted(registry) == 1


def test_closing_the_mesh_records_what_is_left():
    registry = CollectorRegistry()
    mesh = meshlib.Mesh.from_resources([], registry=registry, clock=FakeClock())
    mesh._core.telemetry.broken(CALL, None)
    mesh.close()
    assert not mesh._core.telemetry._closed
    assert counted(registry) == 1


FORKING = """
import os, sys
import httpx
import meshlib

mesh = meshlib.Mesh.from_resources([])
client = mesh.client(transport=httpx.MockTransport(lambda request: httpx.Response(200)))
for _ in range(3):
    client.get("http://reviews.example/")
child = os.fork()
for _ in range(2):
    client.get("http://reviews.example/")
if child:
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)  # as a worker that is killed: what is counted is in the files by now
"""


def test_in_files_of_many_processes_calls_are_counted_at_once_and_once(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORKING], env=environment, check=True, timeout=60)
    assert len(list(tmp_path.glob("counter_*.db"))) == 2
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))
    assert counted(registry) == 7
    assert total(registry, "istio_request_duration_milliseconds_count") == 7


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


@NEEDS_SHORTCUTS  # which is interrupted
def test_what_is_noted_of_a_call_that_was_broken_off_keeps_no_connection(monkeypatch):
    """It is recorded at the next call or scrape, which may be hours away."""
    with EvilServer([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome"]) as server:
        found = [service("reviews"), pod("reviews", "v1", server.port)]
        with meshlib.Mesh.from_resources(found, registry=CollectorRegistry()) as mesh, mesh.client() as client:
            interrupt = unittest.mock.Mock(side_effect=KeyboardInterrupt)
            monkeypatch.setattr("meshlib.transport.httpx.response.fill_response", interrupt)
            with contextlib.suppress(KeyboardInterrupt):
                client.get("http://reviews:9080/")
            interrupt.assert_called_once()
            interrupt.reset_mock()  # it keeps what it was called with
            gc.collect()
            assert len(mesh._core.telemetry._closed) == 1
            assert len(mesh._core.upstream._busy) == 0


def test_a_call_of_grpc_without_a_status_is_counted_apart_from_one_of_http_to_the_same_endpoint():
    """One that is cut off has none."""
    for order in (("http", "grpc"), ("grpc", "http")):
        registry = CollectorRegistry()
        metrics = Metrics(registry, Workload())
        for protocol in order:
            metrics.finished(
                SimpleNamespace(
                    **{**vars(CALL), "request": SimpleNamespace(**{**vars(CALL.request), "protocol": protocol})}
                ),
                0.1,
            )
        told = {
            sample.labels["request_protocol"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "istio_requests_total"
        }
        assert told == {"http": 1, "grpc": 1}
