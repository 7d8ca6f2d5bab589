"""Ports of headless services that are not HTTP: a sidecar listens for each pod, and so for nothing where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.snapshot import Snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import pod, service

POD = pod("db", "v1", 5000, "10.0.0.1", "db-0")


def headless(name: str) -> dict[str, Any]:
    return service("db", clusterIP="None", ports=[{"name": name, "port": 5000, "targetPort": 5000}])


def is_known(snapshot: Snapshot) -> bool:
    return not snapshot.is_unknown(snapshot.virtual_host("db:5000", "http"))


@pytest.mark.parametrize(("name", "without_pods"), [("http", True), ("tcp", False), ("other", False)])
def test_a_port_that_is_not_http_is_known_while_the_service_has_pods(name, without_pods):
    compiler = Compiler(Workload())
    empty, one = load_objects([headless(name)]).resources, load_objects([POD]).resources
    assert [is_known(compiler.compile(r)) for r in (empty, [*empty, *one], empty)] == [without_pods, True, without_pods]


def told(snapshot: Snapshot, address: str, scheme: str = "http") -> str:
    """The host whose connection one to this address is; "" to nobody's."""
    found = snapshot.virtual_host(f"{address}:5000", scheme)
    return "" if snapshot.is_unknown(found) else found.host


DB = "db.default.svc.cluster.local"


@pytest.mark.parametrize(("name", "host"), [("http", ""), ("tcp", DB), ("tls", DB), ("mysql", DB), ("other", DB)])
def test_pods_are_known_by_their_addresses_where_the_port_is_not_http(name: str, host: str) -> None:
    made = Compiler(Workload(), https_rules="istio").compile(load_objects([headless(name), POD]).resources)
    assert (told(made, "10.0.0.1"), told(made, "10.0.0.1", "https")) == (host, host)
    assert told(made, "10.0.0.2") == ""


def test_a_client_that_is_one_of_the_pods_is_not_told_of_itself() -> None:
    resources = load_objects([headless("tcp"), POD, pod("db", "v1", 5000, "10.0.0.2", "db-1")]).resources
    made = Compiler(Workload(address="10.0.0.1"), https_rules="istio").compile(resources)
    assert [told(made, address) for address in ("10.0.0.1", "10.0.0.2")] == ["", DB]


def test_pods_come_and_go_and_those_that_are_not_ready_are_left_out() -> None:
    compiler = Compiler(Workload(), https_rules="istio")
    one, other = POD, pod("db", "v1", 5000, "10.0.0.2", "db-1")
    for pods, known in (([one], [DB, ""]), ([one, other], [DB, DB]), ([other], ["", DB]), ([one, other], [DB, DB])):
        made = compiler.compile(load_objects([headless("tcp"), *pods]).resources)
        assert [told(made, address) for address in ("10.0.0.1", "10.0.0.2")] == known


def test_of_two_services_with_the_same_pods_the_older_one_has_their_addresses() -> None:
    younger = headless("tcp")
    younger["metadata"] = {**younger["metadata"], "name": "younger", "creationTimestamp": "2026-02-01T00:00:00Z"}
    older = headless("tcp")
    older["metadata"] = {**older["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}
    made = Compiler(Workload(), https_rules="istio").compile(load_objects([younger, older, POD]).resources)
    assert told(made, "10.0.0.1") == DB


def sidecar(**egress: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"egress": [{**egress, "hosts": ["./*"]}]},
    }


def reloads(name: str, scope: dict[str, Any]) -> tuple[list[list[str]], int]:
    """What is told of both pods' addresses while they come and go, and how often everything was compiled."""
    compiler = Compiler(Workload(), https_rules="istio")
    there, one, other = (
        load_objects(each).resources
        for each in ([headless(name), scope], [POD], [pod("db", "v1", 5000, "10.0.0.2", "db-1")])
    )
    made = (compiler.compile([*there, *pods]) for pods in (one, [*one, *other], other))
    return [[told(each, address) for address in ("10.0.0.1", "10.0.0.2")] for each in made], compiler.whole


@pytest.mark.parametrize("name", ["http", "tcp", "other"])
@pytest.mark.parametrize("protocol", ["TCP", "MONGO", "TLS"])
def test_pods_come_and_go_where_a_sidecar_says_that_the_port_is_not_http(name: str, protocol: str) -> None:
    port = {"number": 5000, "name": "bytes", "protocol": protocol}
    assert reloads(name, sidecar(port=port))[0] == [[DB, ""], [DB, DB], ["", DB]]


def test_pods_of_a_port_that_is_http_come_and_go_without_everything_being_compiled() -> None:
    as_http = {"number": 5000, "name": "http", "protocol": "HTTP"}
    for scope in (sidecar(), sidecar(port=as_http)):
        assert reloads("http", scope) == ([["", ""]] * 3, 1)
