"""Draws among endpoints, and among localities, fall in the same proportions through meshlib and through a real Envoy."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from benchmarks.free_ports import free_port
from meshlib.policy.weights import WeightedChoice
from meshlib.workload import Workload
from tests.differential.choosing import (
    answering,
    bench,
    cluster_of,
    ejected_in,
    envoy_with,
    far_from,
    members,
)
from tests.support.resources import destination_rule, service, to, virtual_service
from tests.support.scripted import Bench

pytestmark = pytest.mark.differential

# -- proportions ------------------------------------------------------------------------------------------------------

DRAWS = 1000


def split_here(weights: dict[str, int]) -> Counter[str]:
    made = Bench(
        *[service(name) for name in weights],
        service("reviews"),
        virtual_service("reviews", {"route": [to(name, weight=w) for name, w in weights.items()]}),
    )
    counts: Counter[str] = Counter()
    for _ in range(DRAWS):
        _, call = made.call(made.script(200))
        counts[call.record.host.partition(".")[0]] += 1
    return counts


def split_there(weights: dict[str, int]) -> Counter[str]:
    ports = {name: free_port() for name in weights}
    clusters = [cluster_of(name, members(port, 1)) for name, port in ports.items()]
    weighted = {"clusters": [{"name": n, "weight": w} for n, w in weights.items() if w]}
    routes = [{"match": {"prefix": "/"}, "route": {"weighted_clusters": weighted}}]
    names = {f"127.0.0.1:{port}": name for name, port in ports.items()}
    with envoy_with(routes, clusters, [answering("127.0.0.1", port) for port in ports.values()]) as (client, _):
        return Counter(names[client.get("/").headers["x-endpoint"]] for _ in range(DRAWS))


WEIGHTS = {"a": 75, "b": 25, "c": 0}
SHARES = {"a": 0.75, "b": 0.25, "c": 0.0}


def test_weights_split_alike():
    assert far_from(split_here(WEIGHTS), SHARES) == []
    assert far_from(split_there(WEIGHTS), SHARES) == []


def test_swapped_weights_are_noticed(monkeypatch):
    real = WeightedChoice.pick
    monkeypatch.setattr(WeightedChoice, "pick", lambda self, rng: {0: 1, 1: 0}[real(self, rng)])
    assert far_from(split_here(WEIGHTS), SHARES) != []


@pytest.mark.parametrize(
    ("policy", "weights"),
    [
        ("ROUND_ROBIN", (1, 1, 1, 1)),
        ("ROUND_ROBIN", (1, 2, 3, 4)),
        ("LEAST_REQUEST", (1, 1, 1, 1)),
        ("LEAST_REQUEST", (1, 2, 3, 4)),
        ("RANDOM", (1, 1, 1, 1)),  # Envoy's knows no weights; Istio's endpoints with weights are drawn by them here
    ],
)
def test_balancers_share_alike(policy, weights):
    """With one request at a time, as here, every balancer comes down to the weights."""
    port = free_port()
    clusters = [cluster_of("c", members(port, 4, weights), lb_policy=policy)]
    behind = [answering(f"127.0.0.{n + 1}", port) for n in range(4)]
    with envoy_with([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}], clusters, behind) as (client, _):
        theirs = Counter(client.get("/").headers["x-endpoint"] for _ in range(DRAWS))
    made = bench(port, 4, weights, loadBalancer={"simple": policy})
    script = made.script(200)
    for _ in range(DRAWS):
        made.call(script)
    shares = {f"127.0.0.{n + 1}:{port}": w / sum(weights) for n, w in enumerate(weights)}
    assert far_from(theirs, shares) == []
    assert far_from(Counter(script.tried), shares) == []


# -- localities -------------------------------------------------------------------------------------------------------


def spill_there(priorities: list[list[int]]) -> Counter[str]:
    """Where calls go once failing endpoints are ejected. ``priorities``: the statuses that endpoints answer."""
    port = free_port()
    behind, localities, number = [], [], 0
    for priority, statuses in enumerate(priorities):
        endpoints = []
        for status in statuses:
            number += 1
            address = f"127.0.0.{number}"
            behind.append(answering(address, port, status))
            socket_address = {"address": address, "port_value": port}
            endpoints.append({"endpoint": {"address": {"socket_address": socket_address}}})
        localities.append({"priority": priority, "lb_endpoints": endpoints})
    detection = {
        "consecutive_5xx": 3,
        "interval": "600s",
        "base_ejection_time": "600s",
        "max_ejection_percent": 100,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
    }
    made = cluster_of("c", [], outlier_detection=detection)
    made["load_assignment"]["endpoints"] = localities
    failing = sum(status >= 500 for statuses in priorities for status in statuses)
    with envoy_with([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}], [made], behind) as (client, admin):
        for _ in range(60):
            for _ in range(50):
                client.get("/")
            (found,) = [
                c for c in httpx.get(f"{admin}/clusters?format=json").json()["cluster_statuses"] if c["name"] == "c"
            ]
            if len(ejected_in(found)) == failing:
                break
        assert len(ejected_in(found)) == failing, "Envoy ejects too few for a comparison"
        answers = Counter(client.get("/").headers.get("x-endpoint", "none") for _ in range(DRAWS))
    return Counter({address.partition(":")[0]: count for address, count in answers.items()})


def spill_here(priorities: list[list[int]]) -> Counter[str]:
    entries, statuses = [], {}
    for priority, answers in enumerate(priorities):
        for status in answers:
            address = f"127.0.0.{len(entries) + 1}"
            statuses[address] = status
            locality = ("us/west/a", "us/west/b", "us/east/a")[priority]
            entries.append(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "WorkloadEntry",
                    "metadata": {"name": f"e{len(entries)}", "namespace": "default", "labels": {"app": "reviews"}},
                    "spec": {"address": address, "ports": {"http": 80}, "locality": locality},
                }
            )
    detection = {"consecutive5xxErrors": 3, "maxEjectionPercent": 100, "interval": "600s", "baseEjectionTime": "600s"}
    made = Bench(
        service("reviews"),
        *entries,
        destination_rule("reviews", outlierDetection=detection),
        virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}}),
        workload=Workload(locality="us/west/a"),
    )
    script = made.script(lambda effect: statuses[effect.endpoint.endpoint.address])
    for _ in range(300):
        made.call(script)
    after = made.script(lambda effect: statuses[effect.endpoint.endpoint.address])
    for _ in range(DRAWS):
        made.call(after)
    return Counter(key.partition(":")[0] for key in after.tried)


@pytest.mark.parametrize(
    ("priorities", "shares"),
    [
        ([[200, 200], [200, 200]], {"127.0.0.1": 0.5, "127.0.0.2": 0.5}),
        ([[200, 500], [200]], {"127.0.0.1": 0.7, "127.0.0.3": 0.3}),
        ([[500, 500], [200, 200]], {"127.0.0.3": 0.5, "127.0.0.4": 0.5}),
        ([[200, 500, 500], [200, 500], [200]], {"127.0.0.1": 0.46, "127.0.0.4": 0.54}),
        ([[200, 500, 500, 500], [500, 500], [200]], {"127.0.0.1": 0.35, "127.0.0.7": 0.65}),
    ],
)
def test_load_spills_to_the_next_locality_as_envoy_spills_it(priorities, shares):
    theirs, ours = spill_there(priorities), spill_here(priorities)
    assert far_from(theirs, shares) == []
    assert far_from(ours, shares) == []
    assert set(theirs) == set(ours) == set(shares)


def test_another_overprovisioning_is_noticed(monkeypatch):
    monkeypatch.setattr("meshlib.policy.tiers.OVERPROVISIONING", 1.0)
    assert far_from(spill_here([[200, 500], [200]]), {"127.0.0.1": 0.7, "127.0.0.3": 0.3}) != []
