"""The same failures eject the same endpoints in meshlib and in a real Envoy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from benchmarks.free_ports import free_port
from meshlib.engine.outcome import Failure
from meshlib.policy.outlier import OutlierDetector
from tests.differential.choosing import (
    answering,
    bench,
    cluster_of,
    ejected_in,
    envoy_with,
    members,
)
from tests.support.resources import to

pytestmark = pytest.mark.differential


PLANS: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "5xx in a row": (
        [200, 500, 503, 200, 404],
        {"consecutive5xxErrors": 3},
        {"consecutive_5xx": 3},
    ),
    "gateway errors only": (
        [200, 500, 503, 502, 504],
        {"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 3},
        {
            "enforcing_consecutive_5xx": 0,
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
        },
    ),
    "refused connections count as 503": (
        [200, "refused", 200, 500],
        {"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 2},
        {
            "enforcing_consecutive_5xx": 0,
            "consecutive_gateway_failure": 2,
            "enforcing_consecutive_gateway_failure": 100,
        },
    ),
    "refused connections on their own account": (
        [200, "refused", 200, 500],
        {"consecutive5xxErrors": 0, "splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2},
        {
            "enforcing_consecutive_5xx": 0,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "enforcing_consecutive_local_origin_failure": 100,
        },
    ),
    "nobody fails": ([200, 200, 404], {"consecutive5xxErrors": 1}, {"consecutive_5xx": 1}),
    "all fail": ([500, 503, 500], {"consecutive5xxErrors": 2}, {"consecutive_5xx": 2}),
}


def ejected_there(plan: list[Any], settings: dict[str, Any], percent: int) -> set[int]:
    port = free_port()
    behind = [answering(f"127.0.0.{n + 1}", port, s) for n, s in enumerate(plan) if s != "refused"]
    detection = {
        "interval": "600s",
        "base_ejection_time": "600s",
        "max_ejection_percent": percent,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_consecutive_5xx": 100,
        **settings,
    }
    clusters = [cluster_of("c", members(port, len(plan)), lb_policy="ROUND_ROBIN", outlier_detection=detection)]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]
    with envoy_with(routes, clusters, behind) as (client, admin):
        for _ in range(12 * len(plan)):
            client.get("/")
        (found,) = [
            c for c in httpx.get(f"{admin}/clusters?format=json").json()["cluster_statuses"] if c["name"] == "c"
        ]
    return ejected_in(found)


def ejected_here(plan: list[Any], settings: dict[str, Any], percent: int) -> set[int]:
    detection = {"interval": "600s", "baseEjectionTime": "600s", "maxEjectionPercent": percent, **settings}
    made = bench(
        80,
        len(plan),
        rule={"route": [to("reviews")], "retries": {"attempts": 0}},
        loadBalancer={"simple": "ROUND_ROBIN"},
        outlierDetection=detection,
    )

    def behave(effect: Any) -> Any:
        status = plan[int(effect.endpoint.endpoint.address.rpartition(".")[2]) - 1]
        return made.script(Failure.CONNECT_FAILED if status == "refused" else status).send(effect)

    script = made.script(behave)
    for _ in range(12 * len(plan)):
        made.call(script)
    state = made.state("outbound|9080||reviews.default.svc.cluster.local")
    return {int(e.endpoint.address.rpartition(".")[2]) - 1 for e in state.endpoints.values() if e.ejected}


@pytest.mark.parametrize("name", PLANS)
def test_the_same_failures_eject_the_same_endpoints(name):
    plan, ours, theirs = PLANS[name]
    assert ejected_here(plan, ours, 100) == ejected_there(plan, theirs, 100)


def test_the_same_cap_lets_as_many_be_ejected():
    plan = [500, 500, 500, 500, 200]
    for percent in (10, 20, 39, 40, 60):
        here = ejected_here(plan, {"consecutive5xxErrors": 2}, percent)
        assert len(here) == len(ejected_there(plan, {"consecutive_5xx": 2}, percent)), percent


def test_an_ejection_one_failure_late_is_noticed(monkeypatch):
    real = OutlierDetector.record_status

    def late(self: OutlierDetector, endpoint: Any, status: int, now: float) -> Any:
        if status >= 500 and endpoint.outlier.consecutive_5xx == 10:
            return None
        return real(self, endpoint, 200 if status == 503 else status, now)

    monkeypatch.setattr(OutlierDetector, "record_status", late)
    plan, ours, theirs = PLANS["5xx in a row"]
    assert ejected_here(plan, ours, 100) != ejected_there(plan, theirs, 100)
