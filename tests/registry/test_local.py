"""Endpoints that a person gives replace those of discovery, and make a service of a host that nothing defines."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.registry.build import build_registry
from meshlib.registry.registry import Registry
from meshlib.registry.service import Service
from meshlib.resources.endpoints_argument import local_endpoints
from meshlib.resources.loader import load_objects
from tests.support.resources import pod, service, service_entry

FULL = "reviews.default.svc.cluster.local"


def local(*hosts: dict[str, Any], name: str = "local", namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "LocalEndpoints",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": list(hosts)},
    }


def host(name: str, *addresses: str, **more: Any) -> dict[str, Any]:
    return {"host": name, "addresses": list(addresses), **more}


def built(*resources: Any) -> Registry:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return build_registry(result.resources)


def found(registry: Registry, name: str = FULL, namespace: str = "default") -> Service:
    seen = registry.lookup(name, namespace)
    assert seen is not None
    return seen


def keys(seen: Service, port: int) -> list[str]:
    return [endpoint.key for endpoint in seen.endpoints_on(port)]


def test_they_replace_what_discovery_says_and_nobody_says_that_there_is_none():
    registry = built(service("reviews"), pod("reviews", "v1", 1), local(host("reviews", "localhost:9081")))
    assert keys(found(registry), 9080) == ["localhost:9081"]
    (notice,) = registry.problems
    assert (notice.severity, notice.code) == ("notice", "endpoints-replaced")
    assert notice.message == f"it replaces the endpoints that discovery knows of {FULL}"
    alone = built(service("reviews"), local(host("reviews", "localhost:9081")))
    assert keys(found(alone), 9080) == ["localhost:9081"]
    assert alone.problems == []


def test_without_a_port_it_is_the_services_own():
    assert keys(found(built(service("reviews"), local(host("reviews", "10.0.0.1", "::1")))), 9080) == [
        "10.0.0.1:9080",
        "[::1]:9080",
    ]


def test_of_several_ports_an_address_is_for_the_one_whose_number_or_target_it_has_and_else_for_all():
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "grpc", "port": 9090},
    ]
    given = host("reviews", "a:8080", "b:9090", "c:7000", "d")
    seen = found(built(service("reviews", ports=ports), local(given)))
    assert keys(seen, 80) == ["a:8080", "c:7000", "d:80"]
    assert keys(seen, 9090) == ["b:9090", "c:7000", "d:9090"]


def test_the_port_of_an_entry_decides():
    ports = [{"name": "http", "port": 80}, {"name": "grpc", "port": 9090}]
    entries = [host("reviews", "a:9090", port=80), host("reviews", "b:80", port=9090)]
    seen = found(built(service("reviews", ports=ports), local(*entries)))
    assert (keys(seen, 80), keys(seen, 9090)) == (["a:9090"], ["b:80"])


def test_a_port_that_the_service_lacks_is_a_problem():
    registry = built(service("reviews"), local(host("reviews", "a:1", port=81)))
    assert keys(found(registry), 9080) == []
    (problem,) = registry.problems
    assert (problem.code, problem.path) == ("unknown-port", "LocalEndpoints/default/local spec.hosts[0].port")
    assert f"{FULL} has no port 81 (it has 9080)" in problem.message


@pytest.mark.parametrize("name", ["reviews", FULL, "REVIEWS", f"{FULL}."])
def test_a_host_that_nothing_defines_is_a_service_with_the_ports_of_its_addresses(name):
    seen = found(built(local(host(name, "a:9081", "b:9082"))))
    assert [port.number for port in seen.ports] == [9081, 9082]
    assert (seen.namespace, seen.resource) == ("default", "LocalEndpoints/default/local")
    for port in (9081, 9082, 9080):  # nobody has said which port it has
        assert keys(seen, port) == ["a:9081", "b:9082"]


def test_with_a_port_of_its_own_it_has_just_that():
    seen = found(built(local(host("reviews", "a:9081", port=9080))))
    assert [port.number for port in seen.ports] == [9080]
    assert (keys(seen, 9080), keys(seen, 9081), seen.any_port) == (["a:9081"], [], False)


def test_short_names_are_of_the_resources_namespace():
    seen = found(built(local(host("reviews", "a:1"), namespace="prod")), "reviews.prod.svc.cluster.local")
    assert seen.namespace == "prod"
    other = found(built(local(host("reviews.shop.svc.cluster.local", "a:1"))), "reviews.shop.svc.cluster.local")
    assert other.namespace == "shop"  # whose DestinationRules count


def test_an_address_without_a_port_needs_a_service():
    registry = built(local(host("reviews", "localhost"), host("ratings", "localhost:1")))
    assert registry.lookup(FULL, "default") is None
    (problem,) = registry.problems
    assert (problem.code, problem.path) == ("missing-port", "LocalEndpoints/default/local spec.hosts[0].addresses[0]")
    assert problem.hint.startswith("write localhost:8080 ")


def test_the_remedy_of_an_ipv6_address_without_a_port_has_brackets():
    (problem,) = built(local(host("reviews", "::1"))).problems
    assert problem.hint.startswith("write [::1]:8080 ")


def test_a_unix_socket_has_no_port():
    made = found(built(local(host("reviews", "unix:///run/a.sock"))))
    assert ([p.number for p in made.ports], keys(made, 80)) == ([80], ["unix:///run/a.sock"])
    known = found(built(service("reviews"), local(host("reviews", "unix:///run/a.sock"))))
    assert keys(known, 9080) == ["unix:///run/a.sock"]


@pytest.mark.parametrize(
    "spec",
    [
        {"endpoints": [{"address": "10.1.1.1"}]},
        {"resolution": "NONE"},
        {"resolution": "DNS"},
    ],
)
def test_the_host_of_a_service_entry_of_any_resolution(spec):
    seen = found(
        built(service_entry("api", "api.example.com", **spec), local(host("api.example.com", ":1"))), "api.example.com"
    )
    assert keys(seen, 80) == ["localhost:1"]
    assert seen.resolution == "local"


def test_a_headless_service_and_an_external_name_have_endpoints_like_any_other_then():
    seen = found(built(service("reviews", clusterIP="None"), local(host("reviews", ":1"))))
    assert (seen.headless, keys(seen, 9080)) == (False, ["localhost:1"])
    alias = service("reviews", type="ExternalName", externalName="api.example.com")
    for resource in (alias, {**alias, "spec": {k: v for k, v in alias["spec"].items() if k != "ports"}}):
        seen = found(built(resource, local(host("reviews", ":1"))))
        assert (seen.alias, keys(seen, seen.ports[0].number)) == ("", ["localhost:1"])


def test_every_definition_of_a_host_has_them():
    entry = service_entry("api", "api.example.com", endpoints=[{"address": "10.1.1.1"}])
    other = {**entry, "metadata": {"name": "api", "namespace": "other"}}
    registry = built(entry, other, local(host("api.example.com", ":1")))
    for namespace in ("default", "other"):
        assert keys(found(registry, "api.example.com", namespace), 80) == ["localhost:1"]


def test_of_two_resources_the_older_one_counts_and_the_argument_before_both():
    old, new = local(host("reviews", "old:1"), name="a"), local(host("reviews", "new:1"), name="b")
    registry = built(new, old)
    assert keys(found(registry), 1) == ["old:1"]
    (problem,) = registry.problems
    assert (problem.code, problem.path) == ("host-claimed-twice", "LocalEndpoints/default/b spec.hosts[0].host")
    argument = local_endpoints({"reviews": "mine:1"}, "default")
    registry = build_registry([*load_objects([old]).resources, argument])
    assert keys(found(registry), 1) == ["mine:1"]
    assert "endpoints= goes before files" in registry.problems[0].message


def test_an_external_name_with_endpoints_of_its_own_is_no_other_name_of_what_it_stood_for():
    alias = service("alias", type="ExternalName", externalName=FULL)
    assert found(built(service("reviews"), alias)).aliases == ("alias.default.svc.cluster.local",)
    assert found(built(service("reviews"), alias, local(host("alias", ":1")))).aliases == ()
