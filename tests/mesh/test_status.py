"""``mesh.status()``: all that an operator asks for, as plain data."""

from __future__ import annotations

import json

import httpx

import meshlib
from tests.support.fake_clock import FakeClock
from tests.support.identities import World
from tests.support.resources import destination_rule, pod, service, to, virtual_service

POLICY = {
    "connectionPool": {"tcp": {"maxConnections": 9}, "http": {"http1MaxPendingRequests": 5, "maxRetries": 3}},
    "outlierDetection": {"consecutive5xxErrors": 1, "maxEjectionPercent": 100, "baseEjectionTime": "30s"},
}
GUARD = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "ResiliencePolicy",
    "metadata": {"name": "guard"},
    "spec": {
        "host": "reviews",
        "circuitBreaker": {"failureThreshold": 50},
        "retryBudget": {"percent": 20, "minPerSecond": 1},
        "bulkhead": {"maxConcurrent": 7},
    },
}


def resources(*more, **policy):
    return [
        service("reviews"),
        pod("reviews", "v1", 9081),
        destination_rule("reviews", **(policy or POLICY)),
        virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 1, "retryOn": "5xx"}}),
        *more,
    ]


def test_every_part_that_an_operator_asks_for_is_there_and_is_json():
    world, clock = World(of_a_mesh=True), FakeClock()
    with meshlib.Mesh.from_resources(resources(GUARD), clock=clock, identity=world.identity, seed=1) as mesh:
        client = mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(503)))
        client.get("http://reviews:9080/")
        clock.advance(7.0)
        status = json.loads(json.dumps(mesh.status()))
    assert set(status) >= {
        "version", "in_force_for", "source", "problems", "clusters", "pools", "resilience", "certificates", "identity",
        "failures", "telemetry", "names", "inbound", "protection", "token_keys", "authorizers", "mirrors", "mesh_config",
    }  # fmt: skip
    assert status["in_force_for"] >= 7.0
    (cluster,) = status["clusters"]
    assert cluster["retries_allowed"] == 3
    assert cluster["attempts"]["server_error"] == cluster["requests"] == 1
    assert cluster["no_endpoint"] == 1  # the retry: the only endpoint is ejected
    assert cluster["endpoints"][0]["ejected_for"] is not None
    assert [event["kind"] for event in cluster["events"]] == ["ejected"]
    (guard,) = status["resilience"]
    assert guard["circuit_breaker"] == "closed"
    assert guard["bulkhead"] == {"in_use": 0, "waiting": 0}
    assert set(guard["retry_budget"]) == {"retries", "allowed"}
    assert status["telemetry"]["failures"] == 0
    assert isinstance(status["telemetry"]["dropped"], dict)  # of the whole process, whatever it has done before
    assert (status["telemetry"]["resources"], status["telemetry"]["expression_errors"]) == ([], {})
    assert status["failures"]["calls"] == 1


def test_a_retry_budget_says_how_many_retries_there_may_be():
    policy = {"connectionPool": {"http": {}}, "retryBudget": {"percent": 50, "minRetryConcurrency": 4}}
    with meshlib.Mesh.from_resources(resources(**policy)) as mesh:
        mesh.describe()
        found = {each["host"]: each["retries_allowed"] for each in mesh.status()["clusters"]}
    assert found["reviews.default.svc.cluster.local"] == 4
    assert found["PassthroughCluster"] is None


def test_a_closed_mesh_still_says_what_has_failed():
    with meshlib.Mesh.from_resources(resources()) as mesh:
        pass
    status = mesh.status()
    assert (status["closed"], status["in_force_for"], status["pools"]) == (True, None, {})
    assert "clusters" not in status
