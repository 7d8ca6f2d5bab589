"""Random meshes with PeerAuthentications, DestinationRules and workloads in and out of the mesh, for istiod to decide about.

``python -m tests.istiod.mtls_cases N > cases.jsonl`` writes a mesh a line. ``mtls_referee.go.txt`` has istiod decide (it says
how), ``python -m tests.istiod.mtls_cases N answers.jsonl`` keeps both in ``mtls.jsonl.xz``, and ``test_mtls_answers.py``
holds meshlib against it.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.resources import destination_rule, service, service_entry, to, virtual_service

KEPT = Path(__file__).parent / "mtls.jsonl.xz"
ROOT, SHOP, WEB = "istio-system", "shop", "web"
MODES = ("UNSET", "STRICT", "PERMISSIVE", "DISABLE", None)
PORTS = {"http": (80, 8080), "http-admin": (81, 9090), "tcp": (82, 7070)}
TLS_MODE = "security.istio.io/tlsMode"
TLS: tuple[dict[str, Any], ...] = (
    {},
    {"mode": "DISABLE"},
    {"mode": "SIMPLE"},
    {"mode": "ISTIO_MUTUAL"},
    {"mode": "ISTIO_MUTUAL", "sni": "x.test", "subjectAltNames": ["spiffe://cluster.local/ns/a/sa/b"]},
)
MESHES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"enableAutoMtls": False},
    {"trustDomain": "td.test", "trustDomainAliases": ["old.test"]},
)


def policy(rng: random.Random, number: int) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    mode = rng.choice(MODES)
    if mode is not None:
        spec["mtls"] = {"mode": mode}
    labels = rng.choice(({}, {}, {"app": "cart"}, {"version": "v1"}, {"app": "other"}))
    if labels:
        spec["selector"] = {"matchLabels": labels}
        if rng.random() < 0.5:
            ports = rng.sample(("8080", "9090", "7070", "6060"), rng.randint(1, 3))
            spec["portLevelMtls"] = {port: {"mode": rng.choice(MODES[:4])} for port in ports}
    created = f"2024-01-{rng.randint(1, 28):02}T00:00:{number:02}Z"
    metadata = {
        "name": f"p{number}",
        "namespace": rng.choice((ROOT, SHOP, SHOP, SHOP, WEB)),
        "creationTimestamp": created,
    }
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata, "spec": spec}


def cart(rng: random.Random, namespace: str, number: int) -> dict[str, Any]:
    labels = {"app": "cart", "version": f"v{number}"}
    mode = rng.choice(("istio", "istio", "disabled", None))
    if mode is not None:
        labels[TLS_MODE] = mode
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"cart-{number}", "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": rng.choice(("one", "two")), "containers": [{"name": "c"}]},
        "status": {
            "podIP": f"10.0.0.{number}",
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def places(namespace: str) -> dict[str, Any]:
    """The EndpointSlice of the pods, which nobody else makes."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "cart-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": "cart"},
        },
        "addressType": "IPv4",
        "ports": [{"name": name, "port": target, "protocol": "TCP"} for name, (_, target) in PORTS.items()],
        "endpoints": [
            {
                "addresses": [f"10.0.0.{number}"],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": f"cart-{number}", "namespace": namespace},
            }
            for number in (1, 2)
        ],
    }


def full(namespace: str) -> str:
    """Resources of tests have no domain to istiod, by which short names would be completed."""
    return f"cart.{namespace}.svc.cluster.local"


def rule(rng: random.Random, namespace: str) -> dict[str, Any]:
    made = destination_rule("cart", "v1")
    made["metadata"]["namespace"] = namespace
    spec = made["spec"]
    spec["host"] = full(namespace)

    def level() -> dict[str, Any]:
        policy: dict[str, Any] = {"loadBalancer": {"simple": "RANDOM"}}
        if rng.random() < 0.6:
            policy["tls"] = rng.choice(TLS)
        return policy

    def whole() -> dict[str, Any]:
        policy = level()
        if rng.random() < 0.4:
            policy["portLevelSettings"] = [{"port": {"number": 80}, **level()}]
        return policy

    spec["trafficPolicy"] = whole()
    if rng.random() < 0.5:
        spec["subsets"][0]["trafficPolicy"] = whole()
    return made


def entry(rng: random.Random) -> dict[str, Any]:
    place: dict[str, Any] = {"address": "10.9.0.1", "labels": {"app": "vm"}}
    if rng.random() < 0.5:
        place["serviceAccount"] = "vm"
    if rng.random() < 0.5:
        place["labels"][TLS_MODE] = rng.choice(("istio", "disabled"))
    names = {"subjectAltNames": ["spiffe://other.test/vm"]} if rng.random() < 0.3 else {}
    location = rng.choice(("MESH_INTERNAL", "MESH_EXTERNAL"))
    made = service_entry("vm", "vm.test", location=location, endpoints=[place], resolution="STATIC", **names)
    made["metadata"]["namespace"] = SHOP
    return made


def case(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    namespace = ROOT if rng.random() < 0.1 else SHOP
    ports = [
        {"name": name, "port": number, "targetPort": target, "protocol": "TCP"}
        for name, (number, target) in PORTS.items()
    ]
    pods = [cart(rng, namespace, number) for number in (1, 2)]
    resources = [policy(rng, number) for number in range(rng.randint(0, 5))]
    resources += [service("cart", namespace=namespace, ports=ports, clusterIP="10.1.0.1"), *pods, places(namespace)]
    if rng.random() < 0.6:
        host = full(namespace)
        routes = virtual_service("cart", {"route": [to(host, "v1", 1), to(host, weight=1)]}, hosts=[host])
        routes["metadata"]["namespace"] = namespace
        resources += [rule(rng, namespace), routes]
    if rng.random() < 0.4:
        resources.append(entry(rng))
    server = {"namespace": namespace, "labels": pods[0]["metadata"]["labels"], "address": "10.0.0.1"}
    client = {"namespace": WEB, "labels": {"app": "web"}, "address": "10.0.0.9"}
    return {
        "id": f"mtls-{seed}",
        "mesh": rng.choice(MESHES),
        "resources": resources,
        "server": server,
        "client": client,
        "ports": [8080, 9090, 7070, 6060, 5050],
    }


def cases(count: int) -> Iterator[dict[str, Any]]:
    return map(case, range(count))


def keep(count: int, answers: Path) -> None:
    """Cases and answers together, a line each."""
    with lzma.open(KEPT, "wt") as file, answers.open() as lines:
        for one, line in zip(cases(count), lines, strict=True):
            istio = json.loads(line)
            assert istio.pop("id") == one["id"]
            file.write(json.dumps({**one, "istio": istio}) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        keep(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        for one in cases(int(sys.argv[1])):
            sys.stdout.write(json.dumps(one) + "\n")
