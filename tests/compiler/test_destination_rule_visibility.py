"""Whose DestinationRule counts for a client: exportTo, merging and the root namespace, as in istiod's push context."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.routes import Cluster
from meshlib.workload import Workload
from tests.compiler.test_compile import PODS, snapshot
from tests.support.resources import to, virtual_service

HOST = "reviews.default.svc.cluster.local"
ALL_OF_DEFAULT = "*.default.svc.cluster.local"


def rule(name: str, day: int, namespace: str = "default", host: str = HOST, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-0{day}T00:00:00Z"},
        "spec": {"host": host, **spec},
    }


def at_most(connections: int) -> dict[str, Any]:
    return {"connectionPool": {"tcp": {"maxConnections": connections}}}


def cluster(*rules: dict[str, Any], client: str = "default", subset: str = "", **labels: str) -> Cluster:
    route = virtual_service("reviews", {"route": [to("reviews", subset)]}, exportTo=["*"])
    snap = snapshot(*PODS, *rules, route, workload=Workload(namespace=client, labels=labels))
    return snap.clusters[f"outbound|9080|{subset}|{HOST}"]


def missing(*rules: dict[str, Any], subset: str, client: str = "default") -> str:
    route = virtual_service("reviews", {"route": [to("reviews", subset)]})
    snap = snapshot(*PODS, *rules, route, workload=Workload(namespace=client))
    return snap.virtual_host(HOST, "http").rules[0].destinations[0].missing


def test_rules_of_a_host_merge_only_where_their_export_is_the_same():
    subset = {"subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
    private = rule("private", 1, exportTo=["."], **subset)
    public = rule("public", 2, trafficPolicy=at_most(7))
    assert "no subset v1" in missing(private, public, subset="v1")
    same = rule("same", 2, exportTo=["."], trafficPolicy=at_most(7))
    assert cluster(private, same, subset="v1").limits.max_connections == 7


def test_of_rules_that_stay_apart_the_newest_counts_whole():
    older = rule("older", 1, exportTo=["."], trafficPolicy={"tls": {"mode": "SIMPLE"}})
    newer = rule("newer", 2, trafficPolicy=at_most(7))
    found = cluster(older, newer)
    assert (found.destination_rule, found.tls, found.limits.max_connections) == (
        "DestinationRule/default/newer",
        None,
        7,
    )


def test_a_later_rule_that_is_exported_further_joins_the_earlier_one():
    """Istio merges it into the narrower one, and those that only it was exported to see neither."""
    older = rule("older", 1, exportTo=["dev"], trafficPolicy=at_most(7))
    newer = rule("newer", 2, exportTo=["dev", "ops"], trafficPolicy=at_most(8))
    assert cluster(older, newer, client="dev").limits.max_connections == 7
    assert cluster(older, newer, client="ops").destination_rule == ""


def test_a_newer_public_rule_acts_for_clients_that_the_older_one_is_hidden_from():
    """Its TLS must not be lost because another client has a rule of its own."""
    older = rule("older", 1, exportTo=["ops"], trafficPolicy=at_most(1))
    newer = rule("newer", 2, trafficPolicy={"tls": {"mode": "SIMPLE"}, **at_most(7)})
    found = cluster(older, newer, client="dev")
    assert found.tls is not None
    assert (found.tls.mode, found.limits.max_connections) == ("SIMPLE", 7)


def test_an_exact_rule_of_the_namespace_alone_does_not_hide_an_exported_wildcard():
    exact = rule("exact", 1, exportTo=["."], trafficPolicy=at_most(1))
    wide = rule("wide", 2, host=ALL_OF_DEFAULT, trafficPolicy={"tls": {"mode": "SIMPLE"}})
    assert cluster(exact, wide, client="dev").tls is not None
    assert cluster(exact, wide).limits.max_connections == 1


def test_an_exact_rule_for_others_does_not_count_in_its_own_namespace():
    exact = rule("exact", 1, exportTo=["ops"], trafficPolicy=at_most(1))
    wide = rule("wide", 2, host=ALL_OF_DEFAULT, trafficPolicy=at_most(2))
    assert cluster(exact, wide).limits.max_connections == 2
    assert cluster(exact, wide, client="ops").limits.max_connections == 1
    # exported, though not to this client: Istio looks for the host first and asks for whom then
    assert cluster(exact, wide, client="dev").destination_rule == ""


def test_a_client_looks_in_its_own_namespace_then_the_services_then_the_root():
    mine = rule("mine", 3, "dev", trafficPolicy=at_most(1))
    theirs = rule("theirs", 2, trafficPolicy=at_most(2))
    root = rule("root", 1, "istio-system", trafficPolicy=at_most(3))
    assert cluster(mine, theirs, root, client="dev").limits.max_connections == 1
    assert cluster(theirs, root, client="dev").limits.max_connections == 2
    assert cluster(root, client="dev").limits.max_connections == 3


def test_a_client_in_the_root_namespace_obeys_what_is_for_that_namespace_alone_then_the_services_then_the_roots():
    private = rule("private", 3, "istio-system", exportTo=["."], trafficPolicy=at_most(1))
    theirs = rule("theirs", 2, trafficPolicy=at_most(2))
    root = rule("root", 1, "istio-system", trafficPolicy=at_most(3))
    assert cluster(private, theirs, root, client="istio-system").limits.max_connections == 1
    assert cluster(theirs, root, client="istio-system").limits.max_connections == 2
    assert cluster(root, client="istio-system").limits.max_connections == 3


def test_the_longest_wildcard_counts_and_an_exact_host_before_it():
    widest = rule("widest", 1, host="*", trafficPolicy=at_most(1))
    wide = rule("wide", 2, host=ALL_OF_DEFAULT, trafficPolicy=at_most(2))
    exact = rule("exact", 3, trafficPolicy=at_most(3))
    assert cluster(widest).limits.max_connections == 1
    assert cluster(widest, wide).limits.max_connections == 2
    assert cluster(widest, wide, exact).limits.max_connections == 3


def selecting(app: str) -> dict[str, Any]:
    return {"workloadSelector": {"matchLabels": {"app": app}}}


def test_a_rule_for_selected_workloads_counts_before_the_newest_for_all():
    chosen = rule("chosen", 1, trafficPolicy=at_most(1), **selecting("page"))
    plain = rule("plain", 2, trafficPolicy=at_most(2))
    assert cluster(plain, chosen, app="page").limits.max_connections == 1
    assert cluster(plain, chosen, app="other").limits.max_connections == 2


def test_rules_with_the_same_selector_merge():
    one = rule("one", 1, trafficPolicy=at_most(1), **selecting("page"))
    two = rule("two", 2, subsets=[{"name": "v1", "labels": {"version": "v1"}}], **selecting("page"))
    other = rule("other", 3, trafficPolicy=at_most(3), **selecting("shop"))
    assert cluster(one, two, other, subset="v1", app="page").limits.max_connections == 1
    assert cluster(one, two, other, app="shop").limits.max_connections == 3


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"trafficPolicy": at_most(2)}, "its trafficPolicy is not used"),
        ({"exportTo": ["."], "trafficPolicy": at_most(2)}, "not the same exportTo"),
    ],
)
def test_what_several_rules_of_a_host_lose_is_said(second, says):
    snap = snapshot(*PODS, rule("one", 1, trafficPolicy=at_most(1)), rule("two", 2, **second))
    (problem,) = [p for p in snap.problems if p.code == "destination-rule-overlap"]
    assert says in problem.message
    assert problem.path == "DestinationRule/default/two"


def test_a_retry_budget_of_the_rule_outlives_a_port_of_the_subset():
    """Ports have no retryBudget, so a port's entry does not take it away; every other block it does."""
    made = rule(
        "one",
        1,
        trafficPolicy={"retryBudget": {"percent": 30}, **at_most(5)},
        subsets=[
            {
                "name": "v1",
                "labels": {"version": "v1"},
                "trafficPolicy": {"portLevelSettings": [{"port": {"number": 9080}, "outlierDetection": {}}]},
            }
        ],
    )
    found = cluster(made, subset="v1")
    assert found.retry_budget is not None
    assert found.retry_budget.percent == 30
    assert found.limits.max_connections > 5
