"""Which addresses a name of the mesh has."""

from __future__ import annotations

import ipaddress

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.proxy.dns_names import Found, Names
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import service, service_entry

SEARCH = ("ns1.svc.cluster.local", "svc.cluster.local", "cluster.local")


def headless(name: str, namespace: str) -> list[dict]:
    """With two pods that are ready, db-0 and db-1, and one that is not."""
    endpoints = [
        {"addresses": [f"10.3.0.{i}"], "hostname": f"{name}-{i}", "conditions": {"ready": i < 2}} for i in range(3)
    ]
    return [
        service(name, namespace=namespace, clusterIP="None"),
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 5432}],
            "endpoints": endpoints,
        },
    ]


MESH = [
    service("web", namespace="ns1", clusterIP="10.1.0.1"),
    service("dual", namespace="ns1", clusterIP="10.1.0.2", clusterIPs=["10.1.0.2", "fd00::2"]),
    service("other", namespace="ns2", clusterIP="10.1.0.3"),
    service("waits", namespace="ns1"),  # for the address that the API server gives it
    *headless("db", "ns1"),
    service("elsewhere", namespace="ns1", type="ExternalName", externalName="example.org"),
    service_entry("plain", "api.example.com", "WWW.Example.com", addresses=["10.2.0.1", "10.2.0.0/24", "10.2.0.2/32"]),
    service_entry("wide", "*.wild.com", addresses=["10.2.0.3"]),
    service_entry("deep", "*.deep.wild.com", addresses=["10.2.0.4"]),
    service_entry("six", "six.example.com", addresses=["fd00::6"]),
    service_entry("like", "like.ns2.svc.cluster.local", addresses=["10.2.0.5"]),
]


def names(*more: dict, search: tuple[str, ...] = SEARCH, namespace: str = "ns1") -> Names:
    loaded = load_objects([*MESH, *more])
    assert not loaded.errors, loaded.errors
    return Names(compile_snapshot(loaded.resources, Workload("me", namespace=namespace)).hosts, search)


def four(*ips: str, target: str = "") -> Found:
    return Found(ips, (), target)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web.ns1.svc.cluster.local", four("10.1.0.1")),
        ("web.ns1.svc", four("10.1.0.1")),
        ("web.ns1", four("10.1.0.1")),
        ("web", four("10.1.0.1")),
        ("dual", Found(("10.1.0.2",), ("fd00::2",))),
        ("other.ns2", four("10.1.0.3")),
        ("other", None),  # it is in another namespace
        ("waits", None),
        ("db", four("10.3.0.0", "10.3.0.1")),
        ("db.ns1.svc.cluster.local", four("10.3.0.0", "10.3.0.1")),
        ("db-0.db", four("10.3.0.0")),
        ("db-0.db.ns1", four("10.3.0.0")),
        ("db-1.db.ns1.svc", four("10.3.0.1")),
        ("db-1.db.ns1.svc.cluster.local", four("10.3.0.1")),
        ("db-2.db", None),  # it is not ready
        ("elsewhere", None),  # a CNAME is for the resolvers of the cluster to tell
        ("api.example.com", four("10.2.0.1", "10.2.0.2")),  # a network is no address
        ("www.example.com", four("10.2.0.1", "10.2.0.2")),
        ("a.wild.com", four("10.2.0.3")),
        ("a.b.wild.com", four("10.2.0.3")),
        ("a.deep.wild.com", four("10.2.0.4")),
        ("wild.com", None),
        ("six.example.com", Found((), ("fd00::6",))),
        ("like.ns2.svc.cluster.local", four("10.2.0.5")),
        ("like.ns2", None),  # a ServiceEntry has no short forms
        ("example.com", None),
        ("com", None),
        ("", None),
    ],
)
def test_a_name_has_the_addresses_of_what_it_stands_for(name, found):
    assert names().find(name) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("api.example.com.ns1.svc.cluster.local", four("10.2.0.1", "10.2.0.2", target="api.example.com")),
        ("other.ns2.ns1.svc.cluster.local", four("10.1.0.3", target="other.ns2")),
        ("a.wild.com.ns1.svc.cluster.local", four("10.2.0.3", target="a.wild.com")),
        ("a.wild.com.svc.cluster.local", None),  # only the first of the search domains is tried so
        ("web.ns1.svc.cluster.local.ns1.svc.cluster.local", None),
        ("example.org.ns1.svc.cluster.local", None),
    ],
)
def test_what_a_resolver_tries_first_stands_for_the_name_that_was_meant(name, found):
    assert names().find(name) == found


def test_a_name_of_the_mesh_goes_before_one_that_a_search_domain_makes():
    single = service_entry("single", "web", addresses=["10.2.0.9"])
    assert names(single).find("web.ns1.svc.cluster.local") == four("10.1.0.1")


def test_without_search_domains_nothing_stands_for_anything():
    assert names(search=()).find("api.example.com.ns1.svc.cluster.local") is None


def test_addresses_that_nothing_can_be_sent_to_are_left_out():
    loaded = load_objects(MESH)
    hosts = compile_snapshot(loaded.resources, Workload("me", namespace="ns1")).hosts
    found = Names(hosts, SEARCH, ipaddress.ip_network("fd00::/16"))
    assert found.find("dual") == four("10.1.0.2")
    assert found.find("six.example.com") is None


def test_what_is_not_exported_to_a_namespace_has_no_name_there():
    hidden = service_entry("hidden", "hidden.com", addresses=["10.2.0.7"], exportTo=["."])
    assert names(hidden, namespace="default").find("hidden.com") == four("10.2.0.7")
    assert names(hidden).find("hidden.com") is None


def test_a_sidecar_bounds_the_names():
    sidecar = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": "ns1"},
        "spec": {"egress": [{"hosts": ["ns1/*", "default/*.wild.com"]}]},
    }
    bounded = names(sidecar)
    assert bounded.find("web") == four("10.1.0.1")
    assert bounded.find("a.wild.com") == four("10.2.0.3")
    assert bounded.find("other.ns2") is None
    assert bounded.find("api.example.com") is None
