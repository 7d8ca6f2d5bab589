"""``meshlib_*`` metrics: the state of real meshes, read when they are scraped."""

from __future__ import annotations

import gc
import os

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import meshlib
from meshlib.telemetry.label_sets import cleaned
from meshlib.telemetry.mesh_metrics import FAMILIES, state_collector
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service

BASE = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v1", 2)]
OUTLIER = {"consecutive5xxErrors": 1, "baseEjectionTime": "30s", "interval": "10s", "maxEjectionPercent": 50}
REVIEWS = {"service": "reviews.default.svc.cluster.local", "subset": "", "port": "9080"}
WHO = {"workload": "productpage-v1", "namespace": "shop", "mesh": ""}


class Watched:
    """A mesh with a registry of its own; its upstreams respond with the next of ``statuses``, the last one for ever."""

    def __init__(self, *resources, registry=None, clock=None, **options):
        self.registry = registry or CollectorRegistry()
        self.clock = clock or FakeClock()
        self.statuses = [200]
        options.setdefault("workload", Workload("productpage-v1", namespace="shop"))
        self.mesh = meshlib.Mesh.from_resources(resources, registry=self.registry, clock=self.clock, **options)

    def get(self, url="http://reviews.default:9080/"):
        def respond(request):
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            if status == 0:
                raise httpx.ConnectError("refused")
            return httpx.Response(status)

        inner = httpx.MockTransport(respond)
        with httpx.Client(transport=self.mesh.http_transport(inner=inner, local_replies="respond")) as client:
            return client.get(url)

    def read(self, name, **labels):
        """The value of a sample as Prometheus would read it; None without one."""
        return sample(generate_latest(self.registry).decode(), name, **labels)

    def of(self, name, **labels):
        return self.read(name, **WHO, **labels)


def sample(text, name, **labels):
    found = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == name and each.labels == labels
    ]
    assert len(found) < 2, f"{name} twice"
    return found[0] if found else None


@pytest.fixture
def watched():
    made = []

    def make(*resources, **options):
        made.append(Watched(*resources, **options))
        return made[-1]

    yield make
    for each in made:
        each.mesh.close()


def test_an_ejected_endpoint_shows_until_its_time_is_over(watched):
    seen = watched(*BASE, destination_rule("reviews.default.svc.cluster.local", outlierDetection=OUTLIER))
    assert seen.of("meshlib_endpoints_ejected", **REVIEWS) is None, "nobody has called it"
    seen.get()
    assert seen.of("meshlib_endpoints_ejected", **REVIEWS) == 0
    seen.statuses = [503, 200]
    seen.get()
    assert seen.of("meshlib_endpoints_ejected", **REVIEWS) == 1
    assert seen.of("meshlib_endpoints_usable", **REVIEWS) == 1
    assert seen.of("meshlib_endpoints_healthy", **REVIEWS) == seen.of("meshlib_endpoints", **REVIEWS) == 2
    assert seen.of("meshlib_ejections_total", **REVIEWS, reason="consecutive 5xx") == 1
    seen.clock.advance(60.0)
    assert seen.of("meshlib_endpoints_ejected", **REVIEWS) == 0
    assert seen.of("meshlib_ejections_total", **REVIEWS, reason="consecutive 5xx") == 1


def test_attempts_and_retries_are_counted_by_cluster_and_result(watched):
    retries = {"attempts": 3, "retryOn": "5xx", "backoff": "1ms"}
    seen = watched(*BASE, virtual_service("reviews", {"route": [to("reviews")], "retries": retries}))
    seen.statuses = [503, 0, 200]
    assert seen.get().status_code == 200
    by_result = {r: seen.of("meshlib_attempts_total", **REVIEWS, result=r) for r in ("response", "server_error")}
    assert by_result == {"response": 1, "server_error": 1}
    assert seen.of("meshlib_attempts_total", **REVIEWS, result="connect_failed") == 1
    assert seen.of("meshlib_retries_total", **REVIEWS) == 2
    assert (seen.of("meshlib_retries_active", **REVIEWS), seen.of("meshlib_attempts_active", **REVIEWS)) == (0, 0)


