"""An EnvoyFilter that Istio's webhook refuses is refused here, at the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from meshlib.resources.loader import load_text
from tests.support.verdicts import refusals, resource, warnings

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
    former = filtered("HTTP_FILTER", name="envoy.http_connection_manager", subFilter={"name": "envoy.router"})
    assert warnings(
        "EnvoyFilter", {"configPatches": [{**former["configPatches"][0], "patch": {"operation": "REMOVE"}}]}
    ) == [
        ("former-filter-name", f"{FILTER}.name"),
        ("former-filter-name", f"{FILTER}.subFilter.name"),
    ]
    assert warnings("EnvoyFilter", valued("HTTP_FILTER", {"name": "a"})) == [("no-typed-config", VALUE)]
    long = patch(proxy={"proxyVersion": "(" * 1025})
    assert warnings("EnvoyFilter", long) == [("regex-ignored", f"{PATCH}.match.proxy.proxyVersion")]


def valued(apply_to: str, value: Any) -> dict[str, Any]:
    return patch(apply_to, {"operation": "MERGE", "value": value})


VALUE = f"{PATCH}.patch.value"
FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"


def typed(**fields: Any) -> dict[str, Any]:
    return valued("HTTP_FILTER", {"name": "a", "typed_config": fields})


TYPED = f"{VALUE}.typed_config"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (valued("CLUSTER", {"connect_timeout": 5}), f"{VALUE}.connect_timeout"),
        (valued("CLUSTER", {"connectTimeout": "soon"}), f"{VALUE}.connectTimeout"),
        (valued("CLUSTER", {"lb_policy": "FASTEST"}), f"{VALUE}.lb_policy"),
        (valued("CLUSTER", {"metadata": {"filter_metadata": {"a": 1}}}), f"{VALUE}.metadata.filter_metadata.a"),
        (valued("VIRTUAL_HOST", {"domains": "a"}), f"{VALUE}.domains"),
        (valued("VIRTUAL_HOST", {"domains": [5]}), f"{VALUE}.domains[0]"),
        (valued("VIRTUAL_HOST", {"name": {}}), f"{VALUE}.name"),
        (valued("LISTENER", {"per_connection_buffer_limit_bytes": -1}), f"{VALUE}.per_connection_buffer_limit_bytes"),
        (valued("LISTENER", {"per_connection_buffer_limit_bytes": 1.5}), f"{VALUE}.per_connection_buffer_limit_bytes"),
        (valued("LISTENER", {"per_connection_buffer_limit_bytes": "5s"}), f"{VALUE}.per_connection_buffer_limit_bytes"),
        (valued("BOOTSTRAP", {"stats_flush_interval": "http"}), f"{VALUE}.stats_flush_interval"),
        (valued("HTTP_ROUTE", {"match": []}), f"{VALUE}.match"),
        (valued("NETWORK_FILTER", {"typed_config": []}), f"{VALUE}.typed_config"),
        (typed(a="b"), TYPED),
        (typed(**{"@type": []}), f"{TYPED}.@type"),
        (typed(**{"@type": "type.googleapis.com/envoy.Nothing"}), f"{TYPED}.@type"),
        (typed(**{"@type": FAULT, "abort": {"http_status": "v1"}}), f"{TYPED}.abort.http_status"),
        (
            typed(**{"@type": FAULT, "abort": {"percentage": {"denominator": "TEN"}}}),
            f"{TYPED}.abort.percentage.denominator",
        ),
        (typed(**{"@type": "type.googleapis.com/google.protobuf.StringValue"}), TYPED),
    ],
)
def test_a_value_is_what_envoy_has_there(spec, path):
    assert refusals("EnvoyFilter", spec) == [("bad-patch", path.replace(".@type", '["@type"]'))]


@pytest.mark.parametrize(
    "spec",
    [
        valued("CLUSTER", {"connect_timeout": "3s", "lb_policy": "LEAST_REQUEST", "name": None, "type": 3}),
        valued("LISTENER", {"per_connection_buffer_limit_bytes": "1000", "reuse_port": True}),
        valued("CLUSTER", {"metadata": {"filterMetadata": {"a": {"b": [1, "c", None]}}}}),
        typed(
            **{"@type": FAULT, "abort": {"httpStatus": 503, "percentage": {"numerator": 10, "denominator": "HUNDRED"}}}
        ),
        typed(**{"@type": "envoy.extensions.filters.http.lua.v3.Lua", "inline_code": "a"}),
        typed(**{"@type": "a/google.protobuf.StringValue", "value": "b"}),
        typed(**{"@type": "a/udpa.type.v1.TypedStruct", "type_url": FAULT, "value": {"anything": [1]}}),
        typed(**{"@type": "a/stats.PluginConfig", "disable_host_header_fallback": True}),
        valued("EXTENSION_CONFIG", {}),
    ],
)
def test_a_value_that_envoy_takes(spec):
    assert refusals("EnvoyFilter", spec) == []


@pytest.mark.parametrize("url", ["type.googleapis.com/envoy.v2.HTTPFault", FAULT.replace("HTTP", "Http"), FAULT[:-1]])
def test_a_wrong_type_has_the_name_of_a_near_one_as_hint(url):
    text = yaml.safe_dump(resource("EnvoyFilter", typed(**{"@type": url})))
    (found,) = load_text(text, "f.yaml").errors
    assert found.hint == f"did you mean {FAULT}?"
    assert found.line > 1


def test_a_field_that_envoy_does_not_have_is_warned_of_for_istiod_passes_it_on():
    assert warnings("EnvoyFilter", valued("CLUSTER", {"conect_timeout": "3s"})) == [
        ("unknown-envoy-field", f"{VALUE}.conect_timeout")
    ]
