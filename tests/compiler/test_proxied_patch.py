"""The patch of an EnvoyFilter that has a gateway's connections begin with a header of the PROXY protocol."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.snapshot import Snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.inbound import envoy_filter
from tests.support.mesh_config import mesh_config

EDGE = Workload("edge", namespace="istio-system", labels={"istio": "ingressgateway"})
TYPE = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
INSPECTOR = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
}


def the_filter(name: str = "envoy.filters.listener.proxy_protocol", **settings: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": TYPE, **settings}}


def listener(*filters: dict[str, Any], operation: str = "MERGE", match: Any = None, **more: Any) -> dict[str, Any]:
    patch = {"operation": operation, "value": {"listener_filters": list(filters), **more}}
    return {"applyTo": "LISTENER", "patch": patch, **({"match": match} if match else {})}


def inserted(value: dict[str, Any], operation: str = "INSERT_FIRST", **match: Any) -> dict[str, Any]:
    patch = {"operation": operation, "value": value}
    return {"applyTo": "LISTENER_FILTER", "match": {"context": "GATEWAY", **match}, "patch": patch}


def compiled(patch: dict[str, Any], *, gateway: bool = True, **more: Any) -> Snapshot:
    labels = more.pop("labels", {"istio": "ingressgateway"})
    made = envoy_filter("proxied", patch, namespace=more.pop("namespace", "istio-system"), labels=labels)
    loaded = load_objects([made, *more.pop("beside", ())])
    assert loaded.errors == []
    return Compiler(EDGE, gateways=GatewayChoice() if gateway else None).compile(loaded.resources)


def said(snapshot: Snapshot) -> list[str]:
    return [each.message for each in snapshot.problems if each.code == "no-effect"]


@pytest.mark.parametrize(
    "patch",
    [
        listener(the_filter(), INSPECTOR),
        listener(the_filter()),
        listener({"name": "envoy.listener.proxy_protocol"}, {"name": "envoy.listener.tls_inspector"}),
        listener(the_filter(stat_prefix="edge"), match={"context": "GATEWAY"}),
        inserted(the_filter()),
        inserted(the_filter(), "INSERT_BEFORE"),
        inserted(the_filter(allow_requests_without_proxy_protocol=False), "ADD"),
    ],
)
def test_both_ways_in_which_it_is_written_act(patch: dict[str, Any]) -> None:
    made = compiled(patch)
    assert made.inbound.default.mesh.edge.proxy_protocol
    assert said(made) == []


def test_what_else_is_said_of_the_edge_stays() -> None:
    trusted = mesh_config(defaultConfig={"gatewayTopology": {"numTrustedProxies": 2}})
    edge = compiled(inserted(the_filter()), beside=[trusted]).inbound.default.mesh.edge
    assert (edge.trusted, edge.proxy_protocol) == (2, True)


@pytest.mark.parametrize("other", [{"labels": {"istio": "other"}}, {"namespace": "default"}])
def test_another_gateways_is_none_of_ours(other: dict[str, Any]) -> None:
    made = compiled(inserted(the_filter()), **other)
    assert not made.inbound.default.mesh.edge.proxy_protocol
    assert said(made) == []


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (inserted(the_filter(allow_requests_without_proxy_protocol=True)), "allow_requests_without_proxy_protocol of"),
        (inserted(the_filter(allowRequestsWithoutProxyProtocol=True)), "allow_requests_without_proxy_protocol of"),
        (inserted(the_filter(rules=[{"tlv_type": 234}])), "rules of the filter"),
        (inserted(the_filter(), listener={"portNumber": 8443}), "gatewayTopology.proxyProtocol"),
        (inserted(the_filter(), listener={"name": "0.0.0.0_8443"}), "gatewayTopology.proxyProtocol"),
        (inserted(the_filter(), proxy={"proxyVersion": "1.2"}), "match.proxy"),
        (inserted(the_filter(), "REMOVE"), "operation REMOVE"),
        (inserted(the_filter(), context="SIDECAR_INBOUND"), "context SIDECAR_INBOUND"),
        (inserted(INSPECTOR), "only envoy.filters.listener.proxy_protocol has"),
        (inserted({**the_filter(), "typed_config": INSPECTOR["typed_config"]}), "is of type"),
        (
            listener(the_filter(), {"name": "envoy.filters.listener.original_src"}),
            "not envoy.filters.listener.original_src",
        ),
        (listener(the_filter(), per_connection_buffer_limit_bytes=5), "per_connection_buffer_limit_bytes"),
        (listener(the_filter(), operation="ADD"), "operation ADD"),
        (listener(), "only envoy.filters.listener.proxy_protocol has"),
    ],
)
def test_what_says_more_or_less_does_not_act_and_says_so(patch: dict[str, Any], words: str) -> None:
    made = compiled(patch)
    assert not made.inbound.default.mesh.edge.proxy_protocol
    (message,) = said(made)
    assert words in message


def test_a_sidecar_is_no_gateway() -> None:
    patch = listener(the_filter())  # of any context
    made = compiled(patch, gateway=False)
    assert not made.inbound.default.mesh.edge.proxy_protocol
    assert ["at a gateway" in message for message in said(made)] == [True]
