"""Envoy's names: what a real Envoy's /stats/prometheus has, with the tags that Istio gives it."""

from __future__ import annotations

import re

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

import meshlib
from benchmarks.free_ports import free_port
from meshlib.telemetry import envoy_metrics
from meshlib.telemetry.envoy_metrics import COUNTERS, GAUGES, envoy_collector
from meshlib.telemetry.exposition import exposition
from tests.differential.envoy_process import TYPES, cluster, running
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer

NAME = "outbound|9080||reviews.default.svc.cluster.local"
OUTLIER = {"consecutive5xxErrors": 2, "interval": "100s", "baseEjectionTime": "100s", "maxEjectionPercent": 100}
POOL = {"tcp": {"maxConnections": 7}, "http": {"http1MaxPendingRequests": 5, "http2MaxRequests": 6, "maxRetries": 4}}
RETRIES = {"attempts": 1, "retryOn": "5xx", "backoff": "1ms"}
PATHS = ("/", "/", "/503", "/404", "/503")


def behave(handler):
    if handler.path != "/":
        handler.answer(int(handler.path[1:]))
        return True
    return False


def ours(port, registry, **options):
    resources = [
        service("reviews"),
        pod("reviews", "v1", port),
        destination_rule("reviews", outlierDetection=OUTLIER | {"consecutive5xxErrors": 5}, connectionPool=POOL),
        virtual_service("reviews", {"route": [to("reviews")], "retries": RETRIES}),
    ]
    options.setdefault("envoy_metrics", True)
    return meshlib.Mesh.from_resources(resources, registry=registry, clock=FakeClock(), **options)


def samples(text):
    """Those of the cluster, by name and labels. (prometheus_client's parser gives Envoy's counters a ``_total``.)"""
    found = {}
    for name, labels, value in re.findall(r"^(envoy_cluster_\w+)\{(.*)\} (\S+)$", text, re.M):
        pairs = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))
        if ("cluster_name", NAME) in pairs:
            found[name, pairs] = float(value)
    return found


def exposed(registry, accept):
    return b"".join(exposition(registry, accept).pieces)


def of_envoy(port):
    """What a real one says after the same calls."""
    listen, admin = free_port(), free_port()
    route = {"cluster": NAME, "retry_policy": {"retry_on": "5xx", "num_retries": 1}}
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
        },
    }
    limits = {"max_connections": 7, "max_pending_requests": 5, "max_requests": 6, "max_retries": 4}
    config = {
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [
                {"tag_name": "cluster_name", "regex": r"^cluster\.(([^.]*\.default\.svc\.cluster\.local)\.)"},
                {"tag_name": "response_code", "regex": r"_rq(_(\d\d\d))$"},
                {"tag_name": "response_code_class", "regex": r"_rq(_(\dxx))$"},
            ],
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                cluster(
                    NAME,
                    [port],
                    circuit_breakers={"thresholds": [{"track_remaining": True, **limits}]},
                    outlier_detection={"consecutive_5xx": 5, "interval": "100s", "enforcing_success_rate": 0},
                )
            ],
        },
    }
    with running(config, admin), httpx.Client(base_url=f"http://127.0.0.1:{listen}") as client:
        statuses = [client.get(path).status_code for path in PATHS]
        return statuses, samples(httpx.get(f"http://127.0.0.1:{admin}/stats/prometheus").text)


@pytest.mark.differential
def test_names_labels_and_numbers_are_those_of_a_real_envoy():
    registry = CollectorRegistry()
    with EchoServer(behave=behave) as server, ours(server.port, registry) as mesh, mesh.client() as client:
        statuses, theirs = of_envoy(server.port)
        assert [client.get(f"http://reviews:9080{path}").status_code for path in PATHS] == statuses
        mine = samples(generate_latest(registry).decode())
    assert len(mine) > 25
    assert set(mine) <= set(theirs)
    assert mine == {key: theirs[key] for key in mine}
    labels = (("cluster_name", NAME), ("response_code_class", "5xx"))
    assert mine["envoy_cluster_upstream_rq", labels] == 2


