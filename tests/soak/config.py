"""The mesh of a soak: every host of ``promises.py``, in files that are edited all the time."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import yaml

from tests.soak.promises import ATTEMPTS

Resource = dict[str, Any]
EVERY = (0.2, 0.6)
"""Seconds between two edits."""
RETRIED = {
    "attempts": ATTEMPTS,
    "retryOn": "connect-failure,refused-stream,reset,gateway-error,unavailable,cancelled",
    "backoff": "10ms",
}


def entry(
    name: str, ports: list[int], protocol: str = "HTTP", addresses: list[str] | None = None, resolution: str = "STATIC"
) -> Resource:
    port_name = protocol.lower()
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name.replace(".", "-")},
        "spec": {
            "hosts": [name],
            "location": "MESH_INTERNAL",
            "resolution": resolution,
            "ports": [{"number": 80, "name": port_name, "protocol": protocol}],
            "endpoints": [
                {
                    "address": addresses[i] if addresses else "127.0.0.1",
                    "ports": {port_name: port},
                    "labels": {"first": str(i < 3), "last": str(i > 0)},
                }
                for i, port in enumerate(ports)
            ],
        },
    }


def rules(name: str, *http: Resource) -> Resource:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name.replace(".", "-")},
        "spec": {"hosts": [name], "http": list(http)},
    }


def policy(name: str, **traffic_policy: Any) -> Resource:
    subsets = [{"name": name, "labels": {name: "True"}} for name in ("first", "last")]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name.replace(".", "-")},
        "spec": {"host": name, "trafficPolicy": traffic_policy, "subsets": subsets},
    }


def to(name: str, **more: Any) -> Resource:
    return {"route": [{"destination": {"host": name}}], **more}


class Files:
    """The folder of the mesh and its edits. Each edit raises the generation, which ``http://generation.test/`` answers."""

    def __init__(self, folder: Path, ports: dict[str, list[int]], seed: int) -> None:
        self.folder = folder
        self.generation = 0
        self.broken = 0
        self._ports = ports
        self._random = random.Random(f"{seed} edits")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        folder.mkdir()
        for file in ("services", "rules", "policies", "resilience"):
            self.write(file)

    # -- content ----------------------------------------------------------------------------------------------------

    def services(self) -> list[Resource]:
        http1, http2, grpc = self._ports["http1"], self._ports["http2"], self._ports["grpc"]
        names = ["flap-a.internal", "flap-b.internal", "flap-a.internal", "flap-b.internal"]
        out = self.generation % len(http1)
        moving = [port for i, port in enumerate(http1) if i != out]
        return [
            *(entry(f"{name}.test", http1) for name in ("steady", "narrow", "mirrored", "default", "once", "guarded")),
            entry("shadow.test", http1),
            entry("moving.test", moving),
            entry("flap.test", http1, addresses=names, resolution="DNS"),
            *(entry(f"{name}.test", http2, "HTTP2") for name in ("h2", "h2default", "h2once")),
            *(entry(f"{name}.test", grpc, "GRPC") for name in ("grpc", "grpconce")),
            entry("generation.test", http1),
        ]

    def rules(self) -> list[Resource]:
        weight = 10 + self.generation % 81
        halves = [
            {"destination": {"host": "steady.test", "subset": half}, "weight": w}
            for half, w in (("first", weight), ("last", 100 - weight))
        ]
        stamp = {"response": {"set": {"x-generation": str(self.generation)}}}
        never = {"attempts": 0}
        everything = {"retries": RETRIED}
        return [
            rules(
                "steady.test",
                {"match": [{"headers": {"x-half": {"exact": "yes"}}}], "route": halves, "headers": stamp, **everything},
                to("steady.test", **everything),
            ),
            *(rules(f"{name}.test", to(f"{name}.test", **everything)) for name in ("narrow", "moving", "flap")),
            rules(
                "mirrored.test", to("mirrored.test", mirrors=[{"destination": {"host": "shadow.test"}}], **everything)
            ),
            rules("once.test", to("once.test", retries=never, headers=stamp)),
            rules("guarded.test", to("guarded.test", retries=never)),
            rules("h2.test", to("h2.test", **everything)),
            rules("h2once.test", to("h2once.test", retries=never)),
            rules("grpc.test", to("grpc.test", **everything)),
            rules("grpconce.test", to("grpconce.test", retries=never)),
            rules("generation.test", {"directResponse": {"status": 200, "body": {"string": str(self.generation)}}}),
        ]

    def policies(self) -> list[Resource]:
        wait = f"{20_000 + self.generation % 7}ms"
        pool = {"tcp": {"connectTimeout": wait}}
        ejecting = {
            "consecutive5xxErrors": 4,
            "interval": "1s",
            "baseEjectionTime": "1s",
            "maxEjectionPercent": 25,
        }
        return [
            policy(
                "steady.test", connectionPool=pool, outlierDetection=ejecting, loadBalancer={"simple": "LEAST_REQUEST"}
            ),
            policy("narrow.test", connectionPool={"tcp": {"maxConnections": 3, **pool["tcp"]}}),
            policy("default.test", loadBalancer={"simple": "ROUND_ROBIN"}),
            policy("h2.test", connectionPool={"http": {"maxRequestsPerConnection": 50}, **pool}),
            policy("h2once.test", connectionPool=pool),
            policy("grpc.test", loadBalancer={"simple": "ROUND_ROBIN"}, connectionPool=pool),
            policy("moving.test", connectionPool={"http": {"idleTimeout": "1s"}}),
        ]

    def resilience(self) -> list[Resource]:
        return [
            {
                "apiVersion": "meshlib.dev/v1",
                "kind": "ResiliencePolicy",
                "metadata": {"name": "guarded"},
                "spec": {
                    "host": "guarded.test",
                    "circuitBreaker": {"failureThreshold": 5 + self.generation % 3, "resetTimeout": "300ms"},
                    "bulkhead": {"maxConcurrent": 4, "maxWaiting": 500},
                    "hedging": {"delay": "30ms", "maxHedges": 1},
                    "retryBudget": {},
                },
            }
        ]

    # -- edits ------------------------------------------------------------------------------------------------------

    def write(self, file: str, text: str | None = None, *, in_place: bool = False) -> None:
        """A file anew; by renaming, as editors and Kubernetes do, or in place."""
        if text is None:
            text = yaml.safe_dump_all(getattr(self, file)(), sort_keys=False)
        path = self.folder / f"{file}.yaml"
        if in_place:
            path.write_text(text)
            return
        beside = path.with_suffix(".tmp")
        beside.write_text(text)
        os.replace(beside, path)

    def _edit(self) -> None:
        rng = self._random
        if rng.random() < 0.25:
            self.broken += 1
            good = (self.folder / "rules.yaml").read_text()
            mistakes = [
                good.replace("attempts: 0", "attempts: [", 1),
                good.replace("retries:", "retires:", 2),
                good.replace("host: once.test", "hots: once.test", 1),
                good.replace("\nspec:", "\n  spec", 1),
                good + "\n---\nkind: Nonsense\n",
            ]
            self.write("rules", rng.choice(mistakes))
            self._stop.wait(rng.uniform(*EVERY))
        self.generation += 1
        self.write("rules", in_place=rng.random() < 0.2)
        other = rng.choice(["services", "policies", "resilience", ""])
        if other:
            self.write(other)

    def edit(self) -> None:
        """Begin to edit."""
        self._thread = threading.Thread(target=self._run, name="edit", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*EVERY)):
            self._edit()

    def rest(self) -> None:
        """End that, with good files."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
