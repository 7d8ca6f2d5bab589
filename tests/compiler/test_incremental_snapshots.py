"""After any sequence of changes the snapshot is that of a compilation from scratch; and what a change does not touch stays the
same objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.changes import changed_keys
from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.routes import PortTable
from meshlib.compiler.snapshot import Snapshot
from meshlib.policy.rule_index import RuleIndex
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.changing import lists_that_change
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service

CLIENT = Workload("client", labels={"app": "a"})


def load(resource: dict[str, Any]) -> Any:
    result = load_objects([resource])
    assert not result.errors, result.errors
    return result.resources[0]


# -- what a snapshot says, as values


def told(value: Any) -> Any:
    """All of an object, deep, as something to compare."""
    if isinstance(value, RuleIndex):
        return None  # made of the rules' matches
    if isinstance(value, PortTable):
        return told(dict(value.names)), told(dict(value.wildcards)), told(value.rest)
    if isinstance(value, Counter):
        return dict(value)
    if isinstance(value, dict):
        return {key: told(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(inside) for inside in value]
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, {f.name: told(getattr(value, f.name)) for f in fields(value)}
    if callable(value) and hasattr(value, "settings"):
        return told(value.settings)
    if hasattr(value, "weights") and hasattr(type(value), "__slots__"):
        return list(value.weights)
    return value


IDENTITY = ("seen", "problems", "since", "mark", "hosts")


def everything_of(snapshot: Snapshot) -> dict[str, Any]:
    found = {f.name: getattr(snapshot, f.name) for f in fields(snapshot) if f.name not in IDENTITY}
    found["problems"] = Counter(map(str, snapshot.problems))
    found["hosts"] = sorted(snapshot.hosts.services(), key=lambda service: service.host)
    return {name: told(value) for name, value in found.items()}


def compare(made: Snapshot, fresh: Snapshot) -> None:
    one, other = everything_of(made), everything_of(fresh)
    for name in one:
        assert one[name] == other[name], name


# -- resources


def policy(name: str, host: str, **spec: Any) -> dict[str, Any]:
    spec = {"host": host, **spec}
    return {"apiVersion": "meshlib.dev/v1", "kind": "ResiliencePolicy", "metadata": {"name": name}, "spec": spec}


def sidecar(*hosts: str) -> dict[str, Any]:
    spec = {"egress": [{"hosts": list(hosts)}]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "default"}, "spec": spec}


def delegate(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    made = virtual_service(name, *rules)
    del made["spec"]["hosts"]
    return made


def when(path: str, *targets: dict[str, Any], **rule: Any) -> dict[str, Any]:
    return {"match": [{"uri": {"prefix": path}}], "route": list(targets), **rule}


def external_name(name: str, host: str) -> dict[str, Any]:
    return service(name, type="ExternalName", externalName=host)


def in_mesh(app: str, version: str, port: int, account: str) -> dict[str, Any]:
    made = pod(app, version, port, name=f"m-{port}")
    made["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    made["spec"]["serviceAccountName"] = account
    return made


def secret(value: str, namespace: str = "default") -> dict[str, Any]:
    metadata = {"name": "s", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"ca.crt": value}}


PLACE = [{"address": "10.9.0.1"}]
PORTS = [{"name": "http", "port": 80}, {"name": "grpc-x", "port": 90}]
TCP = [{"name": "tcp", "port": 9080}]
UNNAMED = [{"port": 9080}]
DELEGATE = {"match": [{"uri": {"prefix": "/d"}}], "delegate": {"name": "d"}}
FIXED_ANSWER = {"response": {"status": 299}}


def local(*hosts: dict[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": "meshlib.dev/v1", "kind": "LocalEndpoints", "metadata": {"name": "local"}}
    return {**head, "spec": {"hosts": list(hosts)}}


VARIANTS = [
    [service("a"), service("a", ports=PORTS), service("a", ports=TCP), service("a", clusterIP="10.0.0.1")],
    [service("b"), service("b", port=80), service("b", ports=UNNAMED), service("b", clusterIP="10.0.0.1")],
    [service("c"), service("c", clusterIP="None"), external_name("c", "b.default.svc.cluster.local")],
    [pod("a", "v1", 1), pod("a", "v2", 1), in_mesh("a", "v1", 1, "one"), in_mesh("a", "v2", 1, "two")],
    [pod("b", "v1", 2, name="p"), pod("c", "v1", 2, name="p"), in_mesh("b", "v1", 2, "b"), in_mesh("c", "v1", 2, "c")],
    [in_mesh("b", "v1", 3, "three"), in_mesh("c", "v1", 3, "three"), pod("b", "v2", 3)],
    [destination_rule("a", "v1", "v2"), destination_rule("a", connectionPool={"tcp": {"maxConnections": 3}})],
    [
        destination_rule("b", "v1"),
        destination_rule("b", "v2", tls={"mode": "SIMPLE"}),
        destination_rule("b", tls={"mode": "ISTIO_MUTUAL"}),
        destination_rule("b", "v1", tls={"mode": "SIMPLE", "credentialName": "s"}),
    ],
    [
        {**destination_rule("*.local", tls={"mode": "ISTIO_MUTUAL"}), "metadata": {"name": "all"}},
        {**destination_rule("x.example"), "metadata": {"name": "all"}},
    ],
    [
        virtual_service("a", {"route": [to("a", "v1")]}),
        virtual_service("a", when("/x", to("a", "v2")), {"route": [to("b")], "mirror": {"host": "b"}}),
        virtual_service("a", {"route": [to("b", "v1")]}, hosts=["a", "other.example"]),
        virtual_service("a", DELEGATE, {"route": [to("c")]}, hosts=["a", "b"]),
        virtual_service("a", {"route": [to("gone")]}, hosts=["a", "x.example"]),
        virtual_service("a", {"route": [to("a")]}, hosts=["*.example"]),
        virtual_service("a", {"route": [to("a")]}, exportTo=["other"]),
    ],
    [
        virtual_service("b", {"match": [{"sourceLabels": {"app": "z"}}], "route": [to("a")]}),
        virtual_service("b", {"route": [to("a", "v1", 1), to("c", weight=1)]}, hosts=["b", "b.default"]),
        {**virtual_service("b"), "spec": {"hosts": ["b"], "tcp": [{"route": [to("a")]}]}},
    ],
    [
        virtual_service("d", {"route": [to("b")]}, hosts=[]),
        virtual_service("d", {"route": [to("a", "v2")]}, hosts=["d"]),
    ],
    [
        service_entry("x", "x.example", endpoints=PLACE),
        service_entry("x", "x.example", "*.example", endpoints=PLACE),
        service_entry("x", "b.default", endpoints=PLACE),
    ],
    [policy("a", "a", bulkhead={"maxConcurrent": 3, "maxWaiting": 0}), policy("a", "b", fallback=FIXED_ANSWER)],
    [policy("b", "a", fallback={"destination": {"host": "c"}}), policy("b", "b", loadBalancer={"peakEwma": {}})],
    [
        {
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": {"name": "t"},
            "spec": {"tracing": [{"randomSamplingPercentage": 1.0}]},
        }
    ],
    [
        peer_authentication("default"),
        peer_authentication("default", "DISABLE", app="b"),
        peer_authentication("default", "PERMISSIVE", app="a"),
        peer_authentication("default", "DISABLE"),
    ],
    [mesh_config(enableAutoMtls=False), mesh_config(trustDomainAliases=["old"]), mesh_config(trustDomain="td")],
    [secret("one"), secret("two"), secret("two", namespace="other")],
    [
        local({"host": "a", "addresses": ["10.4.0.1:1"]}),
        local({"host": "a", "subset": "v1", "addresses": ["10.4.0.1:1"]}, {"host": "b", "addresses": ["x"]}),
        local({"host": "d", "subset": "v2", "addresses": ["x:1", "10.4.0.1:2"]}),
        local({"host": "c", "addresses": ["x:1"]}, {"host": "b.default", "addresses": ["x:1"]}),
    ],
]


RESOURCES = [[load(variant) for variant in variants] for variants in VARIANTS]
SIDECARS = [load(sidecar("./*")), load(sidecar("./a.default.svc.cluster.local"))]


def test_a_delegate_that_is_not_there_is_told_of_whoever_serves_the_host() -> None:
    resources = [
        load(service("a")),
        load(service("b")),
        load(virtual_service("b", {"route": [to("nowhere")]}, hosts=["b"])),
        load(virtual_service("z", {"delegate": {"name": "gone"}}, hosts=["a"])),
    ]
    older = load(virtual_service("first", {"route": [to("a")]}, hosts=["a"]))
    compiler = Compiler(CLIENT)
    for turn in (resources, [older, *resources], resources):
        made = compiler.compile(turn)
        compare(made, compile_snapshot(turn, CLIENT))
        assert [p.code for p in made.problems].count("delegate") == 1


@settings(max_examples=30)
@given(lists_that_change(RESOURCES), st.sampled_from(["mesh", "istio"]))
def test_after_any_sequence_of_changes_it_is_what_a_compilation_from_scratch_gives(
    turns: list[list[Any]], https_rules: Any
) -> None:
    compiler = Compiler(CLIENT, https_rules=https_rules)
    before: Snapshot | None = None
    for resources in turns:
        made = compiler.compile(resources)
        compare(made, compile_snapshot(resources, CLIENT, https_rules=https_rules))
        if before is not None:
            other, gone = changed_keys(before.clusters, made.clusters)
            assert set(made.changed_clusters(before)) == {*other, *gone}
        before = made


@settings(max_examples=20)
@given(lists_that_change(RESOURCES))
def test_with_names_of_dns_too(turns: list[list[Any]]) -> None:
    compiler = Compiler(CLIENT, dns=True)
    for resources in turns:
        compare(compiler.compile(resources), compile_snapshot(resources, CLIENT, dns=True))


@settings(max_examples=20)
@given(lists_that_change([*RESOURCES, SIDECARS]))
def test_with_a_sidecar_too(turns: list[list[Any]]) -> None:
    compiler = Compiler(CLIENT)
    for resources in turns:
        compare(compiler.compile(resources), compile_snapshot(resources, CLIENT))
