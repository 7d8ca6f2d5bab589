"""Services of type ExternalName are aliases: what rules and policies count for calls to them, and for routes that name them."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.routes import Destination
from meshlib.compiler.snapshot import Snapshot
from tests.compiler.test_compile import PODS, decide, snapshot
from tests.registry.test_aliases import external
from tests.support.resources import destination_rule, pod, service, to, virtual_service

REVIEWS = "reviews.default.svc.cluster.local"
ALIAS = external("alias", REVIEWS)
NAMES = ("alias", "alias.default", "alias.default.svc", "alias.default.svc.cluster.local")
BY_USER = {"consistentHash": {"httpHeaderName": "x-user"}}


def destination(*resources: dict[str, Any], to: dict[str, Any], on: int = 9080) -> Destination:
    made = service("shop", port=on), pod("shop", "v1", 1)
    snap = snapshot(*PODS, *made, *resources, virtual_service("shop", {"route": [to]}))
    return snap.virtual_host(f"shop:{on}", "http").rules[0].destinations[0]


def cluster_of(snap: Snapshot, url: str) -> str:
    return snap.virtual_host(url, "http").rules[0].destinations[0].cluster


@pytest.mark.parametrize("name", NAMES)
def test_each_name_of_an_alias_is_one_of_the_service_that_it_stands_for(name):
    rule = virtual_service("reviews", {"name": "theirs", "route": [to("reviews")], "timeout": "3s"})
    snap = snapshot(*PODS, ALIAS, rule, destination_rule("reviews", tls={"mode": "SIMPLE", "sni": "s.test"}))
    assert decide(snap, f"http://{name}:9080/")[0] == "VirtualService/default/reviews"
    tls = snap.clusters[cluster_of(snap, f"{name}:9080")].tls
    assert tls is not None
    assert tls.sni == "s.test"


def test_a_chain_of_aliases_stands_for_its_end():
    snap = snapshot(*PODS, ALIAS, external("further", "alias.default.svc.cluster.local"))
    assert cluster_of(snap, "further:9080") == f"outbound|9080||{REVIEWS}"


def test_aliases_in_a_circle_stand_for_nothing():
    circle = [external("a", "b.default.svc.cluster.local"), external("b", "a.default.svc.cluster.local")]
    snap = snapshot(*circle)
    assert snap.virtual_host("a:9080", "http") is snap.passthrough


def test_an_alias_has_the_ports_of_the_service_that_it_stands_for_and_not_its_own():
    snap = snapshot(*PODS, external("alias", REVIEWS) | {"spec": {**ALIAS["spec"], "ports": [{"port": 80}]}})
    assert cluster_of(snap, "alias:9080") == f"outbound|9080||{REVIEWS}"
    assert snap.virtual_host("alias:80", "http") is snap.passthrough


def test_a_host_outside_the_mesh_has_no_virtual_host_through_its_alias():
    snap = snapshot(external("api", "api.example.com"))
    assert snap.virtual_host("api:9080", "http") is snap.passthrough
    assert snap.dialled["api"] == ("api.example.com",)


def test_a_virtual_service_may_claim_an_alias():
    snap = snapshot(*PODS, ALIAS, virtual_service("alias", {"name": "own", "route": [to("reviews", "v1")]}))
    assert decide(snap, "http://alias:9080/")[0] == "VirtualService/default/alias"
    assert decide(snap, "http://reviews:9080/")[0] == ""


def test_a_route_to_an_alias_goes_to_the_cluster_of_what_it_stands_for():
    found = destination(ALIAS, destination_rule("reviews", "v1"), to=to("alias", "v1"))
    assert (found.cluster, found.host) == (f"outbound|9080|v1|{REVIEWS}", REVIEWS)
    assert destination(ALIAS, to=to("alias", port=9080)).cluster == f"outbound|9080||{REVIEWS}"


def test_a_route_to_an_alias_needs_the_port_that_was_dialled_among_its_own():
    found = destination(ALIAS, to=to("alias", port=9080), on=8000)
    assert (found.cluster, "alias.default.svc.cluster.local has no port 8000" in found.missing) == ("", True)


@pytest.mark.parametrize(
    "target",
    ["api.example.com", "again.default.svc.cluster.local"],
    ids=["outside", "an alias itself: Istio follows one step"],
)
def test_a_route_to_an_alias_of_no_service_has_no_cluster(target):
    again = external("again", REVIEWS)
    found = destination(external("alias", target), again, to=to("alias"))
    assert (found.cluster, f"host {target} (for which alias" in found.missing) == ("", True)


def test_the_subsets_and_policies_of_a_route_to_an_alias_are_those_of_what_it_stands_for():
    own = destination_rule("alias", "v1", loadBalancer=BY_USER)
    found = destination(ALIAS, own, to=to("alias", "v1"))
    assert (found.cluster, "no subset v1" in found.missing) == ("", True)
    # the key of a route is the one thing that Istio reads from the alias's own DestinationRule
    assert found.hash_policy is not None


def test_a_port_that_only_an_entry_gives_an_external_names_host_is_known_and_has_no_cluster():
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "more", "namespace": "default"},
        "spec": {
            "hosts": ["alias.default.svc.cluster.local"],
            "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
            "resolution": "NONE",
        },
    }
    snap = snapshot(*PODS, ALIAS, entry)
    assert "has no port 8080" in snap.virtual_host("alias:8080", "http").rules[0].destinations[0].missing
    assert cluster_of(snap, "alias:9080") == f"outbound|9080||{REVIEWS}"
