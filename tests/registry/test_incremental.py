"""The registry after any sequence of changes is that of a build from scratch, and what a change does not touch is the same
object as before."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given

from meshlib.changes import ListFollower
from meshlib.registry.build import RegistryBuilder, build_registry
from meshlib.registry.registry import Registry
from meshlib.registry.service import Service
from meshlib.resources.loader import load_objects
from tests.support.changing import lists_that_change
from tests.support.resources import pod, service, service_entry


def load(resource: dict[str, Any]) -> Any:
    result = load_objects([resource])
    assert not result.errors, result.errors
    return result.resources[0]


def endpoint_slice(name: str, of: str, *addresses: str, pods: bool = False, ready: bool = True) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [{"addresses": [a], "conditions": {"ready": ready}} for a in addresses]
    if pods:
        for entry in entries:
            entry["targetRef"] = {"kind": "Pod", "name": f"{of}-1"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 7}],
        "endpoints": entries,
    }


def endpoints(of: str, address: str) -> dict[str, Any]:
    target = {"kind": "Pod", "name": f"{of}-1"}
    subsets = [{"addresses": [{"ip": address, "targetRef": target}], "ports": [{"name": "http", "port": 8}]}]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": of}, "subsets": subsets}


def workload_entry(name: str, address: str, **labels: str) -> dict[str, Any]:
    spec = {"address": address, "labels": labels}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name},
        "spec": spec,
    }


def deployment(name: str, app: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": app}}, "spec": {"containers": []}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": template},
    }


def local(name: str, *hosts: str, port: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "LocalEndpoints",
        "metadata": {"name": name},
        "spec": {"hosts": [{"host": host, "addresses": [f"10.4.0.1:{port}"]} for host in hosts]},
    }


SELECTED = {"workloadSelector": {"labels": {"app": "a"}}}
INLINE = {"endpoints": [{"address": "10.9.0.1"}]}
VARIANTS = [
    [
        service("a"),
        service("a", port=81),
        service("a", selector={"app": "a", "version": "v2"}),
        service("a", publishNotReadyAddresses=True),
        service("a", ports=[{"name": "http", "port": 80}, {"name": "other", "port": 81}]),
    ],
    [service("b"), service("b", selector={})],
    [pod("a", "v1", 1, name="a-1"), pod("a", "v2", 1, name="a-1"), pod("b", "v1", 1, name="a-1")],
    [pod("a", "v2", 2, name="a-2"), pod("a", "v2", 3, ip="10.0.0.1", name="a-2")],
    [pod("b", "v1", 4, name="b-1"), pod("b", "v1", 4, name="b-1", namespace="other")],
    [endpoint_slice("s", "a", "10.1.0.1"), endpoint_slice("s", "a", "10.1.0.2", pods=True)],
    [
        endpoint_slice("u", "a", "10.1.0.2", "10.1.0.1", "10.2.0.1", "10.1.0.1", ready=False),
        endpoint_slice("u", "a", "10.1.0.1", pods=True),
        {**endpoint_slice("u", "a", "name.example"), "addressType": "FQDN"},
        {**endpoint_slice("u", "a", "10.1.0.1"), "ports": [{"name": "other", "port": 9}]},
    ],
    [endpoint_slice("t", "a", "10.2.0.1"), endpoint_slice("t", "b", "10.2.0.2", pods=True)],
    [endpoints("b", "10.3.0.1"), endpoints("b", "10.3.0.2")],
    [service_entry("x", "x.example", "y.example", **SELECTED), service_entry("x", "y.example", **INLINE)],
    [service_entry("y", "y.example", **INLINE), service_entry("y", "*.example", resolution="NONE")],
    [service_entry("z", "z.example", "y.example", workloadSelector={"labels": {}}), service_entry("z", "z.example")],
    [workload_entry("w", "10.4.0.1", app="a"), workload_entry("w", "10.4.0.2", app="b", version="v2")],
    [deployment("d", "a"), deployment("d", "b")],
    [local("l", "a"), local("l", "a", "gone", port=2), local("l", "x.example", "e")],
    [local("m", "a"), local("m", "gone")],
    [service("e", type="ExternalName", externalName="a.default.svc.cluster.local"), service("e")],
]
RESOURCES = [[load(resource) for resource in variants] for variants in VARIANTS]


def told(registry: Registry) -> tuple[Any, Any]:
    """All of it, as values."""

    def of_service(service: Service) -> Any:
        found = {name: getattr(service, name) for name in Service.__slots__ if name != "endpoints"}
        places = {
            port: [(e.key, dict(e.labels), e.healthy, e.workload) for e in endpoints]
            for port, endpoints in service.endpoints.items()
        }
        return found, places

    return [of_service(s) for s in registry.all()], Counter(str(p) for p in registry.problems)


@given(lists_that_change(RESOURCES))
def test_after_any_sequence_of_changes_it_is_what_a_build_from_scratch_gives(turns: list[list[Any]]) -> None:
    follower: ListFollower[Any] = ListFollower()
    builder = RegistryBuilder()
    for resources in turns:
        change = follower.turn(resources)
        if change.whole:
            builder = RegistryBuilder()
        made = builder.take(change)
        fresh = build_registry(resources)
        assert told(made) == told(fresh)
        for host in ("x.example", "other.example", "a.default.svc.cluster.local"):
            one, other = made.lookup(host, "default"), fresh.lookup(host, "default")
            assert (one and one.host) == (other and other.host)


@given(lists_that_change(RESOURCES))
def test_the_registry_of_before_stays_what_it_was(turns: list[list[Any]]) -> None:
    follower: ListFollower[Any] = ListFollower()
    builder = RegistryBuilder()
    before: list[tuple[Registry, Any]] = []
    for resources in turns:
        change = follower.turn(resources)
        if change.whole:
            builder = RegistryBuilder()
        made = builder.take(change)
        before.append((made, told(made)))
    for registry, was in before:
        assert told(registry) == was


def test_endpoints_of_slices_that_stay_are_the_same_objects() -> None:
    a = RESOURCES[0][0]
    slices = [load(endpoint_slice(name, "a", f"10.5.{n}.1", f"10.5.{n}.2")) for n, name in enumerate("stuv")]
    follower: ListFollower[Any] = ListFollower()
    builder = RegistryBuilder()
    before = builder.take(follower.turn([a, *slices])).all()[0].endpoints_on(9080)
    slices[1] = load(endpoint_slice("t", "a", "10.5.9.9"))
    after = builder.take(follower.turn([a, *slices])).all()[0].endpoints_on(9080)
    assert [e.address for e in after if not any(e is other for other in before)] == ["10.5.9.9"]
    assert len(after) == 7


def test_a_pod_makes_the_services_that_select_it_anew_and_no_others() -> None:
    fixed = [RESOURCES[0][0], RESOURCES[1][0], RESOURCES[4][0]]
    follower: ListFollower[Any] = ListFollower()
    builder = RegistryBuilder()
    first = builder.take(follower.turn([*fixed, RESOURCES[2][0]]))
    second = builder.take(follower.turn([*fixed, RESOURCES[2][1]]))
    a, b = (f"{name}.default.svc.cluster.local" for name in "ab")
    assert first.lookup(a, "default") is not second.lookup(a, "default")
    assert first.lookup(b, "default") is second.lookup(b, "default")
