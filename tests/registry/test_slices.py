"""What an EndpointSlice comes to. (That changes of slices give what a build from scratch gives: test_incremental.py.)"""

from __future__ import annotations

from typing import Any

from meshlib.registry.service import ServicePort
from meshlib.registry.slices import Slice, all_of
from meshlib.registry.workloads import WorkloadInstance
from meshlib.resources.loader import load_objects

PORT = ServicePort(80, "http")


def made(*addresses: str, ready: bool | None = None, **spec: Any) -> Slice:
    resource = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 7}],
        "endpoints": [{"addresses": [a], "conditions": {"ready": ready}, "zone": "z"} for a in addresses],
        **spec,
    }
    return Slice(load_objects([resource]).resources[0])


def test_an_address_is_there_once_and_asked_again_it_is_the_same_object():
    piece = made("10.0.0.1", "10.0.0.2", "10.0.0.1")
    found = piece.endpoints(PORT, False, ())
    assert list(found) == ["10.0.0.1:7", "10.0.0.2:7"]
    assert found["10.0.0.1:7"].locality == "/z"
    assert piece.endpoints(PORT, False, ()) is found


def test_who_is_not_ready_is_healthy_only_where_the_service_publishes_it():
    piece = made("10.0.0.1", ready=False)
    healthy = [[e.healthy for e in piece.endpoints(PORT, too, ()).values()] for too in (False, True, False)]
    assert healthy == [[False], [True], [False]]


def test_a_port_without_that_name_has_none_and_names_are_not_taken():
    assert not made("10.0.0.1").endpoints(ServicePort(80, "other"), False, ())
    assert not made("a.example", addressType="FQDN").endpoints(PORT, False, ())


def test_a_pod_that_becomes_known_makes_it_anew():
    entry = {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a-1"}}
    piece = made(endpoints=[entry])
    assert piece.pods == (("default", "a-1"),)
    before = piece.endpoints(PORT, False, [None])
    assert before["10.0.0.1:7"].pod == "a-1"
    assert piece.endpoints(PORT, False, [None]) is before
    known = WorkloadInstance("a-1", "default", "10.0.0.1", {"app": "a"}, {})
    after = piece.endpoints(PORT, False, [known])
    assert after["10.0.0.1:7"].labels == {"app": "a"}
    assert piece.endpoints(PORT, False, [known]) is after


def test_of_an_address_in_several_slices_the_first_counts_and_its_place():
    one, other = made("10.0.0.1", "10.0.0.2"), made("10.0.0.3", "10.0.0.2")
    first, second = (piece.endpoints(PORT, False, ()) for piece in (one, other))
    assert [e.key for e in all_of([first, second])] == ["10.0.0.1:7", "10.0.0.2:7", "10.0.0.3:7"]
    assert all_of([first, second])[1] is first["10.0.0.2:7"]
