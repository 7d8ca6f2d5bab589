"""Sidecar: what a workload sees, and what happens to the rest."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import pod, service, to, virtual_service
from tests.support.scripted import Bench

SERVICES = [
    service("reviews"),
    pod("reviews", "v1", 1),
    service("ratings"),
    pod("ratings", "v1", 2),
    service("far", namespace="away"),
    pod("far", "v1", 3, namespace="away"),
]


def sidecar(name: str = "default", namespace: str = "default", created: str = "", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created or None},
        "spec": spec,
    }


def egress(*hosts: str, port: int = 0) -> dict[str, Any]:
    return {"hosts": list(hosts), **({"port": {"number": port, "protocol": "HTTP", "name": "x"}} if port else {})}


def snapshot(*resources: dict[str, Any], workload: Workload | None = None):
    result = load_objects([*SERVICES, *resources])
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, workload or Workload())


def seen(snap: Any) -> set[str]:
    return {h.partition(".")[0] for table in snap.ports.values() for h in table.names}


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        (["./*"], {"reviews", "ratings"}),
        (["*/*"], {"reviews", "ratings", "far"}),
        (["default/reviews.default.svc.cluster.local"], {"reviews"}),
        (["away/*"], {"far"}),
        (["*/*.away.svc.cluster.local"], {"far"}),
        (["~/*"], set()),
        (["*/*", "~away/*"], {"reviews", "ratings"}),
    ],
)
def test_a_workload_sees_the_services_that_egress_names(hosts, names):
    snap = snapshot(sidecar(egress=[egress(*hosts)]))
    assert seen(snap) == names
    assert snap.sidecar == "Sidecar/default/default"


def test_what_is_not_seen_is_passed_through_as_any_unknown_host():
    snap = snapshot(sidecar(egress=[egress("./*")]))
    assert snap.virtual_host("far.away:9080", "http") is snap.passthrough


def test_an_egress_port_shows_only_that_port():
    ports = [{"name": "http", "port": 80}, {"name": "http-b", "port": 81}]
    snap = snapshot(service("two", ports=ports), sidecar(egress=[egress("./two.default.svc.cluster.local", port=81)]))
    assert [port for port, table in snap.ports.items() if "two" in table.names] == [81]


def test_destinations_of_a_virtual_service_in_sight_are_in_sight():
    snap = snapshot(
        virtual_service("reviews", {"route": [to("far.away.svc.cluster.local")]}),
        sidecar(egress=[egress("./reviews.default.svc.cluster.local")]),
    )
    rule = snap.virtual_host("reviews:9080", "http").rules[0]
    assert rule.destinations[0].cluster == "outbound|9080||far.away.svc.cluster.local"


def test_a_virtual_service_out_of_sight_does_not_count():
    elsewhere = virtual_service(
        "reviews", {"route": [to("reviews")]}, hosts=["reviews.default.svc.cluster.local"], namespace="away"
    )
    assert snapshot(elsewhere).virtual_host("reviews:9080", "http").resource
    snap = snapshot(elsewhere, sidecar(egress=[egress("./*")]))
    assert snap.virtual_host("reviews:9080", "http").resource == ""


@pytest.mark.parametrize(
    ("sidecars", "labels", "chosen"),
    [
        ([sidecar("plain"), sidecar("mine", workloadSelector={"labels": {"app": "a"}})], {"app": "a"}, "default/mine"),
        ([sidecar("plain"), sidecar("mine", workloadSelector={"labels": {"app": "a"}})], {"app": "b"}, "default/plain"),
        (
            [sidecar("old", created="2020-01-01T00:00:00Z"), sidecar("new", created="2021-01-01T00:00:00Z")],
            {},
            "default/old",
        ),
        ([sidecar("root", "istio-system")], {}, "istio-system/root"),
        ([sidecar("root", "istio-system"), sidecar("plain")], {}, "default/plain"),
        ([sidecar("other", "away")], {}, ""),
        ([sidecar("root", "istio-system", workloadSelector={"labels": {"app": "a"}})], {"app": "a"}, ""),
    ],
)
def test_one_sidecar_counts_for_a_workload(sidecars, labels, chosen):
    for one in sidecars:
        one["spec"]["egress"] = [egress("*/*")]
    snap = snapshot(*sidecars, workload=Workload(labels=labels))
    assert snap.sidecar == (f"Sidecar/{chosen}" if chosen else "")


@pytest.mark.parametrize(
    ("policy", "status"),
    [({"mode": "REGISTRY_ONLY"}, 502), ({}, 502), ({"mode": "ALLOW_ANY"}, 200), (None, 200)],
)
def test_hosts_outside_the_registry_are_blocked_under_registry_only(policy, status):
    spec = {"egress": [egress("./*")]} if policy is None else {"outboundTrafficPolicy": policy}
    bench = Bench(*SERVICES, sidecar(**spec))
    outcome, call = bench.call(bench.script(200), "http://example.com/")
    assert (outcome.status, call.record.flags) == (status, "")
    assert outcome.whole == b""
    assert bench.call(bench.script(200), "http://reviews:9080/")[0].status == 200


def test_unknown_hosts_may_go_to_an_egress_proxy():
    policy = {
        "mode": "ALLOW_ANY",
        "egressProxy": {"host": "ratings.default.svc.cluster.local", "port": {"number": 9080}},
    }
    bench = Bench(*SERVICES, sidecar(outboundTrafficPolicy=policy))
    _, call = bench.call(bench.script(200), "http://example.com/")
    assert call.record.host == "ratings.default.svc.cluster.local"


def test_explain_says_which_sidecar_blocks():
    from meshlib import Mesh

    with Mesh.from_resources([*SERVICES, sidecar(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})]) as mesh:
        text = str(mesh.explain(url="http://example.com/"))
    assert "blocked (REGISTRY_ONLY of Sidecar/default/default)" in text
    assert "502" in text
