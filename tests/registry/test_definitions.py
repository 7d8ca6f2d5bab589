"""Hosts with several definitions, as istiod's registries and sidecar scope put them together."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.registry.service import Service
from tests.registry.test_aliases import registry
from tests.support.resources import pod, service

HOST = "x.test"
REVIEWS = "reviews.default.svc.cluster.local"


def entry(name: str, *addresses: str, day: int = 1, host: str = HOST, namespace: str = "default", **spec: Any) -> Any:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-0{day}T00:00:00Z"},
        "spec": {
            "hosts": [host],
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            **({"endpoints": [{"address": address} for address in addresses]} if addresses else {}),
            **spec,
        },
    }


def ports(*numbers: int) -> dict[str, Any]:
    return {"ports": [{"number": n, "name": f"http-{n}", "protocol": "HTTP"} for n in numbers]}


def seen(*resources: Any, client: str = "default", host: str = HOST) -> Service:
    found = registry(*resources).lookup(host, client)
    assert found is not None
    return found


def keys(service: Service, port: int = 80) -> list[str]:
    return [endpoint.key for endpoint in service.endpoints.get(port, ())]


# -- endpoints --------------------------------------------------------------------------------------------------------


def test_entries_of_one_namespace_pool_their_endpoints_and_others_do_not():
    made = [entry("a", "10.0.0.1"), entry("b", "10.0.0.2", day=2), entry("c", "10.0.0.3", namespace="other")]
    assert keys(seen(*made)) == ["10.0.0.1:80", "10.0.0.2:80"]
    assert keys(seen(*made, client="other")) == ["10.0.0.3:80"]


def test_an_entry_with_a_services_host_joins_its_endpoints_by_the_name_of_the_port():
    reviews = service("reviews", ports=[{"name": "http", "port": 9080, "targetPort": 9080}])
    one = pod("reviews", "v1", 1, "10.0.0.1")
    joined = seen(reviews, one, entry("s", "10.0.0.9", host=REVIEWS), host=REVIEWS)
    assert (joined.kind, keys(joined, 9080)) == ("kubernetes", ["10.0.0.1:9080", "10.0.0.9:80"])
    elsewhere = entry("s", "10.0.0.9", host=REVIEWS, namespace="other")
    assert keys(seen(reviews, one, elsewhere, host=REVIEWS), 9080) == ["10.0.0.1:9080"]
    named = entry("s", "10.0.0.9", host=REVIEWS, **ports(9080))
    assert keys(seen(reviews, one, named, host=REVIEWS), 9080) == ["10.0.0.1:9080"]


def test_names_do_not_join_addresses_that_are_told_apart_from_the_cluster():
    """Endpoints of a STATIC entry are told later (EDS), and no name can be among them."""
    static, names = entry("a", "10.0.0.1"), entry("b", "api.example.com", day=2, resolution="DNS")
    assert keys(seen(static, names)) == ["10.0.0.1:80"]


def test_addresses_join_names_by_the_number_of_the_port():
    names, static = entry("a", "api.example.com", resolution="DNS"), entry("b", "10.0.0.1", day=2)
    assert keys(seen(names, static)) == ["10.0.0.1:80", "api.example.com:80"]
    other_name = entry("b", "10.0.0.1", day=2, **ports(80))
    assert keys(seen(names, other_name)) == ["10.0.0.1:80", "api.example.com:80"]


def test_of_entries_that_resolve_one_name_at_a_time_the_oldest_counts():
    one, two = (entry(n, f"{n}.example.com", day=d, resolution="DNS_ROUND_ROBIN") for n, d in (("a", 1), ("b", 2)))
    assert keys(seen(two, one)) == ["a.example.com:80"]


@pytest.mark.parametrize(("resolution", "found"), [("DNS", ["vm.example.com:80"]), ("STATIC", [])])
def test_a_workload_whose_address_is_a_name_is_for_entries_whose_endpoints_are_names(resolution, found):
    workload = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "vm", "namespace": "default"},
        "spec": {"address": "vm.example.com", "labels": {"app": "reviews"}},
    }
    selecting = {"workloadSelector": {"labels": {"app": "reviews"}}}
    assert keys(seen(workload, entry("a", resolution=resolution, **selecting))) == found
    assert keys(seen(workload, service("reviews"), host=REVIEWS), 9080) == []


# -- whose definition a client sees -------------------------------------------------------------------------------------


def test_a_client_sees_its_own_namespaces_definition_else_kubernetes_else_the_oldest():
    kubernetes = service("x", port=80, namespace="prod")
    host = "x.prod.svc.cluster.local"
    mine, old = entry("mine", day=3, host=host, namespace="dev"), entry("old", host=host, namespace="other")
    assert seen(kubernetes, mine, old, client="dev", host=host).resource == "ServiceEntry/dev/mine"
    assert seen(kubernetes, mine, old, client="shop", host=host).resource == "Service/prod/x"
    assert seen(mine, old, client="shop", host=host).resource == "ServiceEntry/other/old"


def test_of_definitions_of_one_age_the_first_namespace_counts():
    one, two = entry("z", namespace="a"), entry("a", namespace="b")
    assert seen(two, one, client="shop").namespace == "a"


def test_what_is_exported_to_some_namespaces_counts_before_what_is_for_all():
    public, narrow = entry("public", namespace="a"), entry("narrow", day=5, namespace="b", exportTo=["shop"])
    assert seen(public, narrow, client="shop").namespace == "b"
    assert seen(public, narrow, client="other").namespace == "a"


def test_export_counts_for_each_entry():
    hidden = entry("hidden", "10.0.0.2", day=2, exportTo=["elsewhere"], **ports(8080))
    found = seen(entry("open", "10.0.0.1"), hidden)
    assert [port.number for port in found.ports] == [80]


def test_an_entry_for_nobody_is_seen_by_nobody():
    assert registry(entry("x", exportTo=["~"])).lookup(HOST, "default") is None


def test_an_unexported_service_is_known_to_its_own_namespace():
    reg = registry(entry("x", exportTo=["elsewhere"]))
    assert reg.lookup(HOST, "default") is None
    own = reg.of_namespace(HOST, "default")
    assert own is not None
    assert own.resource == "ServiceEntry/default/x"


# -- ports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "clusters"),
    [
        ({}, [80, 8080]),
        ({"resolution": "DNS"}, [80]),
        ({"exportTo": ["*"]}, [80]),
        ({"endpoints": None, "workloadSelector": {"labels": {"app": "x"}}}, [80]),
    ],
)
def test_entries_that_are_alike_in_all_but_their_ports_make_clusters_of_all_ports(second, clusters):
    """Others add virtual hosts only: a call there is get 503, NC."""
    found = seen(entry("a", "10.0.0.1"), entry("b", "10.0.0.2", day=2, **ports(8080), **second))
    assert [port.number for port in found.ports] == [80, 8080]
    assert [n for n in (80, 8080) if found.cluster_port(n) is not None] == clusters


def test_an_entry_of_an_external_names_host_adds_ports_without_clusters():
    alias = service("reviews", port=80, type="ExternalName", externalName="api.test", selector=None)
    alias["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    found = seen(alias, entry("s", host=REVIEWS, resolution="NONE", **ports(80, 8080)), host=REVIEWS)
    assert [(p.number, found.is_alias_on(p.number)) for p in found.ports] == [(80, True), (8080, False)]
    assert found.cluster_port(80) is found.cluster_port(8080) is None


def test_a_kubernetes_service_takes_no_ports_from_entries():
    found = seen(service("reviews"), entry("s", "10.0.0.9", host=REVIEWS, **ports(80)), host=REVIEWS)
    assert ([p.number for p in found.ports], found.cluster_port(80)) == ([9080, 80], None)
