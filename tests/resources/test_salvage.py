"""What can be read of a document that has errors."""

from __future__ import annotations

from typing import Any

from meshlib.resources.kinds import model_for
from meshlib.resources.salvage import salvage


def salvaged(kind: str, spec: Any, version: str = "networking.istio.io/v1", **more: Any) -> Any:
    model = model_for(version, kind)
    assert model is not None
    return salvage(model, {"apiVersion": version, "kind": kind, "metadata": {"name": "one"}, "spec": spec, **more})


def test_fields_that_are_wrong_are_left_out_and_their_places_told():
    gateway = salvaged("Gateway", {"selector": {"app": "edge"}, "servers": [{"hosts": ["a"], "port": {"number": "x"}}]})
    assert gateway.id == "Gateway/default/one"
    assert gateway.spec.selector == {"app": "edge"}
    assert gateway.spec.servers[0].hosts == ["a"]
    assert gateway.spec.servers[0].port.number is None
    assert gateway.lost_fields == {("spec", "servers", 0, "port", "number")}


def test_a_text_that_is_refused_for_what_it_says_still_says_it():
    assert salvaged("DestinationRule", {"host": "not a host"}).spec.host == "not a host"


def test_unknown_fields_take_nothing_with_them():
    entry = salvaged("ServiceEntry", {"hosts": ["a.example"], "hots": ["b"], "ports": [{"number": 80, "x": 1}]})
    assert entry.spec.hosts == ["a.example"]
    assert entry.spec.ports[0].number == 80


def test_entries_of_lists_keep_their_positions():
    service = salvaged("VirtualService", {"hosts": ["a"], "http": [7, {"route": [{"destination": {"host": "b"}}]}]})
    assert service.spec.http[0].route is None
    assert service.spec.http[1].route[0].destination.host == "b"


def test_what_is_required_and_missing_is_there_and_empty():
    service = salvaged("VirtualService", {"http": [{"route": [{}]}]})
    assert service.spec.http[0].route[0].destination.host is None
    assert salvaged("Gateway", None).spec.servers is None


def test_metadata_that_is_no_object():
    assert salvaged("Gateway", {}, metadata=[1]).namespace == "default"


def test_values_are_converted_as_ever():
    rule = salvaged(
        "DestinationRule", {"host": 1, "trafficPolicy": {"connectionPool": {"http": {"idleTimeout": "5s"}}}}
    )
    assert rule.spec.host is None
    assert rule.spec.traffic_policy.connection_pool.http.idle_timeout == 5.0
