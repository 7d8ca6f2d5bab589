"""``endpoints="dns"``: what has no endpoints is its own name."""

from __future__ import annotations

from typing import Any

from meshlib.registry.build import build_registry
from meshlib.registry.cluster_dns import NamedHosts, by_name
from meshlib.registry.registry import Registry
from meshlib.resources.loader import load_objects
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service

FULL = "reviews.default.svc.cluster.local"


def load(*resources: Any) -> list[Any]:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return result.resources


def built(*resources: Any) -> Registry:
    return build_registry(load(*resources), dns=True)


def keys(registry: Registry, host: str = FULL, port: int = 9080) -> list[str]:
    seen = registry.lookup(host, "default")
    return [] if seen is None else [endpoint.key for endpoint in seen.endpoints_on(port)]


def test_a_service_without_endpoints_is_its_name_on_its_port_and_nobody_complains():
    registry = built(service("reviews"))
    assert keys(registry) == [f"{FULL}:9080"]
    assert registry.problems == []
    assert build_registry(load(service("reviews"))).problems


def test_a_service_with_endpoints_keeps_them_and_a_headless_one_is_dialled_anyway():
    assert keys(built(service("reviews"), pod("reviews", "v1", 7))) == ["127.0.0.1:7"]
    registry = built(service("reviews", clusterIP="None"))
    assert keys(registry) == []
    assert [problem.code for problem in registry.problems] == ["no-endpoints"]


def test_a_service_entry_says_itself_how_its_host_is_resolved():
    assert keys(built(service_entry("api", "api.example.com")), "api.example.com", 80) == []


def test_a_host_that_rules_name_and_nothing_defines_is_there_on_any_port():
    rules = [virtual_service("shop", {"route": [to("reviews")]}, hosts=["shop.example"]), destination_rule("ratings")]
    registry = built(*rules)
    for host in (FULL, "shop.example", "ratings.default.svc.cluster.local"):
        seen = registry.lookup(host, "default")
        assert seen is not None
        assert (seen.resolution, seen.any_port) == ("cluster_dns", True)
    assert not list(build_registry(load(*rules)).hosts())


def test_a_local_endpoints_goes_before_dns():
    local = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "LocalEndpoints",
        "metadata": {"name": "local"},
        "spec": {"hosts": [{"host": "reviews", "addresses": ["a:1"]}]},
    }
    assert keys(built(service("reviews"), local)) == ["a:1"]
    assert keys(built(destination_rule("reviews"), local), port=1) == ["a:1"]


def test_hosts_are_named_as_long_as_somebody_names_them():
    named = NamedHosts(destinations=True)
    first, second = load(destination_rule("reviews"), virtual_service("reviews", {"route": [to("ratings")]}))
    assert named.change(first, there=True) == [FULL]
    assert named.change(second, there=True) == ["ratings.default.svc.cluster.local"]
    assert named.change(first, there=False) == []
    assert FULL in named.hosts
    assert set(named.change(second, there=False)) == {FULL, "ratings.default.svc.cluster.local"}
    assert named.hosts == frozenset()


def test_many_changes_make_the_set_of_names_once():
    named = NamedHosts()
    for number in range(3):
        named.change(load(destination_rule(f"host-{number}"))[0], there=True)
    assert named.hosts is named.hosts
    assert len(named.hosts) == 3
    assert "host-1.default.svc.cluster.local" in named


def test_wildcards_addresses_and_gateways_name_nothing():
    named = NamedHosts(destinations=True)
    for resource in load(
        destination_rule("*.example.com"),
        virtual_service("a", {"route": [to("x")]}, hosts=["*"], gateways=["g"]),
        virtual_service("b", {"route": [to("x")]}, hosts=["*.b.example", "10.0.0.1"]),
    ):
        named.change(resource, there=True)
    assert named.hosts == {"x.default.svc.cluster.local"}
    assert by_name("y", [], False, "default") == []
