"""A change of endpoints touches the clusters it concerns and nothing else; the result is that of a compilation from
scratch."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler import compilation
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


def changed_hosts(first: Any, second: Any) -> set[str]:
    """The hosts that have another virtual host, or none, or one more."""
    one, other = ({v.host + f":{v.port}": v for v in snapshot.virtual_hosts()} for snapshot in (first, second))
    return {name.partition(".")[0] for name in one.keys() | other.keys() if one.get(name) is not other.get(name)}


OTHERS = load(service("details"), service("login", port=80), virtual_service("details", {"route": [to("ratings")]}))
DELEGATING = load(virtual_service("login", {"match": [{"uri": {"prefix": "/"}}], "delegate": {"name": "rest"}}))
WITHOUT_HOSTS = virtual_service("rest", {"route": [to("login")]})
del WITHOUT_HOSTS["spec"]["hosts"]
ENTRY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "ServiceEntry",
    "metadata": {"name": "new"},
    "spec": {
        "hosts": ["new.example"],
        "resolution": "DNS",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    },
}
POLICY = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "ResiliencePolicy",
    "metadata": {"name": "ratings"},
    "spec": {"host": "ratings", "loadBalancer": {"peakEwma": {}}},
}
PLUGIN = {
    "apiVersion": "extensions.istio.io/v1alpha1",
    "kind": "WasmPlugin",
    "metadata": {"name": "w"},
    "spec": {"url": "oci://example.com/w:1"},
}


@pytest.mark.parametrize(
    ("more", "touched"),
    [
        (virtual_service("ratings", {"route": [to("ratings")], "timeout": "3s"}), {"ratings"}),
        (destination_rule("ratings", connectionPool={"http": {"maxRetries": 7}}), {"ratings", "details"}),
        (POLICY, {"ratings", "details"}),
        (service("new"), {"new"}),
        (ENTRY, {"new"}),
        (WITHOUT_HOSTS, {"login"}),
        (PLUGIN, set()),
        (service("new", port=1234), {"new"}),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_a_resource_makes_anew_what_it_touches_when_it_comes_and_when_it_goes(more, touched):
    compiler = Compiler(WORKLOAD)
    before = [*FIXED, *PODS, *OTHERS, *DELEGATING]
    made = [compiler.compile(before)]
    for resources in ([*before, *load(more)], before):
        made.append(compiler.compile(resources))
        assert changed_hosts(made[-2], made[-1]) <= touched
        clusters = made[-2].clusters.keys() & made[-1].clusters.keys()
        other = {k for k in clusters if made[-2].clusters[k] is not made[-1].clusters[k]}
        assert {key.rpartition("|")[2].partition(".")[0] for key in other} <= touched
    assert compiler.whole == 1


def test_what_touches_nothing_keeps_all_tables():
    compiler = Compiler(WORKLOAD)
    first = compiler.compile([*FIXED, *PODS])
    second = compiler.compile([*FIXED, *PODS, *load(PLUGIN)])
    assert second.ports is first.ports
    assert second.clusters is first.clusters
    assert len(second.problems) == len(first.problems) + 1


SIDECAR = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Sidecar",
    "metadata": {"name": "default"},
    "spec": {"egress": [{"hosts": ["./*"]}]},
}


@pytest.mark.parametrize(
    "more",
    [SIDECAR, virtual_service("all", {"route": [to("ratings")]}, hosts=["*.example"]), destination_rule("*.local")],
    ids=lambda value: value["kind"],
)
def test_what_may_touch_everything_compiles_everything_and_keeps_clusters_that_are_as_they_were(more):
    compiler = Compiler(WORKLOAD)
    before = [*FIXED, *PODS, *OTHERS]
    first = compiler.compile(before)
    more["metadata"]["name"] = "all"
    second = compiler.compile([*before, *load(more)])
    assert addresses(second) == addresses(compile_snapshot([*before, *load(more)], WORKLOAD))
    same = [k for k in first.clusters.keys() & second.clusters.keys() if first.clusters[k] is second.clusters[k]]
    assert any("reviews" in key for key in same)


def test_calls_under_way_keep_the_snapshot_they_began_with():
    compiler = Compiler(WORKLOAD)
    first = compiler.compile([*FIXED, *PODS])
    reviews, known = first.virtual_host("reviews:9080", "http"), set(first.clusters)
    compiler.compile([*FIXED[:-1], *PODS, *load(service("other"))])
    assert first.virtual_host("reviews:9080", "http") is reviews
    assert first._find_virtual_host("reviews:9080", "http") is reviews
    assert set(first.clusters) == known
    assert first.is_unknown(first.virtual_host("other:9080", "http"))


def test_a_compilation_that_was_broken_off_is_begun_anew(monkeypatch):
    compiler = Compiler(WORKLOAD)
    compiler.compile([*FIXED, *PODS])
    monkeypatch.setattr("meshlib.compiler.incremental.Incremental._with_endpoints", lambda *_: 1 / 0)
    more = [*FIXED, *PODS, *load(pod("reviews", "v2", 4))]
    with pytest.raises(ZeroDivisionError):
        compiler.compile(more)
    monkeypatch.undo()
    assert addresses(compiler.compile(more)) == addresses(compile_snapshot(more, WORKLOAD))


def test_a_virtual_service_that_goes_leaves_the_default_route():
    compiler = Compiler(WORKLOAD)
    compiler.compile([*FIXED, *PODS])
    second = compiler.compile([*FIXED[:-1], *PODS])
    assert second.virtual_host("reviews:9080", "http").resource == ""


def test_a_service_that_changes_its_ports_has_them_at_once():
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


def test_the_rules_of_a_virtual_service_that_changes_are_compiled_once(monkeypatch):
    def rules(timeout: str) -> Any:
        first = {"match": [{"uri": {"prefix": "/x"}}], "route": [to("reviews", "v1")], "mirror": {"host": "ratings"}}
        return virtual_service("reviews", {**first, "timeout": timeout}, {"route": [to("gone")]})

    resources = [*FIXED[:-1], *PODS]
    compiler = Compiler(WORKLOAD)
    compiler.compile([*resources, *load(rules("1s"))])
    made: list[int] = []
    real = compilation.compile_rules

    def counted(routes: Any, *rest: Any, **more: Any) -> Any:
        made.append(len(routes))
        return real(routes, *rest, **more)

    monkeypatch.setattr(compilation, "compile_rules", counted)
    for turn in ("2s", "3s"):
        changed = [*resources, *load(rules(turn))]
        found = compiler.compile(changed)
        assert made == [2]
        made.clear()
        fresh = compile_snapshot(changed, WORKLOAD)
        made.clear()
        assert found.virtual_host("reviews:9080", "http").rules[0].timeout == float(turn[:-1])
        assert found.clusters.keys() == fresh.clusters.keys()
        assert sorted(map(str, found.problems)) == sorted(map(str, fresh.problems))
    assert compiler.whole == 1
