"""Which values of Host lead where."""

from __future__ import annotations

import pytest

from meshlib.compiler.snapshot import Snapshot
from meshlib.envoy.dialled import DialledNames
from meshlib.envoy.virtual_hosts import dialled_state, route_configuration
from tests.support.envoy_engine import compiled, host_of, snapshot_of
from tests.support.resources import pod, service, service_entry, to, virtual_service

PODS = [service("reviews"), pod("reviews", "v1", 1)]
BLOCKED = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "MeshConfig",
    "metadata": {"name": "mesh", "namespace": "istio-system"},
    "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
}


def hosts_of(snapshot: Snapshot) -> dict[str, str]:
    """The virtual host's name by domain."""
    made = route_configuration(snapshot, "outbound", [("127.0.0.1", 15001)], DialledNames(snapshot))
    found: dict[str, str] = {}
    for host in made["virtual_hosts"]:
        for domain in host["domains"]:
            assert domain not in found, "Envoy takes a domain once"
            found[domain] = host["name"]
    return found


@pytest.mark.parametrize("name", ["reviews", "reviews.default", "reviews.default.svc.cluster.local", "reviews."])
def test_a_service_answers_to_its_names_with_its_port_and_without_where_it_has_just_one(name: str) -> None:
    found = hosts_of(snapshot_of(*PODS))
    expected = "reviews.default.svc.cluster.local:9080"
    assert found[f"{name}:9080"] == found[name] == expected
    assert f"{name}:80" not in found


def test_without_a_port_the_host_of_port_80_comes_first() -> None:
    ports = [{"number": n, "name": f"http-{n}", "protocol": "HTTP"} for n in (80, 8080)]
    found = hosts_of(snapshot_of(service_entry("a", "a.test", ports=ports, endpoints=[{"address": "127.0.0.1"}])))
    assert (found["a.test"], found["a.test:80"], found["a.test:8080"]) == ("a.test:80", "a.test:80", "a.test:8080")


def test_of_several_ports_none_of_which_is_80_a_name_alone_is_none() -> None:
    ports = [{"number": n, "name": f"http-{n}", "protocol": "HTTP"} for n in (8081, 8080)]
    assert "a.test" not in hosts_of(snapshot_of(service_entry("a", "a.test", ports=ports)))


def test_wildcards_keep_their_asterisk() -> None:
    found = hosts_of(snapshot_of(service_entry("a", "*.a.test", resolution="NONE")))
    assert found["*.a.test:80"] == found["*.a.test"] == "*.a.test:80"


def test_every_other_host_is_dialled_as_it_is_or_blocked() -> None:
    made = compiled(*PODS)
    (route,) = host_of(made, "*")["routes"]
    assert route["route"]["cluster"] == "PassthroughCluster"
    assert "retry_policy" not in route["route"]
    made = compiled(*PODS, BLOCKED)
    assert host_of(made, "*")["routes"][0]["direct_response"] == {"status": 502}


def test_the_proxys_own_ports_are_not_forwarded_to() -> None:
    made = compiled(*PODS)
    assert host_of(made, "127.0.0.1:15001")["routes"][0]["direct_response"] == {"status": 503}
    assert host_of(made, "localhost:15001")["name"] == "itself"


def test_where_a_service_entry_sends_to_another_port_that_is_dialled() -> None:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    made = compiled(service_entry("a", "a.test", resolution="NONE", ports=ports))
    (route,) = host_of(made, "a.test:80")["routes"]
    (state,) = route["typed_per_filter_config"].values()
    assert state["on_request_headers"][0]["object_key"] == "envoy.upstream.dynamic_port"
    assert dialled_state("", 0) is None


def test_an_ipv6_address_is_in_brackets() -> None:
    found = hosts_of(snapshot_of(service_entry("a", "a.test", addresses=["fd00::1"], endpoints=[{"address": "::1"}])))
    assert found["[fd00::1]:80"] == "a.test:80"


def test_a_host_that_only_a_virtual_service_has_is_there_on_port_80() -> None:
    found = hosts_of(snapshot_of(*PODS, virtual_service("v", {"route": [to("reviews")]}, hosts=["other.test"])))
    assert found["other.test"] == found["other.test:80"] == "other.test:80"
