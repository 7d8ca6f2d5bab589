"""What Services declare of a workload's ports."""

from __future__ import annotations

import pytest

import meshlib
from meshlib.compiler.declared_ports import DeclaredPort
from tests.support.resources import pod, service

REVIEWS = meshlib.Workload("reviews-v1", labels={"app": "reviews", "version": "v1"})
PORTS = (53, 80, 8080, 9000, 9080, 9081, 9082)
HOST = "reviews.default.svc.cluster.local"


def declared(*resources: dict, workload: meshlib.Workload = REVIEWS):
    """By port, of those that any of these may be at."""
    with meshlib.Mesh.from_resources(list(resources), workload=workload) as mesh:
        snapshot = mesh._core.live.snapshot
        found = {port: snapshot.inbound.declared.of(port, snapshot.clusters.values()) for port in PORTS}
    return {port: each for port, each in found.items() if each is not None}


def reviews(called: str = "reviews", created: str = "", /, **port: object) -> dict:
    found = service("reviews", ports=[port])
    found["metadata"] |= {"name": called} | ({"creationTimestamp": created} if created else {})
    return found


@pytest.mark.parametrize(
    ("port", "number", "protocol"),
    [
        ({"port": 80, "name": "http"}, 80, "http"),
        ({"port": 80, "name": "grpc-api", "targetPort": 8080}, 8080, "grpc"),
        ({"port": 80, "name": "x", "appProtocol": "http2", "targetPort": 8080}, 8080, "http2"),
        ({"port": 80, "targetPort": "8080"}, 8080, "sniffed"),
        ({"port": 9000, "name": "mysql", "targetPort": 0}, 9000, "mysql"),
    ],
)
def test_a_port_is_known_by_where_its_traffic_arrives(port, number, protocol):
    assert declared(reviews(**port)) == {number: DeclaredPort(HOST, port["port"], protocol)}


def test_a_target_that_is_a_name_is_the_ports_of_the_pods_that_have_it():
    mine = pod("reviews", "v1", 9081, name="reviews-v1")
    port = {"port": 80, "name": "http", "targetPort": "http"}
    assert declared(reviews(**port), mine) == {9081: DeclaredPort(HOST, 80, "http")}
    assert declared(reviews(**port)) == {}


def test_the_oldest_of_several_services_counts():
    old = reviews("old", "2024-01-01T00:00:00Z", port=80, name="tcp", targetPort=8080)
    new = reviews("new", "2025-01-01T00:00:00Z", port=81, name="http", targetPort=8080)
    found = declared(new, old)
    assert found == {8080: DeclaredPort("old.default.svc.cluster.local", 80, "tcp")}


def test_udp_and_services_of_others_declare_nothing():
    assert declared(reviews(port=53, name="dns", protocol="UDP"), service("ratings")) == {}
