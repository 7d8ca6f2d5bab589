"""A gateway port: VirtualServices bound to it, rules of several put one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_gateway
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import pod, service, to, virtual_service

INGRESS = Workload("ingress", namespace="istio-system", labels={"istio": "ingress"})
BASE = [service("reviews"), pod("reviews", "v1", 1), service("ratings"), pod("ratings", "v1", 2)]


def gateway(*hosts: str, port: int = 80, name: str = "gw", namespace: str = "default", **server: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"istio": "ingress"},
            "servers": [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": list(hosts), **server}],
        },
    }


def bound(name: str, *rules: dict[str, Any], created: str = "", **spec: Any) -> dict[str, Any]:
    made = virtual_service(name, *rules, **{"gateways": ["gw"], **spec})
    made["metadata"]["creationTimestamp"] = created or None
    return made


def snapshot(*resources: dict[str, Any], port: int = 80):
    result = load_objects([*BASE, *resources])
    assert not result.errors, result.errors
    return compile_gateway(result.resources, INGRESS, port)


def taken(snap: Any, authority: str, path: str = "/") -> Any:
    return route(snap, PlainRequest("GET", "http", authority, path, {})).rule_object


def test_rules_of_several_virtual_services_count_oldest_first():
    snap = snapshot(
        gateway("*"),
        bound("b", {"match": [{"uri": {"prefix": "/a"}}], "route": [to("ratings")]}, hosts=["x.test"], created="2021"),
        bound("a", {"match": [{"uri": {"prefix": "/a"}}], "route": [to("reviews")]}, hosts=["x.test"], created="2020"),
        bound("c", {"match": [{"uri": {"prefix": "/c"}}], "route": [to("ratings")]}, hosts=["x.test"], created="2022"),
    )
    assert taken(snap, "x.test", "/a").destinations[0].host.startswith("reviews")
    assert taken(snap, "x.test", "/c").destinations[0].host.startswith("ratings")
    assert taken(snap, "x.test", "/z") is None


@pytest.mark.parametrize(
    "catch_all", [{}, {"match": [{"uri": {"prefix": "/"}}]}, {"match": [{"uri": {"regex": ".*"}}]}]
)
def test_rules_that_match_everything_come_last(catch_all):
    snap = snapshot(
        gateway("*"),
        bound("a", {**catch_all, "route": [to("reviews")]}, hosts=["x.test"], created="2020"),
        bound("b", {"match": [{"uri": {"prefix": "/b"}}], "route": [to("ratings")]}, hosts=["x.test"], created="2021"),
    )
    assert taken(snap, "x.test", "/b").destinations[0].host.startswith("ratings")
    assert taken(snap, "x.test", "/a").destinations[0].host.startswith("reviews")


@pytest.mark.parametrize(
    ("server_hosts", "service_hosts", "asked", "served"),
    [
        (["*"], ["x.test"], "x.test", True),
        (["*.test"], ["x.test"], "x.test:80", True),
        (["x.test"], ["*.test"], "x.test", True),
        (["x.test"], ["*.test"], "y.test", False),
        (["other.test"], ["x.test"], "x.test", False),
        (["default/x.test"], ["x.test"], "x.test", True),
        (["./x.test"], ["x.test"], "x.test", True),
        (["away/x.test"], ["x.test"], "x.test", False),
        (["*/x.test"], ["x.test"], "x.test", True),
    ],
)
def test_a_virtual_service_serves_the_hosts_that_the_server_lets_in(server_hosts, service_hosts, asked, served):
    snap = snapshot(gateway(*server_hosts), bound("a", {"route": [to("reviews")]}, hosts=service_hosts))
    assert (taken(snap, asked) is not None) is served


@pytest.mark.parametrize(
    ("gateways", "served"),
    [
        (["gw"], True),
        (["default/gw"], True),
        (["away/gw"], False),
        (["mesh"], False),
        (["mesh", "gw"], True),
    ],
)
def test_a_virtual_service_is_bound_by_the_gateways_it_names(gateways, served):
    snap = snapshot(gateway("*"), bound("a", {"route": [to("reviews")]}, hosts=["x.test"], gateways=gateways))
    assert (taken(snap, "x.test") is not None) is served


def test_only_gateways_that_select_the_workload_and_have_the_port_count():
    rule = bound("a", {"route": [to("reviews")]}, hosts=["x.test"])
    other = gateway("*")
    other["spec"]["selector"] = {"istio": "egress"}
    assert taken(snapshot(other, rule), "x.test") is None
    assert taken(snapshot(gateway("*"), rule, port=81), "x.test") is None


def test_blocks_for_other_gateways_do_not_exist_and_source_labels_do_not_matter():
    match = [
        {"gateways": ["mesh"], "uri": {"prefix": "/m"}},
        {"gateways": ["default/gw"], "uri": {"prefix": "/g"}, "sourceLabels": {"app": "x"}},
    ]
    snap = snapshot(gateway("*"), bound("a", {"match": match, "route": [to("reviews")]}, hosts=["x.test"]))
    assert (taken(snap, "x.test", "/m"), taken(snap, "x.test", "/g") is not None) == (None, True)


def test_an_https_redirect_answers_everything():
    snap = snapshot(
        gateway("*.test", tls={"httpsRedirect": True}),
        bound("a", {"route": [to("reviews")]}, hosts=["x.test"]),
    )
    for host in ("x.test", "y.test"):
        redirect = taken(snap, host).redirect
        assert redirect.location("http", host, "/a?q=1", "/") == f"https://{host}/a?q=1"


def test_a_host_that_nobody_serves_has_no_route():
    snap = snapshot(gateway("*"))
    assert taken(snap, "nobody.test") is None
    assert snap.virtual_host("nobody.test", "http") is not snap.blocked


def test_a_gateway_chooses_the_version_of_http_itself_at_a_port_that_declares_nothing():
    """It offers HTTP/2 to browsers, whatever is behind it."""
    undeclared = service("plain", ports=[{"name": "what", "port": 9080, "targetPort": 1}])
    snap = snapshot(gateway("*"), bound("a", {"route": [to("plain")]}, hosts=["x.test"]), undeclared)
    assert snap.clusters["outbound|9080||plain.default.svc.cluster.local"].as_client is False
