"""ExternalNames in the registry: which host stands for which."""

from __future__ import annotations

from typing import Any

from meshlib.changes import ListFollower
from meshlib.registry.aliases import aliases_by_host, resolve_alias
from meshlib.registry.build import RegistryBuilder, build_registry
from meshlib.registry.original_destinations import original_destinations
from meshlib.registry.registry import Registry
from meshlib.resources.loader import load_objects
from tests.support.resources import pod, service


def external(name: str, target: str, namespace: str = "default") -> dict[str, Any]:
    return service(name, namespace=namespace, type="ExternalName", externalName=target, selector=None)


def registry(*resources: dict[str, Any]) -> Registry:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return build_registry(result.resources)


def test_a_chain_of_aliases_leads_to_its_end_and_a_circle_nowhere():
    targets = {"a": "b", "b": "c", "x": "y", "y": "x", "into": "x"}
    assert [resolve_alias(host, targets) for host in ("a", "b", "c", "x", "into")] == ["c", "c", "c", "", ""]
    assert aliases_by_host(targets) == {"c": ("a", "b")}


def test_an_external_name_has_no_endpoints_and_is_known_to_what_it_stands_for():
    reg = registry(service("reviews"), external("alias", "Reviews.default.svc.cluster.local"))
    alias = reg.lookup("alias.default.svc.cluster.local", "default")
    assert alias is not None
    assert (alias.alias, alias.resolution, dict(alias.endpoints)) == ("reviews.default.svc.cluster.local", "alias", {})
    reviews = reg.lookup("reviews.default.svc.cluster.local", "default")
    assert reviews is not None
    assert reviews.aliases == ("alias.default.svc.cluster.local",)


def test_a_change_of_an_alias_changes_the_services_that_it_stood_for_and_stands_for():
    follower: ListFollower[Any] = ListFollower()
    builder = RegistryBuilder()
    fixed = load_objects([service("one"), service("two"), service("three")]).resources
    known = []
    for target in ("one", "two", None):
        made = [] if target is None else [external("alias", f"{target}.default.svc.cluster.local")]
        reg = builder.take(follower.turn([*fixed, *load_objects(made).resources]))
        services = [reg.lookup(f"{name}.default.svc.cluster.local", "default") for name in ("one", "two", "three")]
        known.append(([len(s.aliases) for s in services if s is not None], services[2]))
    assert [counts for counts, _ in known] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert known[0][1] is known[1][1] is known[2][1]


def test_an_alias_of_a_host_outside_is_dialled_by_the_name_that_it_stands_for():
    """As DNS would have it: the answer to the alias's name is a CNAME."""
    reg = registry(external("api", "api.example.com"), external("far", "api.default.svc.cluster.local", "other"))
    found = original_destinations(reg.all(), "default")
    assert found["api"] == found["api.default.svc"] == found["far.other"] == ("api.example.com",)
    assert "far" not in found


def test_an_alias_of_a_headless_service_is_any_of_its_pods():
    made = [service("db", clusterIP="None"), pod("db", "v1", 1, "10.0.0.1", "db-0")]
    found = original_destinations(registry(*made, external("store", "db.default.svc.cluster.local")).all(), "default")
    assert found["store"] == ("10.0.0.1",)
