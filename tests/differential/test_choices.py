"""Choices among endpoints through meshlib and through a real Envoy: the same hash leads to the same endpoint, the same
failures eject the same endpoints, draws fall in the same proportions."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.free_ports import free_port
from meshlib.engine.outcome import Failure
from meshlib.policy.outlier import OutlierDetector
from meshlib.policy.weights import WeightedChoice
from meshlib.workload import Workload
from tests.differential.envoy_process import TYPES, running
from tests.support.resources import destination_rule, service, to, virtual_service
from tests.support.scripted import Bench

pytestmark = pytest.mark.differential


def manager(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        },
    }


def listener(address: str, port: int, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": f"{address}:{port}",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [manager("x", routes)]}],
    }


def answering(address: str, port: int, status: int = 200) -> dict[str, Any]:
    """An endpoint that answers everything with ``status`` and says who it is."""
    header = {"header": {"key": "x-endpoint", "value": f"{address}:{port}"}}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": status}, "response_headers_to_add": [header]}
    return listener(address, port, [route])


def members(port: int, count: int, weights: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    made = []
    for number in range(count):
        address = {"socket_address": {"address": f"127.0.0.{number + 1}", "port_value": port}}
        one: dict[str, Any] = {"endpoint": {"address": address}}
        if weights:
            one["load_balancing_weight"] = weights[number]
        made.append(one)
    return made


def cluster_of(name: str, endpoints: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        # no panic mode, as in Istio; and no waiting: Envoy puts changes of health within a second together
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **more,
    }


@contextlib.contextmanager
def envoy_with(
    routes: list[dict[str, Any]], clusters: list[dict[str, Any]], behind: list[dict[str, Any]]
) -> Iterator[tuple[httpx.Client, str]]:
    """(a client of the routes, the admin URL)."""
    front, admin = free_port(), free_port()
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [listener("127.0.0.1", front, routes), *behind], "clusters": clusters},
    }
    with running(config, admin), httpx.Client(base_url=f"http://127.0.0.1:{front}", timeout=10) as client:
        yield client, f"http://127.0.0.1:{admin}"


def workload_entries(port: int, count: int, weights: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": f"e{n}", "namespace": "default", "labels": {"app": "reviews"}},
            "spec": {
                "address": f"127.0.0.{n + 1}",
                "ports": {"http": port},
                **({"weight": weights[n]} if weights else {}),
            },
        }
        for n in range(count)
    ]


def bench(port: int, count: int, weights: tuple[int, ...] = (), rule: Any = None, **policy: Any) -> Bench:
    extra = [virtual_service("reviews", rule)] if rule else []
    return Bench(
        service("reviews"),
        *workload_entries(port, count, weights),
        *([destination_rule("reviews", **policy)] if policy else []),
        *extra,
    )


# -- consistent hashing -----------------------------------------------------------------------------------------------

HASHES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    "ring": ({}, {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}}, ()),
    "small ring": (
        {"ringHash": {"minimumRingSize": 20}},
        {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 20}},
        (),
    ),
    "weighted ring": (
        {},
        {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}},
        (1, 2, 3, 4, 5, 6, 7),
    ),
    "maglev": (
        {"maglev": {"tableSize": 65537}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 65537}},
        (),
    ),
    "small maglev": (
        {"maglev": {"tableSize": 251}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}},
        (),
    ),
    "weighted maglev": (
        {"maglev": {"tableSize": 251}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}},
        (1, 1, 2, 3, 5, 8, 13),
    ),
}
KEYS = [f"user-{n}" for n in range(150)] + ["", "a b", "x" * 100]


def test_a_key_leads_to_the_very_endpoint_that_envoy_chooses():
    port = free_port()
    routes = [
        {
            "match": {"prefix": f"/{number}"},
            "route": {"cluster": name, "hash_policy": [{"header": {"header_name": "x-user"}}]},
        }
        for number, name in enumerate(HASHES)
    ]
    clusters = [cluster_of(name, members(port, 7, weights), **lb) for name, (_, lb, weights) in HASHES.items()]
    theirs: dict[str, list[str]] = {}
    with envoy_with(routes, clusters, [answering(f"127.0.0.{n + 1}", port) for n in range(7)]) as (client, _):
        for number, name in enumerate(HASHES):
            theirs[name] = [client.get(f"/{number}", headers={"x-user": k}).headers["x-endpoint"] for k in KEYS]
    for name, (table, _, weights) in HASHES.items():
        made = bench(port, 7, weights, loadBalancer={"consistentHash": {"httpHeaderName": "x-user", **table}})
        script = made.script(200)
        for key in KEYS:
            made.call(script, headers={"x-user": key})
        assert script.tried == theirs[name], name
        assert len(set(script.tried)) >= 5


BY_USER = {"header": {"header_name": "x-user"}}
AVOIDING = {
    "retry_on": "5xx",
    "host_selection_retry_max_attempts": 5,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
}


def test_a_retry_that_avoids_what_was_tried_goes_on_in_the_table_as_envoy_does():
    port = free_port()
    names = ("ring", "small maglev")
    routes = [
        {
            "match": {"prefix": f"/{number}/{retries}"},
            "route": {"cluster": name, "hash_policy": [BY_USER], "retry_policy": {**AVOIDING, "num_retries": retries}},
        }
        for number, name in enumerate(names)
        for retries in range(3)
    ]
    clusters = [cluster_of(name, members(port, 7), **HASHES[name][1]) for name in names]
    theirs: dict[str, list[list[str]]] = {}
    with envoy_with(routes, clusters, [answering(f"127.0.0.{n + 1}", port, 503) for n in range(7)]) as (client, _):
        for number, name in enumerate(names):
            theirs[name] = [
                [client.get(f"/{number}/{n}", headers={"x-user": k}).headers["x-endpoint"] for n in range(3)]
                for k in KEYS[:40]
            ]
    for name in names:
        retries = {"attempts": 2, "retryOn": "5xx", "retryIgnorePreviousHosts": True, "backoff": "1ms"}
        hashing = {"consistentHash": {"httpHeaderName": "x-user", **HASHES[name][0]}}
        made = bench(port, 7, rule={"route": [to("reviews")], "retries": retries}, loadBalancer=hashing)
        ours = []
        for key in KEYS[:40]:
            script = made.script(503)
            made.call(script, headers={"x-user": key})
            ours.append(script.tried)
        assert ours == theirs[name], name


def test_the_keys_of_a_split_make_one_hash_as_envoy_makes_it():
    """istiod gives the route of a split the hash of each of its destinations."""
    port = free_port()
    route = {"match": {"prefix": "/"}, "route": {"cluster": "ring", "hash_policy": [BY_USER, BY_USER]}}
    clusters = [cluster_of("ring", members(port, 7), **HASHES["ring"][1])]
    with envoy_with([route], clusters, [answering(f"127.0.0.{n + 1}", port) for n in range(7)]) as (client, _):
        theirs = [client.get("/", headers={"x-user": key}).headers["x-endpoint"] for key in KEYS]
    split = {"route": [to("reviews", "", 50), to("reviews", "", 50)]}
    made = bench(port, 7, rule=split, loadBalancer={"consistentHash": {"httpHeaderName": "x-user"}})
    script = made.script(200)
    for key in KEYS:
        made.call(script, headers={"x-user": key})
    assert script.tried == theirs


# -- ejection ---------------------------------------------------------------------------------------------------------

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


def ejected_in(status: dict[str, Any]) -> set[int]:
    """Positions of the endpoints that Envoy's admin page shows as ejected."""
    return {
        int(host["address"]["socket_address"]["address"].rpartition(".")[2]) - 1
        for host in status["host_statuses"]
        if host["health_status"].get("failed_outlier_check")
    }


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


# -- proportions ------------------------------------------------------------------------------------------------------

DRAWS = 1000


def far_from(counts: Counter[str], shares: dict[str, float]) -> list[str]:
    """Those whose count is more than 4.5 standard deviations from its share."""
    total = sum(counts.values())
    return [
        f"{name}: {counts[name]} of {total}, {share:.3f} expected"
        for name, share in shares.items()
        if abs(counts[name] - total * share) > 4.5 * math.sqrt(total * share * (1 - share)) + 1e-9
    ]


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