def test_limits_show_where_they_are_set_and_what_they_refused(watched):
    pool = {
        "tcp": {"maxConnections": 3},
        "http": {"http2MaxRequests": 5, "http1MaxPendingRequests": 4, "maxRetries": 2},
    }
    plain, limited = (
        watched(*BASE),
        watched(*BASE, destination_rule("reviews.default.svc.cluster.local", connectionPool=pool)),
    )
    for name, limit in {"attempts": 5, "connections": 3, "pending": 4, "retries": 2}.items():
        plain.get()
        limited.get()
        assert plain.of(f"meshlib_{name}_allowed", **REVIEWS) is None
        assert limited.of(f"meshlib_{name}_allowed", **REVIEWS) == limit
    for limit in ("requests", "pending", "retries"):
        assert limited.of("meshlib_overflows_total", **REVIEWS, limit=limit) == 0, "there before it begins to count"


def test_a_breaker_shows_one_of_its_states(watched):
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "targetRefs": [{"kind": "Service", "name": "reviews"}],
            "circuitBreaker": {"failureThreshold": 2, "resetTimeout": "10s"},
            "retryBudget": {"percent": 10, "minPerSecond": 1},
        },
    }
    seen = watched(*BASE, policy, virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}}))
    host = {"service": REVIEWS["service"]}

    def states():
        return [seen.of("meshlib_circuit_breaker_state", **host, state=s) for s in ("closed", "half-open", "open")]

    seen.get()
    assert states() == [1, 0, 0]
    seen.statuses = [500]
    seen.get()
    seen.get()
    assert states() == [0, 0, 1]
    assert seen.of("meshlib_retry_budget_used", **host) == 0
    assert seen.of("meshlib_retry_budget_allowed", **host) == pytest.approx(10.3)
    assert seen.of("meshlib_service_calls_active", **host) == 0


def test_the_configuration_shows_its_version_age_and_how_reloads_went(watched):
    seen = watched(*BASE)
    version = seen.mesh.status()["version"]
    assert seen.of("meshlib_config_info", version=version) == 1
    seen.clock.advance(90.0)
    assert seen.of("meshlib_config_age_seconds") == 90
    assert seen.of("meshlib_config_last_success_timestamp_seconds") == seen.clock.time() - 90
    seen.mesh.apply([*BASE, pod("reviews", "v1", 3)])
    assert seen.of("meshlib_config_info", version=version) is None
    assert seen.of("meshlib_config_age_seconds") == 0
    assert seen.of("meshlib_config_last_success_timestamp_seconds") == seen.clock.time()
    with pytest.raises(meshlib.errors.ConfigError):
        seen.mesh.apply([{**BASE[0], "spec": 7}])
    counted = {r: seen.of("meshlib_config_reloads_total", result=r) for r in ("ok", "partly", "failed")}
    assert counted == {"ok": 1, "partly": 0, "failed": 1}
    assert seen.of("meshlib_config_resources") == 4


def test_a_closed_mesh_has_no_series_and_one_that_is_dropped_neither(watched):
    registry = CollectorRegistry()
    seen = watched(*BASE, registry=registry)
    dropped = Watched(registry=registry, workload=Workload("other"))
    assert b'workload="other"' in generate_latest(registry)
    del dropped
    gc.collect()
    seen.get()
    seen.mesh.close()
    assert seen.of("meshlib_endpoints", **REVIEWS) is None
    assert b'workload="other"' not in generate_latest(registry)
    assert b"istio_requests_total{" in generate_latest(registry), "what was counted stays"