def test_an_ejected_endpoint_and_limits_that_are_reached_show():
    registry, clock = CollectorRegistry(), FakeClock()
    resources = [
        service("reviews"),
        pod("reviews", "v1", 1),
        pod("reviews", "v1", 2),
        destination_rule("reviews", outlierDetection=OUTLIER, connectionPool={"http": {"http2MaxRequests": 1}}),
        virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}}),
    ]
    with meshlib.Mesh.from_resources(resources, registry=registry, clock=clock, envoy_metrics=True) as mesh:
        state = mesh._core.live.cluster(NAME).state
        inner = httpx.MockTransport(lambda request: httpx.Response(500))
        with httpx.Client(transport=mesh.http_transport(inner=inner)) as client:
            for _ in range(3):
                client.get("http://reviews:9080/")
            state.requests += 1  # one more is under way

            def read(name):
                return samples(generate_latest(registry).decode())[f"envoy_cluster_{name}", (("cluster_name", NAME),)]

            assert read("outlier_detection_ejections_active") == 1
            assert read("outlier_detection_ejections_enforced_total") == 1
            assert read("outlier_detection_ejections_enforced_consecutive_5xx") == 1
            assert (read("membership_healthy"), read("membership_total")) == (1, 2)
            assert (read("circuit_breakers_default_rq_open"), read("circuit_breakers_default_remaining_rq")) == (1, 0)
            assert read("circuit_breakers_default_remaining_cx") == 4294967295
            assert client.get("http://reviews:9080/").status_code == 503
            assert read("upstream_rq_pending_overflow") == 1


def test_they_are_there_only_for_who_asks(monkeypatch, tmp_path):
    registry = CollectorRegistry()
    with ours(1, registry, envoy_metrics=None):
        assert b"envoy_" not in generate_latest(registry)
    monkeypatch.setenv("MESHLIB_ENVOY_METRICS", "1")
    with ours(1, registry, envoy_metrics=None):
        assert b"envoy_" not in generate_latest(registry), "the variable is from_env's"
    (tmp_path / "mesh.yaml").write_text("")
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    with meshlib.Mesh.from_env(registry=registry) as mesh, mesh.client() as client:
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://127.0.0.1:{free_port()}/")
        assert b"envoy_cluster_upstream_rq_total{" in generate_latest(registry)


def test_meshes_that_share_a_registry_are_added_up():
    registry = CollectorRegistry()
    inner = httpx.MockTransport(lambda request: httpx.Response(200))
    with ours(1, registry) as first, ours(1, registry) as second:
        for mesh in (first, second, second):
            with httpx.Client(transport=mesh.http_transport(inner=inner)) as client:
                client.get("http://reviews:9080/")
        found = samples(generate_latest(registry).decode())
        assert found["envoy_cluster_upstream_rq_total", (("cluster_name", NAME),)] == 3
        assert found["envoy_cluster_upstream_rq", (("cluster_name", NAME), ("response_code", "200"))] == 3


def test_both_formats_can_be_read():
    registry = CollectorRegistry()
    with ours(1, registry) as mesh:
        mesh._core.live.cluster(NAME)
        assert b"# TYPE envoy_cluster_membership_total gauge" in generate_latest(registry)
        assert b"# TYPE envoy_cluster_upstream_rq_retry unknown" in openmetrics(registry)
        assert envoy_collector(registry) is envoy_collector(registry)
        assert b"# TYPE envoy_cluster_upstream_rq_retry untyped" in generate_latest(registry)
        assert exposed(registry, "") == generate_latest(registry)
        assert exposed(registry, "application/openmetrics-text; version=1.0.0") == openmetrics(registry)
    assert not GAUGES & COUNTERS


def test_a_scrape_of_many_clusters_makes_each_name_when_it_is_asked_for(monkeypatch):
    """Nobody is held by all names of all clusters at once."""
    registry = CollectorRegistry()
    with ours(1, registry) as mesh:
        mesh._core.live.cluster(NAME)
        asked = []
        of = envoy_metrics._of_name
        monkeypatch.setattr(envoy_metrics, "_of_name", lambda name, read: (asked.append(name), of(name, read))[1])
        families = iter(envoy_collector(registry).collect())
        next(families)
        assert len(set(asked)) == 1
        assert {family.name for family in families} | {"envoy_cluster_circuit_breakers_default_cx_open"} >= {
            f"envoy_cluster_{name}" for name in GAUGES
        }
        assert set(asked) == GAUGES | COUNTERS
