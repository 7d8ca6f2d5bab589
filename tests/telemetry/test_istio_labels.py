"""Labels and values of Istio's metrics, as its stats filter has them, at both ends of a call. The expected values are those of
the filter's own tests (istio/proxy, testdata/metric), of the same workloads and services."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from meshlib.telemetry.families import LABELS
from tests.support.mesh_server import MeshServer, tells
from tests.support.mesh_tls import CLIENT, REVIEWS, identity, svid
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import destination_rule, pod, service, service_entry
from tests.support.servers import EchoServer

US = meshlib.Workload("client-v1", labels={"app": "client", "version": "v1"}, service_account="client")
SERVER = meshlib.Workload("reviews-v3", labels={"app": "reviews", "version": "v3"}, service_account="reviews")
REVIEWS_HOST = "reviews.default.svc.cluster.local"
SOURCE = {
    "reporter": "source",
    "source_workload": "client-v1",
    "source_canonical_service": "client",
    "source_canonical_revision": "v1",
    "source_workload_namespace": "default",
    "source_principal": "unknown",
    "source_app": "client",
    "source_version": "v1",
    "source_cluster": "Kubernetes",
    "connection_security_policy": "unknown",
    "request_protocol": "http",
    "response_code": "200",
    "response_flags": "-",
    "grpc_response_status": "",
}
TO_REVIEWS = {
    "destination_workload": "reviews-v3",
    "destination_workload_namespace": "default",
    "destination_principal": "unknown",
    "destination_app": "reviews",
    "destination_version": "v3",
    "destination_service": REVIEWS_HOST,
    "destination_canonical_service": "reviews",
    "destination_canonical_revision": "v3",
    "destination_service_name": "reviews",
    "destination_service_namespace": "default",
    "destination_cluster": "Kubernetes",
}
NOBODY_CALLS = {
    "source_workload": "unknown",
    "source_canonical_service": "unknown",
    "source_canonical_revision": "latest",
    "source_workload_namespace": "unknown",
    "source_principal": "unknown",
    "source_app": "unknown",
    "source_version": "unknown",
    "source_cluster": "unknown",
}
NOBODY_CALLED = {
    "destination_workload": "unknown",
    "destination_workload_namespace": "unknown",
    "destination_principal": "unknown",
    "destination_app": "unknown",
    "destination_version": "unknown",
    "destination_canonical_service": "unknown",
    "destination_canonical_revision": "latest",
    "destination_cluster": "unknown",
}


def series(registry: CollectorRegistry, name: str = "istio_requests_total") -> list[dict[str, str]]:
    return [s.labels for family in registry.collect() for s in family.samples if s.name == name]


def one(registry: CollectorRegistry) -> dict[str, str]:
    (found,) = series(registry)
    assert tuple(found) == LABELS
    return found


def reviews(port: int, workload: str = "reviews-v3", **policy: Any) -> list[dict[str, Any]]:
    place = pod("reviews", "v3", port)
    place["spec"]["serviceAccountName"] = "reviews"
    place["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-5d4f7", "controller": True}
    place["metadata"] |= {
        "name": f"{workload}-5d4f7-abcde",
        "generateName": f"{workload}-5d4f7-",
        "ownerReferences": [owner],
    }
    place["metadata"]["labels"]["pod-template-hash"] = "5d4f7"
    return [service("reviews"), place, *([destination_rule("reviews", **policy)] if policy else [])]


@pytest.mark.parametrize("mode", ["STRICT", "DISABLE"])
def test_a_call_over_mtls_and_one_in_plain_text_at_both_ends(mode: str) -> None:
    client, server = CollectorRegistry(), CollectorRegistry()
    theirs = identity(svid(REVIEWS), start=False)[0]
    policy = peer_authentication("all", mode)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        port = free_port()
        served = [policy, service("reviews"), pod("reviews", "v3", port)]
        serving = enter(meshlib.Mesh.from_resources(served, workload=SERVER, identity=theirs, registry=server))
        running = enter(MeshServer(tells, serving))
        ours = identity(svid(CLIENT), start=False)[0]
        made = [*reviews(running.port), policy]
        mesh = enter(meshlib.Mesh.from_resources(made, workload=US, identity=ours, registry=client))
        with mesh.client(timeout=20) as caller:
            assert caller.get("http://reviews:9080/").status_code == 200
    mutual = mode == "STRICT"
    wanted = {**SOURCE, **TO_REVIEWS}
    if mutual:
        wanted |= {"source_principal": CLIENT, "destination_principal": REVIEWS}
    assert one(client) == wanted
    wanted |= NOBODY_CALLS | {"reporter": "destination", "connection_security_policy": "none"}
    if mutual:
        wanted |= {"source_principal": CLIENT, "source_workload_namespace": "default"}
        wanted |= {"connection_security_policy": "mutual_tls"}
    assert one(server) == wanted


def test_the_canonical_service_stands_in_for_a_service_that_a_server_has_not() -> None:
    registry = CollectorRegistry()
    workload = meshlib.Workload("reviews-v3", "shop", {"app.kubernetes.io/name": "reviews"})
    with (
        meshlib.Mesh.from_resources([], workload=workload, registry=registry) as mesh,
        MeshServer(tells, mesh) as server,
    ):
        httpx.get(f"http://127.0.0.1:{server.port}/")
    found = {name: value for name, value in one(registry).items() if name.startswith("destination")}
    assert found == {
        **TO_REVIEWS,
        "destination_workload_namespace": "shop",
        "destination_app": "unknown",
        "destination_version": "unknown",
        "destination_canonical_revision": "latest",
        "destination_service": "reviews",
        "destination_service_namespace": "shop",
    }


def test_a_service_entry_is_named_by_its_host() -> None:
    registry = CollectorRegistry()
    with EchoServer() as server:
        endpoints = [{"address": "127.0.0.1", "ports": {"http": server.port}}]
        entry = service_entry("api", "api.example", endpoints=endpoints)
        entry["metadata"]["namespace"] = "shop"
        with meshlib.Mesh.from_resources([entry], workload=US, registry=registry) as mesh, mesh.client() as client:
            client.get("http://api.example/")
    assert one(registry) == {
        **SOURCE,
        **NOBODY_CALLED,
        "destination_service": "api.example",
        "destination_service_name": "api.example",
        "destination_service_namespace": "shop",
        "destination_workload_namespace": "shop",
        "destination_cluster": "Kubernetes",
        "destination_workload": "api",
        "destination_canonical_service": "api",
    }


def test_where_nothing_is_called_nothing_is_known_of_it_but_the_service() -> None:
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([service("reviews")], workload=US, registry=registry) as mesh:
        with mesh.client(local_replies="respond") as client:
            assert client.get("http://reviews:9080/").status_code == 503
    assert one(registry) == {
        **SOURCE,
        **NOBODY_CALLED,
        "destination_service": REVIEWS_HOST,
        "destination_service_name": "reviews",
        "destination_service_namespace": "default",
        "response_code": "503",
        "response_flags": "UH",
    }


@pytest.mark.parametrize(
    ("policy", "name", "code", "flags"),
    [("ALLOW_ANY", "PassthroughCluster", "200", "-"), ("REGISTRY_ONLY", "BlackHoleCluster", "502", "-")],
)
def test_hosts_outside_the_registry_are_one_of_istios_two_clusters(
    policy: str, name: str, code: str, flags: str
) -> None:
    registry = CollectorRegistry()
    sidecar = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"outboundTrafficPolicy": {"mode": policy}},
    }
    with EchoServer() as server, meshlib.Mesh.from_resources([sidecar], workload=US, registry=registry) as mesh:
        with mesh.client() as client, contextlib.suppress(httpx.TransportError):
            client.get(f"http://127.0.0.1:{server.port}/")
    found = one(registry)
    wanted = {**SOURCE, **NOBODY_CALLED, "response_code": code, "response_flags": flags}
    wanted |= {
        "destination_service": "unknown",
        "destination_service_name": name,
        "destination_service_namespace": "unknown",
    }
    assert found == wanted


def test_a_connection_that_cannot_be_made_says_nothing_of_who_is_there() -> None:
    registry = CollectorRegistry()
    theirs, ours = identity(svid(REVIEWS), start=False)[0], identity(svid(CLIENT), start=False)[0]
    with meshlib.Mesh.from_resources([], workload=SERVER, identity=theirs, registry=CollectorRegistry()) as serving:
        with contextlib.ExitStack() as stack:
            running = stack.enter_context(MeshServer(tells, serving))
            made = reviews(running.port)
            mesh = stack.enter_context(meshlib.Mesh.from_resources(made, workload=US, identity=ours, registry=registry))
            with mesh.client(timeout=20) as client:
                assert client.get("http://reviews:9080/").status_code == 200
            mesh.apply(reviews(free_port()))
            with mesh.client(timeout=20) as client, pytest.raises(httpx.ConnectError):
                client.get("http://reviews:9080/")
    principals = {found["response_code"]: found["destination_principal"] for found in series(registry)}
    assert principals == {"200": REVIEWS, "503": "unknown"}


def test_when_mtls_goes_the_principals_do_and_when_it_comes_they_are_there() -> None:
    registry = CollectorRegistry()
    theirs, ours = identity(svid(REVIEWS), start=False)[0], identity(svid(CLIENT), start=False)[0]
    with meshlib.Mesh.from_resources([], workload=SERVER, identity=theirs, registry=CollectorRegistry()) as serving:
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(MeshServer(tells, serving)).port
            plain = reviews(port, tls={"mode": "DISABLE"})
            mesh = stack.enter_context(
                meshlib.Mesh.from_resources(plain, workload=US, identity=ours, registry=registry)
            )
            client = stack.enter_context(mesh.client(timeout=20))
            for made in (None, reviews(port), plain):
                if made is not None:
                    mesh.apply(made)
                client.get("http://reviews:9080/")
                client.get("http://reviews:9080/")
    counted = {
        s.labels["destination_principal"]: s.value
        for family in registry.collect()
        for s in family.samples
        if s.name == "istio_requests_total"
    }
    assert counted == {"unknown": 4, REVIEWS: 2}
