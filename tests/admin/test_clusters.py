"""``/clusters`` in Envoy's text format and as its JSON."""

from __future__ import annotations

import json

import httpx
import pytest

import meshlib
from meshlib.admin.clusters import clusters_page
from tests.support.admin import seen
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service

NAME = "outbound|9080||reviews.default.svc.cluster.local"


def resources(**traffic_policy):
    rule = destination_rule("reviews", **traffic_policy)
    return [service("reviews"), pod("reviews", "v1", 9081), pod("reviews", "v2", 9082), rule]


@pytest.fixture
def mesh():
    policy = {
        "connectionPool": {"tcp": {"maxConnections": 7}, "http": {"http1MaxPendingRequests": 5, "maxRetries": 2}},
        "outlierDetection": {"consecutive5xxErrors": 1, "baseEjectionTime": "30s", "maxEjectionPercent": 100},
    }
    with meshlib.Mesh.from_resources(resources(**policy), clock=FakeClock(), seed=1) as made:
        yield made


def text(mesh: meshlib.Mesh) -> dict[str, str]:
    """By everything before the last part of each line."""
    page = b"".join(clusters_page(seen(mesh), as_json=False).pieces).decode()
    return dict(line.rpartition("::")[::2] for line in page.splitlines())


def statuses(mesh: meshlib.Mesh):
    page = json.loads(b"".join(clusters_page(seen(mesh), as_json=True).pieces))
    return {each["name"]: each for each in page["cluster_statuses"]}


def fail_once(mesh: meshlib.Mesh) -> str:
    """Have an endpoint ejected; returns it."""
    client = mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(503)))
    return client.get("http://reviews:9080/").extensions["mesh"].attempts[0].endpoint


def test_what_no_call_has_used_is_there_with_its_endpoints_and_limits(mesh):
    lines = text(mesh)
    assert lines[f"{NAME}::observability_name"] == NAME
    assert lines[f"{NAME}::default_priority::max_connections"] == "7"
    assert lines[f"{NAME}::default_priority::max_pending_requests"] == "5"
    assert lines[f"{NAME}::default_priority::max_retries"] == "2"
    flags = {name: value for name, value in lines.items() if name.endswith("::health_flags")}
    assert flags == {f"{NAME}::127.0.0.1:{port}::health_flags": "healthy" for port in (9081, 9082)}
    assert f"{NAME}::rq_total" not in lines
    assert not mesh._core.live.bound  # looking binds nothing


def test_an_ejected_endpoint_has_envoys_flag(mesh):
    ejected = fail_once(mesh)
    assert text(mesh)[f"{NAME}::{ejected}::health_flags"] == "/failed_outlier_check"
    hosts = statuses(mesh)[NAME]["host_statuses"]
    port = int(ejected.rpartition(":")[2])
    (found,) = [each for each in hosts if each["address"]["socket_address"]["port_value"] == port]
    assert found["health_status"] == {"eds_health_status": "HEALTHY", "failed_outlier_check": True}
    assert statuses(mesh)[NAME]["counts"]["rq_total"] >= 1


def test_json_has_the_shape_of_envoys_cluster_status(mesh):
    found = statuses(mesh)[NAME]
    assert found["circuit_breakers"]["thresholds"][0]["max_connections"] == 7
    host = found["host_statuses"][0]
    assert host["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 9081}}
    assert set(host) == {"address", "stats", "health_status", "weight", "priority", "hostname", "locality"}


def test_an_endpoint_that_is_not_ready_or_is_a_unix_socket():
    yaml = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: local}
spec:
  hosts: [local.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: "unix:///run/app.sock"}, {address: "2001:db8::1", locality: eu/a/b}]
"""
    with meshlib.Mesh.from_yaml(yaml) as mesh:
        hosts = statuses(mesh)["outbound|80||local.example"]["host_statuses"]
    assert [each["address"] for each in hosts] == [
        {"pipe": {"path": "/run/app.sock"}},
        {"socket_address": {"address": "2001:db8::1", "port_value": 80}},
    ]
    assert hosts[1]["locality"] == {"region": "eu", "zone": "a", "sub_zone": "b"}


def test_a_mesh_that_is_closed_has_none(mesh):
    mesh.close()
    assert text(mesh) == {}
    assert statuses(mesh) == {}
