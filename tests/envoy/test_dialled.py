"""Headless services: the registry's addresses, by name."""

from __future__ import annotations

from meshlib.envoy.dialled import DialledNames, at_addresses
from tests.support.envoy_engine import compiled, routes_to, snapshot_of
from tests.support.resources import pod, service

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
