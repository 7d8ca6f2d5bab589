"""Egress listeners of a Sidecar: what each imports is all there is on its port, virtual hosts and VirtualServices alike."""

from __future__ import annotations

from typing import Any

from meshlib import Mesh
from tests.support.mesh_decisions import answering, compiled, decision, entry, http_entry
from tests.support.resources import Resource, service, to, virtual_service

TWO = [{"name": "http", "port": 80}, {"name": "http-b", "port": 8080}]
A = service("a", ports=TWO)
FAR = service("far", port=80, namespace="other")


def sidecar(*egress: dict[str, Any], registry_only: bool = False) -> Resource:
    spec: dict[str, Any] = {"egress": list(egress)}
    if registry_only:
        spec["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
    metadata = {"name": "default", "namespace": "default"}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": metadata, "spec": spec}


def showing(*hosts: str, port: int = 0, protocol: str = "HTTP", **more: Any) -> dict[str, Any]:
    return {
        **({"port": {"number": port, "protocol": protocol, "name": "x"}} if port else {}),
        "hosts": list(hosts),
        **more,
    }


def test_a_destination_in_sight_is_a_cluster_and_no_virtual_host():
    rule = virtual_service("v", {"route": [to("far.other.svc.cluster.local")]}, hosts=["a"])
    snap = compiled(A, FAR, rule, sidecar(showing("./*")))
    assert decision(snap, "http://a/") == "default/v -> outbound|80||far.other.svc.cluster.local"
    assert decision(snap, "http://far.other/") == "passthrough"
    assert (
        decision(compiled(A, FAR, rule, sidecar(showing("./*"), registry_only=True)), "http://far.other/") == "blocked"
    )


def test_only_the_ports_that_rules_send_to_are_in_sight():
    far = service("far", ports=TWO, namespace="other")
    rule = virtual_service(
        "v",
        {"match": [{"uri": {"prefix": "/b"}}], "route": [to("far.other.svc.cluster.local", port=8080)]},
        hosts=["a"],
    )
    snap = compiled(A, far, rule, sidecar(showing("./*")))
    assert decision(snap, "http://a/b") == "default/v -> outbound|8080||far.other.svc.cluster.local"
    assert set(snap.clusters) == {
        "PassthroughCluster",
        "outbound|8080||far.other.svc.cluster.local",
    }


def test_a_listener_with_a_port_is_all_there_is_on_that_port():
    snap = compiled(A, FAR, sidecar(showing("other/*", port=80), showing("*/*")))
    assert decision(snap, "http://a:80/") == "passthrough"
    assert decision(snap, "http://far.other/") == "default -> outbound|80||far.other.svc.cluster.local"
    assert decision(snap, "http://a:8080/") == "default -> outbound|8080||a.default.svc.cluster.local"


def test_without_a_listener_for_every_port_other_ports_are_nobodys():
    snap = compiled(A, sidecar(showing("*/*", port=8080)))
    assert decision(snap, "http://a:80/") == "passthrough"
    assert decision(snap, "http://a:8080/").startswith("default ->")
    assert "outbound|80||a.default.svc.cluster.local" not in snap.clusters


def test_virtual_services_are_imported_by_each_listener():
    v = answering("v", "a.default.svc.cluster.local")
    v["metadata"]["namespace"] = "other"
    snap = compiled(A, FAR, v, sidecar(showing("other/*", "./*", port=8080), showing("./*")))
    assert decision(snap, "http://a:8080/") == "other/v: 204"
    assert decision(snap, "http://a/") == "default -> outbound|80||a.default.svc.cluster.local"


def test_one_imported_host_imports_a_virtual_service_for_all_of_its_hosts():
    v = answering("v", "a", "b", "x.test")
    snap = compiled(A, service("b", port=80), v, sidecar(showing("./a.default.svc.cluster.local")))
    assert decision(snap, "http://a/") == "default/v: 204"
    assert decision(snap, "http://x.test/") == "default/v: 204"
    assert decision(snap, "http://b/") == "passthrough", "only its full name, which the VirtualService writes, is known"
    assert decision(snap, "http://b.default.svc.cluster.local/") == "default/v: 204"


def test_excluded_hosts_are_taken_from_services_and_virtual_services():
    v = answering("v", "a")
    snap = compiled(A, FAR, v, sidecar(showing("*/*", "~default/a.default.svc.cluster.local")))
    assert decision(snap, "http://a/") == "passthrough"
    assert decision(snap, "http://far.other/").startswith("default ->")


def test_wildcard_imports_and_wildcard_claims_need_only_overlap():
    v = answering("v", "*.test")
    snap = compiled(A, http_entry("x.test", 80), v, sidecar(showing("./x.test")))
    assert decision(snap, "http://x.test/") == "default/v: 204"


def test_nothing_listens_where_no_http_service_is_shown():
    v = answering("v", "outside.test")
    snap = compiled(service("a"), v, sidecar(showing("./*")))
    assert decision(snap, "http://outside.test/") == "passthrough", "no service in sight has port 80"
    snap = compiled(A, v, sidecar(showing("./*")))
    assert decision(snap, "http://outside.test/") == "default/v: 204"


def test_a_listeners_protocol_counts_instead_of_the_services():
    snap = compiled(A, answering("v", "a"), sidecar(showing("./*", port=80, protocol="TCP")))
    assert decision(snap, "http://a/") == "tcp: default -> outbound|80||a.default.svc.cluster.local"


def test_a_listener_that_is_bound_elsewhere_is_not_where_calls_arrive():
    snap = compiled(A, sidecar(showing("./*", port=80, bind="127.0.0.1")))
    assert decision(snap, "http://a/") == "passthrough"


def test_a_proxy_that_callers_would_have_to_name_shows_clusters_only():
    v = virtual_service("v", {"route": [to("far.other.svc.cluster.local")]}, hosts=["a"])
    snap = compiled(A, FAR, v, sidecar(showing("other/*", port=15080, protocol="HTTP_PROXY"), showing("./*")))
    assert decision(snap, "http://far.other/") == "passthrough"
    assert decision(snap, "http://a/") == "default/v -> outbound|80||far.other.svc.cluster.local"


def test_the_service_of_another_namespace_is_seen_when_only_that_is_imported():
    mine, theirs = http_entry("x.test", 80), http_entry("x.test", 8080, namespace="other")
    snap = compiled(mine, theirs, sidecar(showing("other/*")))
    assert decision(snap, "http://x.test:8080/") == "default -> outbound|8080||x.test"
    snap = compiled(mine, theirs, sidecar(showing("*/*")))
    assert decision(snap, "http://x.test/") == "default -> outbound|80||x.test"


def test_tcp_services_are_reached_by_their_address_beside_a_listener_for_http():
    db = entry("db.test", {"number": 80, "name": "tcp", "protocol": "TCP"}, addresses=["240.0.0.1"])
    snap = compiled(A, db, sidecar(showing("./a.default.svc.cluster.local", port=80), showing("*/*")))
    assert decision(snap, "http://db.test/") == "tcp: default -> outbound|80||db.test"


def test_a_sniffed_service_that_its_ports_listener_does_not_show_has_no_virtual_host():
    plain = service("far", ports=[{"name": "whatever", "port": 8080}], namespace="other")
    snap = compiled(A, plain, sidecar(showing("./*", port=8080), showing("other/*")))
    assert decision(snap, "http://far.other:8080/") == "default: no rule"
    assert decision(snap, "http://a:8080/").startswith("default ->")


def test_an_explanation_says_why_a_host_is_unknown():
    resources = [A, FAR, sidecar(showing("./*"), registry_only=True)]
    with Mesh.from_resources(resources) as mesh:
        wrong_port, hidden = mesh.explain(url="http://a:81/"), mesh.explain(url="http://far.other/")
    assert "a has ports 80, 8080, not 81: blocked (REGISTRY_ONLY of Sidecar/default" in str(wrong_port)
    assert "the host is not in the registry, or Sidecar/default/default does not show it: blocked" in str(hidden)
    with Mesh.from_resources([A]) as mesh:
        assert "note: the host is not in the registry: passed through" in str(mesh.explain(url="http://example.com/"))
