"""Random Ingresses, IngressClasses, Services and settings of the mesh, for istiod to decide about.

``python -m tests.istiod.ingress_cases N > cases.jsonl`` writes a mesh a line. ``ingress_referee.go.txt`` has istiod decide (it
says how), ``python -m tests.istiod.ingress_cases N answers.jsonl`` keeps both in ``ingress.jsonl.xz``, and
``test_ingress_answers.py`` holds meshlib against it.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.resources import service, to, virtual_service

KEPT = Path(__file__).parent / "ingress.jsonl.xz"
ROOT, SHOP, WEB = "istio-system", "shop", "web"
CLASS = "kubernetes.io/ingress.class"
CONTROLLER = "istio.io/ingress-controller"
HOSTS = ("a.test", "b.test", "x.a.test", "*.a.test", "*.test", "")
PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "/long/path", "/long/path/")
FALLBACKS = ("", "/", "/*", "/a", "/a/*", "/a.*", "/a/.*", "/a*", "/a/b/*", "/long/path")
ASKED_HOSTS = ("a.test", "b.test", "x.a.test", "y.x.a.test", "other.example", "a.test:80")
ASKED_PATHS = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/a*", "/long/path", "/long/path/x", "/long", "/z")
SERVICES = ("one", "two", "three", "hidden", "gone")
MESHES: tuple[dict[str, Any], ...] = (
    *({},) * 4,
    {"ingressControllerMode": "STRICT"},
    {"ingressControllerMode": "DEFAULT"},
    {"ingressControllerMode": "DEFAULT"},
    {"ingressControllerMode": "OFF"},
    {"ingressClass": "public"},
    {"ingressService": "edge"},
    {"ingressService": "edge", "ingressSelector": "front"},
    {"ingressSelector": "front"},
    {"ingressService": "istio-ingressgateway"},
)


def classes() -> list[dict[str, Any]]:
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass"}
    return [
        {**head, "metadata": {"name": "mine"}, "spec": {"controller": CONTROLLER}},
        {**head, "metadata": {"name": "theirs"}, "spec": {"controller": "k8s.io/ingress-nginx"}},
    ]


def services(namespace: str, number: int) -> list[dict[str, Any]]:
    """Three that all can see, one that only its own namespace can."""
    made = []
    for index, name in enumerate(SERVICES[:4], 1):
        ports = [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "http-more", "port": 8000 + index, "targetPort": 8081, "protocol": "TCP"},
        ]
        each = service(name, namespace=namespace, ports=ports, clusterIP=f"10.{number}.0.{index}")
        if name == "hidden":
            each["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
        made.append(each)
    return made


def path(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(("Exact", "Prefix", "Prefix", "ImplementationSpecific"))
    written = rng.choice(FALLBACKS if kind == "ImplementationSpecific" else PATHS)
    name = rng.choice((*SERVICES, *SERVICES[:3], *SERVICES[:3]))
    port: dict[str, Any] = rng.choice(
        ({"number": 80}, {"number": 80}, {"name": "http"}, {"name": "http-more"}, {"number": 8001}, {"name": "nowhere"})
    )
    backend: dict[str, Any] = {"service": {"name": name, "port": port}}
    if rng.random() < 0.05:
        backend = {"resource": {"apiGroup": "k8s.example.com", "kind": "StorageBucket", "name": "static"}}
    return {**({"path": written} if written else {}), "pathType": kind, "backend": backend}


def ingress(rng: random.Random, number: int) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    rules = []
    for _ in range(rng.choice((0, 1, 2, 2, 3, 3, 3))):
        host = rng.choice((*HOSTS, "a.test", "a.test"))
        rule: dict[str, Any] = {"host": host} if host else {}
        if rng.random() < 0.93:
            rule["http"] = {"paths": [path(rng) for _ in range(rng.randint(1, 4))]}
        rules.append(rule)
    if rules:
        spec["rules"] = rules
    if not rules or rng.random() < 0.15:
        spec["defaultBackend"] = {"service": {"name": "one", "port": {"number": 80}}}
    if rng.random() < 0.4:
        spec["tls"] = [tls(rng) for _ in range(rng.randint(1, 2))]
    annotations: dict[str, str] = {}
    how = rng.random()
    if how < 0.5:
        annotations[CLASS] = rng.choice(("istio",) * 6 + ("public", "nginx"))
    if how > 0.4:
        asked = rng.choice(("mine",) * 6 + ("theirs", "missing", None))
        if asked is not None:
            spec["ingressClassName"] = asked
    metadata = {
        "name": f"i{rng.randint(0, 2)}-{number}",
        "namespace": rng.choice((SHOP, SHOP, WEB)),
        "creationTimestamp": f"2024-01-01T00:00:0{rng.randint(0, 2)}Z",
        "annotations": annotations,
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def tls(rng: random.Random) -> dict[str, Any]:
    hosts = rng.sample(("a.test", "b.test", "x.a.test", "*.a.test", "*.test"), rng.randint(0, 2))
    made: dict[str, Any] = {"hosts": hosts} if hosts else {}
    if rng.random() < 0.9:
        made["secretName"] = rng.choice(("cert", "other-cert"))
    return made


def beside(rng: random.Random) -> list[dict[str, Any]]:
    """A Gateway and a VirtualService written by hand, for the same hosts."""
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "own", "namespace": ROOT, "creationTimestamp": rng.choice(AGES)},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
        },
    }
    host = rng.choice(("a.test", "*.test", "*"))
    target = to(f"three.{WEB}.svc.cluster.local", port=80)
    rules = [{"match": [{"uri": {"prefix": "/own"}}], "route": [target]}, {"route": [target]}]
    own = virtual_service("own", *rules[rng.randint(0, 1) :], hosts=[host], namespace=WEB, gateways=[f"{ROOT}/own"])
    own["metadata"]["creationTimestamp"] = rng.choice(AGES)
    return [gateway, own]


AGES = ("2023-01-01T00:00:00Z", "2025-01-01T00:00:00Z")


def case(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    resources = [ingress(rng, number) for number in range(rng.randint(1, 4))]
    resources += [*classes(), *services(SHOP, 1), *services(WEB, 2)]
    if rng.random() < 0.25:
        resources += beside(rng)
    calls = [
        {
            "port": rng.choice((80, 80, 443)),
            "host": rng.choice(ASKED_HOSTS[:5] if index % 8 else ASKED_HOSTS),
            "path": asked,
        }
        for index in range(24)
        for asked in rng.sample(ASKED_PATHS, 2)
    ]
    for call in calls:
        if call["port"] == 443:
            call["host"] = call["host"].lower().partition(":")[0]
    mesh = rng.choice(MESHES)
    served_by = mesh.get("ingressSelector") or mesh.get("ingressService", "").removeprefix("istio-") or "ingressgateway"
    return {
        "id": f"ingress-{seed}",
        "mesh": mesh,
        "resources": resources,
        "labels": {"istio": rng.choice((*(served_by,) * 9, "ingressgateway", "edge", "front"))},
        "calls": calls,
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
