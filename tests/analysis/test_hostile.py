"""Whatever resources hold, analysis says something and does not fail."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.analysis.messages import messages
from meshlib.resources.loader import load
from tests.support.resources import destination_rule, pod, service, to, virtual_service

GONE: Any = object()
JUNK: list[Any] = [GONE, None, 1, True, "", "x", "*", "a/b", [], {}, [None], [[]], [{}], {"a": 1}, {"a": None}, -1, 1.5]


def istio(group: str, kind: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": {"name": "one"}, "spec": spec, **more}


MESH = [
    service("cart"),
    pod("cart", "v1", 8080),
    destination_rule("cart", "v1", tls={"mode": "SIMPLE"}, portLevelSettings=[{"port": {"number": 80}, "tls": {}}]),
    virtual_service(
        "cart",
        {"match": [{"uri": {"prefix": "/a"}, "gateways": ["edge"]}], "route": [to("cart", "v1")]},
        {"delegate": {"name": "x", "namespace": "y"}},
        {
            "route": [to("cart", "v1")],
            "mirrors": [{"destination": {"host": "cart"}}],
            "fault": {"delay": {"percent": 1}},
        },
        gateways=["edge", "mesh"],
        exportTo=["."],
    ),
    istio(
        "networking",
        "Gateway",
        {
            "selector": {"app": "cart"},
            "servers": [
                {
                    "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                    "hosts": ["./a.example"],
                    "tls": {"credentialName": "cert"},
                }
            ],
        },
    ),
    istio("networking", "Sidecar", {"workloadSelector": {"labels": {"app": "cart"}}, "egress": [{"hosts": ["./*"]}]}),
    istio(
        "networking",
        "ServiceEntry",
        {
            "hosts": ["*.bank.example"],
            "ports": [{"number": 80, "name": "a", "protocol": "TCP"}],
            "endpoints": [{"address": "10.0.0.1", "labels": {"version": "v1"}}],
        },
        status={"conditions": [{"type": "istio.io/WaypointBound", "status": "False"}]},
    ),
    istio("security", "AuthorizationPolicy", {"rules": [{"from": [{"source": {"namespaces": ["a"]}}]}]}),
    istio("security", "RequestAuthentication", {"selector": {"matchLabels": {"app": "cart"}}}),
    istio("telemetry", "Telemetry", {"accessLogging": [{"providers": [{"name": "a"}]}]}),
    {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "one"},
        "spec": {
            "configPatches": [
                {
                    "applyTo": "HTTP_FILTER",
                    "match": {"listener": {"filterChain": {"filter": {"name": "a"}}}, "proxy": {"proxyVersion": "1"}},
                    "patch": {"operation": "INSERT_BEFORE", "value": {"name": "b"}},
                }
            ]
        },
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"}, "data": {"tls.crt": "eA=="}},
    {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": {}},
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cart"},
        "spec": {"template": {"metadata": {"labels": {"app": "cart"}}}},
    },
]


def places(node: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [here, *(place for key, child in inside for place in places(child, (*here, key)))]


PLACES = [place for place in places(MESH) if len(place) > 1]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(JUNK)), min_size=1, max_size=4))
def test_junk_anywhere(tmp_path_factory: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    mesh = copy.deepcopy(MESH)
    for place, junk in changes:
        node: Any = mesh
        try:
            for step in place[:-1]:
                node = node[step]
            if junk is GONE:
                del node[place[-1]]
            else:
                node[place[-1]] = copy.deepcopy(junk)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken the place away
    file = tmp_path_factory.getbasetemp() / "junk.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": mesh}))
    messages(load(file, keep_all=True, keep_positions=True))