def test_meshes_that_share_a_registry_never_have_the_same_series(watched):
    registry, clock = CollectorRegistry(), FakeClock()
    first, second = watched(registry=registry, clock=clock), watched(*BASE, registry=registry, clock=clock)
    other = watched(registry=registry, clock=clock, workload=Workload("orders"))
    assert first.of("meshlib_config_resources") == 0
    assert second.read("meshlib_config_resources", **(WHO | {"mesh": "2"})) == 3
    assert other.read("meshlib_config_resources", workload="orders", namespace="default", mesh="") == 0
    first.mesh.close()
    assert second.of("meshlib_config_resources") == 3, "alone, it needs no number"


def test_a_mesh_that_cannot_be_read_is_counted_and_costs_nobody_else_anything(watched, caplog):
    registry, clock = CollectorRegistry(), FakeClock()
    broken = watched(registry=registry, clock=clock, workload=Workload("broken"))
    well = watched(registry=registry, clock=clock)
    numbers = broken.mesh._metrics.shown.numbers
    broken.mesh._metrics.shown.numbers = lambda: 1 / 0  # type: ignore[method-assign]
    who = {"workload": "broken", "namespace": "default", "mesh": ""}
    assert [broken.read("meshlib_telemetry_failures_total", **who) for _ in range(3)] == [1, 2, 3]
    assert well.of("meshlib_telemetry_failures_total") == 0
    assert well.of("meshlib_config_resources") == 0
    broken.mesh._metrics.shown.numbers = numbers  # type: ignore[method-assign]
    assert broken.read("meshlib_telemetry_failures_total", **who) == 5, "what was counted stays counted"
    assert sum("could not be read for metrics" in each.message for each in caplog.records) == 1


def test_names_are_those_that_prometheus_asks_for():
    for family in FAMILIES:
        assert family.name.startswith("meshlib_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_count", "_sum", "_bucket", "_created"))
        assert family.counts == family.name.endswith("_total")
        if "timestamp" in family.name or "age" in family.name.split("_"):
            assert family.name.endswith("_seconds")
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_both_formats_of_prometheus_can_be_read_and_strange_names_do_no_harm(watched):
    strange = 'a "quoted"\nname \\ of 10 kB' + "x" * 10_000
    seen = watched(*BASE, workload=Workload(strange))
    seen.get()
    for text in (generate_latest(seen.registry), openmetrics(seen.registry)):
        assert b"meshlib_attempts_total{" in text
    labels = {"workload": cleaned(strange), "namespace": "default", "mesh": ""}
    assert seen.read("meshlib_config_resources", **labels) == 3


def test_the_families_are_known_before_the_first_scrape(watched):
    seen = watched()
    some = seen.registry.restricted_registry(["meshlib_config_resources"])
    assert [each.name for each in some.collect()] == ["meshlib_config_resources"]
    with pytest.raises(ValueError, match="meshlib_connections"):
        Gauge("meshlib_connections", "Somebody else's.", registry=seen.registry)
    assert state_collector(seen.registry) is state_collector(seen.registry)


def test_a_call_pays_nothing_for_it(watched, monkeypatch):
    seen = watched(*BASE)
    seen.get()

    def never(self):
        raise AssertionError("state was read at a call")

    monkeypatch.setattr("meshlib.mesh.numbers.ObservedMesh.numbers", never)
    for status in (200, 503, 0):
        seen.statuses = [status]
        seen.get()


def test_a_forked_child_shows_its_own_state(watched):
    seen = watched(*BASE)
    seen.get()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover (the child's)
        try:
            seen.get()
            os.write(writing, str(seen.of("meshlib_attempts_total", **REVIEWS, result="response")).encode())
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 100) == b"2.0", "it goes on from its parent's"
    os.close(reading)
    os.waitpid(child, 0)
    assert seen.of("meshlib_attempts_total", **REVIEWS, result="response") == 1


def test_a_workload_whose_name_is_not_unicode_breaks_no_scrape(watched):
    there = watched(workload=Workload("caf\udce9", namespace="shop"))
    assert b'workload="caf?"' in generate_latest(there.registry)
