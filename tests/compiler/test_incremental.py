"""A change of endpoints touches the clusters it concerns and nothing else; the result is that of a compilation from
scratch."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import destination_rule, pod, service, to, virtual_service

WORKLOAD = Workload()


def load(*resources: dict[str, Any]) -> list[Any]:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return list(result.resources)


FIXED = load(
    service("reviews"),
    service("ratings"),
    destination_rule("reviews", "v1", "v2"),
    virtual_service("reviews", {"route": [to("reviews", "v1", 1), to("reviews", "v2", 1)]}),
)
PODS = load(pod("reviews", "v1", 1), pod("reviews", "v2", 2), pod("ratings", "v1", 3))


def addresses(snapshot: Any) -> dict[str, list[str]]:
    return {key: [e.key for e in c.endpoints] for key, c in snapshot.clusters.items()}


def test_another_pod_changes_only_the_clusters_of_its_service():
    compiler = Compiler(WORKLOAD)
    first = compiler.compile([*FIXED, *PODS])
    more = [*FIXED, *PODS, *load(pod("reviews", "v2", 4))]
    second = compiler.compile(more)
    assert addresses(second) == addresses(compile_snapshot(more, WORKLOAD))
    assert second.ports is first.ports
    changed = {k for k in first.clusters if first.clusters[k] is not second.clusters[k]}
    assert changed == {k for k in first.clusters if "reviews" in k}
    assert second.version != first.version


def test_changes_follow_each_other():
    compiler = Compiler(WORKLOAD)
    compiler.compile([*FIXED, *PODS])
    for pods in ([PODS[0]], PODS, [PODS[2]], [], PODS):
        made = compiler.compile([*FIXED, *pods])
        fresh = compile_snapshot([*FIXED, *pods], WORKLOAD)
        assert addresses(made) == addresses(fresh)
        assert [str(p) for p in made.problems] == [str(p) for p in fresh.problems]
        assert made.version == fresh.version


def test_a_pod_that_is_relabelled_moves_between_subsets_behind_a_slice_that_stays():
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "reviews-1", "labels": {"kubernetes.io/service-name": "reviews"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 7}],
        "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "p"}}],
    }
    slices = load(piece)
    compiler = Compiler(WORKLOAD)
    for version in ("v1", "v2", "v1"):
        made = compiler.compile([*FIXED, *slices, *load(pod("reviews", version, 1, ip="10.0.0.1", name="p"))])
        for subset in ("v1", "v2"):
            cluster = made.clusters[f"outbound|9080|{subset}|reviews.default.svc.cluster.local"]
            assert [e.key for e in cluster.endpoints] == (["10.0.0.1:7"] if subset == version else [])


def test_another_policy_compiles_everything_anew():
    compiler = Compiler(WORKLOAD)
    first = compiler.compile([*FIXED, *PODS])
    second = compiler.compile([*FIXED[:-1], *PODS])
    assert second.ports is not first.ports
    assert second.virtual_host("reviews:9080", "http").resource == ""


def test_a_service_that_changes_its_ports_compiles_everything_anew():
    compiler = Compiler(WORKLOAD)
    first = compiler.compile([*FIXED, *PODS])
    ports = [{"name": "http", "port": 1234, "targetPort": "http"}]
    second = compiler.compile([*FIXED, *PODS][1:] + load(service("reviews", ports=ports)))
    assert second.ports is not first.ports
    assert [port for port, table in second.ports.items() if "reviews" in table.names] == [1234]


def test_an_unused_service_stays_the_same_object():
    compiler = Compiler(WORKLOAD)
    compiler.compile([*FIXED, *PODS])
    before = compiler._registry.registry.all()
    compiler.compile([*FIXED, *PODS, *load(pod("reviews", "v2", 4))])
    after = compiler._registry.registry.all()
    assert [a is b for a, b in zip(after, before, strict=True)] == [True, False]  # ratings, reviews
