"""Delegation: whose rules a root gets, narrowed by its own matches, completed by its own settings."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import pod, service, to, virtual_service

BASE = [service("reviews"), pod("reviews", "v1", 1), service("ratings"), pod("ratings", "v1", 2)]


def delegate(name: str, *rules: dict[str, Any], namespace: str = "default", **spec: Any) -> dict[str, Any]:
    made = virtual_service(name, *rules, namespace=namespace, **spec)
    del made["spec"]["hosts"]
    return made


def root(*rules: dict[str, Any]) -> dict[str, Any]:
    return virtual_service("reviews", *rules)


def snapshot(*resources: dict[str, Any]):
    result = load_objects([*BASE, *resources])
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, Workload())


def taken(snap: Any, target: str = "/", method: str = "GET", **headers: str) -> Any:
    view = PlainRequest(method, "http", "reviews:9080", target, {k.replace("_", "-"): v for k, v in headers.items()})
    return route(snap, view).rule_object


def rules(snap: Any) -> Any:
    return snap.virtual_host("reviews:9080", "http").rules


TO_D = {"delegate": {"name": "d"}}


def test_a_delegates_rules_stand_where_the_root_delegates():
    snap = snapshot(
        root({"match": [{"uri": {"prefix": "/a"}}], **TO_D}, {"route": [to("reviews")]}),
        delegate("d", {"match": [{"uri": {"prefix": "/a/b"}}], "route": [to("ratings")]}, {"route": [to("reviews")]}),
    )
    assert taken(snap, "/a/b").destinations[0].host.startswith("ratings")
    assert taken(snap, "/a/x").delegate == "VirtualService/default/d http[1]"
    assert taken(snap, "/z").delegate == ""
    assert [r.index for r in rules(snap)] == [0, 0, 1]


def test_a_delegates_hosts_are_names_of_its_own_namespace():
    snap = snapshot(
        root({"delegate": {"name": "d", "namespace": "team"}, "mirror": {"host": "ratings"}}),
        delegate("d", {"route": [to("ratings")]}, namespace="team"),
        service("ratings", namespace="team"),
    )
    rule = taken(snap)
    assert rule.destinations[0].host == "ratings.team.svc.cluster.local"
    assert rule.mirrors[0].destination.host == "ratings.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ([], "the delegate VirtualService/default/d does not exist"),
        ([virtual_service("d", {"route": [to("ratings")]})], "has hosts, which a delegate must not have"),
        ([delegate("d", {"route": [to("ratings")]}, exportTo=["elsewhere"])], "is not exported to namespace default"),
    ],
)
def test_without_its_delegate_a_rule_does_not_exist_and_the_next_one_counts(resources, reason):
    snap = snapshot(root(TO_D, {"route": [to("reviews")]}), *resources)
    assert [r.index for r in rules(snap)] == [1]
    assert reason in next(p.message for p in snap.problems if p.code == "delegate")
    assert reason in snap.virtual_host("reviews:9080", "http").skipped[0].reason


def test_a_delegate_may_not_delegate_so_loops_cannot_be_written():
    result = load_objects([delegate("d", TO_D)])
    assert [e.code for e in result.errors] == ["delegate-of-a-delegate"]


def test_settings_that_the_delegate_leaves_open_are_the_roots():
    snap = snapshot(
        root({**TO_D, "timeout": "3s", "retries": {"attempts": 7}, "name": "root", "corsPolicy": {"maxAge": "1s"}}),
        delegate("d", {"route": [to("ratings")], "timeout": "1s", "name": "leaf"}),
    )
    rule = taken(snap)
    assert (rule.timeout, rule.retry.attempts, rule.name, rule.cors.max_age) == (1.0, 7, "root-leaf", "1")


def test_a_delegates_own_mirror_replaces_the_roots_mirrors():
    snap = snapshot(
        root({**TO_D, "mirrors": [{"destination": {"host": "reviews"}}]}),
        delegate("d", {"route": [to("reviews")], "mirror": {"host": "ratings"}}),
    )
    assert [m.destination.host.partition(".")[0] for m in taken(snap).mirrors] == ["ratings"]


def test_each_block_of_the_delegate_is_joined_with_each_block_of_the_root_that_it_fits():
    snap = snapshot(
        root({"match": [{"uri": {"prefix": "/a"}, "name": "x"}, {"headers": {"h": {"exact": "1"}}}], **TO_D}),
        delegate("d", {"match": [{"method": {"exact": "GET"}, "name": "y"}], "route": [to("ratings")]}),
    )
    (rule,) = rules(snap)
    assert [m.text for m in rule.matches] == [
        "uri prefix '/a', method exact 'GET'",
        "method exact 'GET', header h exact '1'",
    ]
    assert rule.matches[0].settings.name == "x-y"


CONFLICTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"uri": {"regex": "/a.*"}}, {"uri": {"prefix": "/a"}}),
    ({"uri": {"prefix": "/a"}}, {"uri": {"regex": "/a.*"}}),
    ({"uri": {"exact": "/a"}}, {"uri": {"prefix": "/a"}}),
    ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}),
    ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/b"}}),
    ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/"}}),
    ({"headers": {"h": {"exact": "1"}}}, {"headers": {"h": {"exact": "2"}}}),
    ({"headers": {"h": {}}}, {"headers": {"h": {"exact": "2"}}}),
    ({"withoutHeaders": {"h": {"exact": "1"}}}, {"withoutHeaders": {"h": {"prefix": "1"}}}),
    ({"queryParams": {"q": {"exact": "1"}}}, {"queryParams": {"q": {"exact": "2"}}}),
    ({"method": {"exact": "GET"}}, {"method": {"exact": "PUT"}}),
    ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a"}, "ignoreUriCase": True}),
    ({"port": 9080}, {"port": 80}),
    ({"sourceNamespace": "default"}, {"uri": {"prefix": "/"}}),
    ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}),
    ({"gateways": ["mesh"]}, {"gateways": ["mesh", "other"]}),
]


@pytest.mark.parametrize(("of_root", "of_leaf"), CONFLICTS)
def test_a_rule_that_contradicts_the_roots_match_is_left_out_whole(of_root, of_leaf):
    fits = {"uri": {"prefix": "/a"}} if "uri" in of_root else dict(of_root)
    snap = snapshot(
        root({"match": [of_root], **TO_D}, {"route": [to("reviews")]}),
        delegate("d", {"match": [of_leaf, fits] if fits == of_root else [of_leaf], "route": [to("ratings")]}),
    )
    assert [r.index for r in rules(snap)] == [1]
    assert "matches nothing that VirtualService/default/reviews http[0] matches" in str(snap.problems)


FITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}),
    ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/ab"}}),
    ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}),
    ({"uri": {"regex": "/a.*"}}, {"method": {"exact": "GET"}}),
    ({"headers": {"h": {"prefix": "1"}}}, {"headers": {"h": {"exact": "12"}}}),
    ({"sourceLabels": {"app": "x"}}, {"sourceLabels": {"tier": "y"}}),
]


@pytest.mark.parametrize(("of_root", "of_leaf"), FITS)
def test_a_rule_that_narrows_the_roots_match_counts(of_root, of_leaf):
    result = load_objects(
        [
            *BASE,
            root({"match": [of_root], **TO_D}),
            delegate("d", {"match": [of_leaf], "route": [to("ratings")]}),
        ]
    )
    snap = compile_snapshot(result.resources, Workload(labels={"app": "x", "tier": "y"}))
    assert [r.delegate for r in rules(snap)] == ["VirtualService/default/d http[0]"]
