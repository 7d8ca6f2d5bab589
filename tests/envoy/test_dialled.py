"""Headless services: the registry's addresses, by name."""

from __future__ import annotations

import pytest

from meshlib.envoy.clusters import MATCHED
from meshlib.envoy.dialled import DialledNames, at_addresses
from meshlib.envoy.differences import differences
from tests.support import mesh_tls
from tests.support.envoy_engine import Json, compiled, routes_to, snapshot_of
from tests.support.resources import pod, service, to, virtual_service

HEADLESS = [service("db", clusterIP="None"), pod("db", "v1", 9080, "10.0.0.1"), pod("db", "v2", 9080, "10.0.0.2")]


def test_a_headless_name_leads_to_the_addresses_that_the_registry_knows() -> None:
    made = compiled(*HEADLESS)
    (route,) = routes_to(made, "db:9080")
    key = route["route"]["cluster"]
    assert made.clusters[key]["lb_policy"] == "RANDOM"
    (place,) = made.endpoints[key]["endpoints"]
    addresses = [each["endpoint"]["address"]["socket_address"] for each in place["lb_endpoints"]]
    assert [(each["address"], each["port_value"]) for each in addresses] == [("10.0.0.1", 9080), ("10.0.0.2", 9080)]


def test_names_of_others_are_left_to_dns() -> None:
    snapshot = snapshot_of(service("web"), pod("web", "v1", 1))
    names = DialledNames(snapshot)
    host = snapshot.ports[9080].names["web"]
    assert names.names_of(host, ["web"]) == []
    assert names.clusters == {}


def test_the_port_that_is_dialled_counts() -> None:
    snapshot = snapshot_of(*HEADLESS)
    spec = snapshot.clusters["outbound|9080||db.default.svc.cluster.local"]
    made = at_addresses(spec, "db", 9999, ("10.0.0.1",))
    assert (made.key, made.endpoints[0].port) == (f"{spec.key}|db:9999", 9999)


def of_the_mesh(name: str, port: int, address: str) -> Json:
    made = pod("db", name, port, address)
    made["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    return made


PODS = of_the_mesh("v1", 9080, "10.0.0.1"), of_the_mesh("v2", 9080, "10.0.0.2")


def headless(name: str) -> Json:
    return service("db", clusterIP="None", ports=[{"name": name, "port": 9080}])


KEY = "outbound|9080||db.default.svc.cluster.local"


def test_it_is_not_said_that_a_headless_service_of_the_mesh_is_not_called_where_each_of_its_addresses_is() -> None:
    made = compiled(headless("http"), *PODS, credentials=mesh_tls.credentials())
    (route,) = routes_to(made, "db:9080")
    (place,) = made.endpoints[route["route"]["cluster"]]["endpoints"]
    modes = [each["metadata"]["filter_metadata"][MATCHED] for each in place["lb_endpoints"]]
    assert modes == [{"tlsMode": "istio"}] * 2
    assert (made.unreachable, made.by_pod) == ({}, frozenset())
    assert compiled(headless("http"), *PODS, credentials=mesh_tls.credentials(), transparent=True).unreachable == {}


@pytest.mark.parametrize("transparent", [False, True])
def test_a_pod_is_called_at_its_address_by_what_it_speaks(transparent: bool) -> None:
    plain = pod("db", "v3", 9080, "10.0.0.3")
    made = compiled(headless("tcp"), *PODS, plain, credentials=mesh_tls.credentials(), transparent=transparent)
    for address, metadata in (("10.0.0.1", {"filter_metadata": {MATCHED: {"tlsMode": "istio"}}}), ("10.0.0.3", None)):
        (route,) = routes_to(made, f"{address}:9080")
        (place,) = made.endpoints[route["route"]["cluster"]]["endpoints"]
        (endpoint,) = place["lb_endpoints"]
        assert endpoint["endpoint"]["address"]["socket_address"] == {"address": address, "port_value": 9080}
        assert endpoint.get("metadata") == metadata
    assert made.unreachable == {}


def test_where_only_its_own_names_and_addresses_are_called_that_is_said() -> None:
    resources = [headless("http"), *PODS]
    rules = virtual_service("any", {"route": [to("db", port=9080)]}, hosts=["any.test"])  # no name of the service
    made = compiled(*resources, rules, credentials=mesh_tls.credentials())
    assert list(made.unreachable) == [KEY]
    assert made.by_pod == {KEY}
    (said,) = differences(snapshot_of(*resources), (), made.unreachable, by_pod=made.by_pod)
    assert f"no call is made to {KEY} but at the addresses of its endpoints: it depends on the address" in said.message
