"""Retries of routes that say nothing of them, or turn them off, as istiod generates them."""

from __future__ import annotations

import pytest

from meshlib.compiler.routes import Rule
from meshlib.policy.retry import NO_RETRY
from tests.compiler.test_compile import PODS, snapshot
from tests.support.resources import destination_rule, to, virtual_service

BY_USER = {"consistentHash": {"httpHeaderName": "x-user"}}


def rule(*resources: dict, url: str = "reviews:9080") -> Rule:
    found = snapshot(*PODS, *resources).virtual_host(url, "http").single
    assert found is not None
    return found


def test_a_retry_of_a_route_that_hashes_may_go_where_the_first_try_went():
    """The key leads to one endpoint; to avoid it would be to leave what consistentHash promises."""
    hashed = destination_rule("reviews", loadBalancer=BY_USER)
    assert not rule(hashed, virtual_service("reviews", {"route": [to("reviews")]})).retry.ignore_previous_hosts


def test_a_default_route_avoids_endpoints_that_were_tried_even_if_its_cluster_hashes():
    assert rule(destination_rule("reviews", loadBalancer=BY_USER)).retry.ignore_previous_hosts


def test_a_split_avoids_endpoints_that_were_tried():
    hashed = destination_rule("reviews", "v1", "v2", loadBalancer=BY_USER)
    split = virtual_service("reviews", {"route": [to("reviews", "v1", 50), to("reviews", "v2", 50)]})
    assert rule(hashed, split).retry.ignore_previous_hosts


def test_what_the_rule_says_of_previous_hosts_counts_more():
    hashed = destination_rule("reviews", loadBalancer=BY_USER)
    avoiding = {"attempts": 3, "retryIgnorePreviousHosts": True}
    assert rule(
        hashed, virtual_service("reviews", {"route": [to("reviews")], "retries": avoiding})
    ).retry.ignore_previous_hosts
    silent = rule(hashed, virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 3}})).retry
    assert (silent.attempts, silent.ignore_previous_hosts) == (3, False)


@pytest.mark.parametrize(
    ("policy", "destination", "hashes"),
    [
        ({"loadBalancer": {"simple": "RANDOM"}}, to("reviews", "v1"), False),
        ({"loadBalancer": BY_USER}, to("reviews", "v1"), True),
        ({"portLevelSettings": [{"port": {"number": 9080}, "loadBalancer": BY_USER}]}, to("reviews", "v1"), False),
        (
            {"portLevelSettings": [{"port": {"number": 9080}, "loadBalancer": BY_USER}]},
            to("reviews", "v1", port=9080),
            True,
        ),
        (
            {
                "loadBalancer": BY_USER,
                "portLevelSettings": [{"port": {"number": 9080}, "loadBalancer": {"simple": "RANDOM"}}],
            },
            to("reviews", "v1", port=9080),
            True,
        ),
    ],
)
def test_which_route_hashes_is_read_from_the_rule_level_by_level(policy, destination, hashes):
    """The subset's policy before the rule's; a port's entry only where the destination names the port; a level without
    consistentHash hides none."""
    made = destination_rule("reviews", "v1")
    made["spec"]["trafficPolicy"] = policy
    found = rule(made, virtual_service("reviews", {"route": [destination]}))
    assert (found.destinations[0].hash_policy is not None) is hashes
    assert found.retry.ignore_previous_hosts is not hashes
    assert (
        rule(destination_rule("reviews", "v1"), virtual_service("reviews", {"route": [destination]})).retry.attempts
        == 2
    )


def test_a_subsets_own_hash_makes_its_routes_hash():
    made = destination_rule("reviews", "v1", "v2")
    made["spec"]["subsets"][0]["trafficPolicy"] = {"loadBalancer": BY_USER}
    for subset, avoids in (("v1", False), ("v2", True)):
        found = rule(made, virtual_service("reviews", {"route": [to("reviews", subset)]}))
        assert found.retry.ignore_previous_hosts is avoids


@pytest.mark.parametrize("retries", [{"attempts": 0}, {"retryIgnorePreviousHosts": False}])
def test_retries_without_attempts_are_turned_off(retries):
    found = rule(virtual_service("reviews", {"route": [to("reviews")], "retries": retries}))
    assert found.retry == NO_RETRY


def test_a_host_that_the_mesh_does_not_know_is_tried_once():
    found = rule(url="example.org")
    assert found.destinations[0].host == "PassthroughCluster"
    assert found.retry == NO_RETRY
