"""Clusters that send calls to the address that was called (ORIGINAL_DST), whatever a DestinationRule says of balancing."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.routes import Cluster
from tests.compiler.test_compile import PODS, snapshot
from tests.support.resources import destination_rule, pod, service, to, virtual_service

PASSTHROUGH = {"loadBalancer": {"simple": "PASSTHROUGH"}}
RANDOM = {"loadBalancer": {"simple": "RANDOM"}}
BY_USER = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}


def on_port(policy: dict[str, Any]) -> dict[str, Any]:
    return {"portLevelSettings": [{"port": {"number": 9080}, **policy}]}


def cluster(subset: str, policy: dict[str, Any] | None, of_subset: dict[str, Any] | None) -> Cluster:
    rule = destination_rule("reviews", "v1", **(policy or {}))
    if of_subset:
        rule["spec"]["subsets"][0]["trafficPolicy"] = of_subset
    snap = snapshot(*PODS, rule, virtual_service("reviews", {"route": [to("reviews", subset)]}))
    return snap.clusters[f"outbound|9080|{subset}|reviews.default.svc.cluster.local"]


@pytest.mark.parametrize(
    ("subset", "policy", "of_subset", "dialled"),
    [
        ("", PASSTHROUGH, None, True),
        ("", on_port(PASSTHROUGH), None, True),
        ("", PASSTHROUGH | on_port(RANDOM), None, False),
        ("", None, PASSTHROUGH, False),
        ("v1", None, PASSTHROUGH, True),
        ("v1", RANDOM, on_port(PASSTHROUGH), True),
        # the whole service's cluster is dialled, and its subsets' with it; a port of a subset does not take that back
        ("v1", PASSTHROUGH, RANDOM, True),
        ("v1", None, PASSTHROUGH | on_port(RANDOM), True),
        ("v1", RANDOM, None, False),
    ],
)
def test_passthrough_of_the_rule_or_of_the_subset_counts(subset, policy, of_subset, dialled):
    found = cluster(subset, policy, of_subset)
    assert (found.resolution == "passthrough") is dialled
    assert bool(found.endpoints) is not dialled


def test_limits_and_tls_count_where_balancers_do_not():
    headless = service("db", clusterIP="None"), pod("db", "v1", 1)
    pool = {"connectionPool": {"tcp": {"maxConnections": 3}}, "tls": {"mode": "SIMPLE"}}
    (found,) = [
        c
        for c in snapshot(*headless, destination_rule("db", **BY_USER, **pool)).clusters.values()
        if c.host[:2] == "db"
    ]
    assert (found.resolution, found.hash_policy, found.endpoints) == ("passthrough", None, ())
    assert found.limits.max_connections == 3
    assert found.tls is not None


def test_a_hash_does_not_leave_an_entry_without_resolution_without_endpoints():
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "any", "namespace": "default"},
        "spec": {
            "hosts": ["x.test"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "NONE",
        },
    }
    found = snapshot(entry, destination_rule("x.test", **BY_USER)).clusters["outbound|80||x.test"]
    assert (found.resolution, found.hash_policy) == ("passthrough", None)
