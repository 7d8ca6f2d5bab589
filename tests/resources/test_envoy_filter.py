"""An EnvoyFilter that Istio's webhook refuses is refused here, at the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.verdicts import refusals, warnings

PATCH = "spec.configPatches[0]"
MANAGER = "envoy.filters.network.http_connection_manager"
MERGE = {"operation": "MERGE", "value": {}}


def patch(apply_to: str = "CLUSTER", made: Any = MERGE, **match: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"applyTo": apply_to, "patch": made}
    return {"configPatches": [{**found, "match": match} if match else found]}


def filtered(apply_to: str, **named: Any) -> dict[str, Any]:
    return patch(apply_to, listener={"filterChain": {"filter": named}})


FILTER = f"{PATCH}.match.listener.filterChain.filter"


@pytest.mark.parametrize(
    ("spec", "code", "path"),
    [
        ({"configPatches": [{"patch": MERGE}]}, "missing-apply-to", f"{PATCH}.applyTo"),
        (patch("INVALID"), "missing-apply-to", f"{PATCH}.applyTo"),
        ({"configPatches": [{"applyTo": "CLUSTER"}]}, "missing-patch", PATCH),
        (patch(made={"value": {}}), "missing-operation", f"{PATCH}.patch"),
        (patch(made={"operation": "INVALID", "value": {}}), "missing-operation", f"{PATCH}.patch"),
        (patch(made={"operation": "ADD"}), "missing-value", f"{PATCH}.patch"),
        (patch(proxy={"proxyVersion": "*"}), "bad-regex", f"{PATCH}.match.proxy.proxyVersion"),
        (patch("CLUSTER", listener={}), "wrong-match", f"{PATCH}.match.listener"),
        (patch("HTTP_FILTER", cluster={}), "wrong-match", f"{PATCH}.match.cluster"),
        (patch("VIRTUAL_HOST", listener={}), "wrong-match", f"{PATCH}.match.listener"),
        (filtered("NETWORK_FILTER"), "missing-name", FILTER),
        (filtered("NETWORK_FILTER", name=MANAGER, subFilter={"name": "a"}), "wrong-match", f"{FILTER}.subFilter"),
        (filtered("HTTP_FILTER", name="a", subFilter={"name": "a"}), "wrong-match", f"{FILTER}.name"),
        (filtered("HTTP_FILTER", name=MANAGER, subFilter={}), "missing-name", f"{FILTER}.subFilter"),
        ({"workloadSelector": {"labels": {"a": "*"}}}, "wildcard-label", "spec.workloadSelector.labels.a"),
        ({"workloadSelector": {"labels": {"": "a"}}}, "bad-label", 'spec.workloadSelector.labels[""]'),
    ],
)
def test_refused(spec, code, path):
    assert refusals("EnvoyFilter", spec) == [(code, path)]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        patch(),
        patch(made={"operation": "REMOVE"}),
        patch("CLUSTER", cluster={"service": "a"}),
        patch("HTTP_ROUTE", routeConfiguration={}),
        patch("BOOTSTRAP", listener={}),
        patch("LISTENER", context="ANY", proxy={"proxyVersion": "^1\\.2.*"}),
        filtered("HTTP_FILTER", name="envoy.http_connection_manager", subFilter={"name": "a"}),
        {"configPatches": [{"match": {"context": "WAYPOINT", "waypoint": {}}}]},
    ],
)
def test_accepted(spec):
    assert refusals("EnvoyFilter", spec) == []


def test_what_does_not_narrow_a_patch_is_warned_of():
    assert warnings("EnvoyFilter", {"workloadSelector": {}}) == [("empty-selector", "spec.workloadSelector")]
    assert warnings("EnvoyFilter", filtered("LISTENER", name="a")) == [("match-ignored", FILTER)]
    long = patch(proxy={"proxyVersion": "(" * 1025})
    assert warnings("EnvoyFilter", long) == [("regex-ignored", f"{PATCH}.match.proxy.proxyVersion")]
