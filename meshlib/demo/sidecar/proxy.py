"""``meshlib proxy`` as a process of the demo."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from meshlib.demo.process import ChildDied, Process
from meshlib.demo.sidecar.place import Place

PROXY = """
import os, signal, threading
def follow():  # whoever has started it: however that ends, no proxy is left behind
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from meshlib.cli.main import main
main()
"""
POLL_SECONDS = 0.02


class Proxy(Process):
    """At ``place``, with these ``arguments``. It is ready when it ``listens``."""

    def __init__(
        self, service: str, version: str, pod: str, arguments: Sequence[str], logs: Path, place: Place
    ) -> None:
        self.admin = logs / f"{pod}.sock"
        self.host = place.host
        command = [sys.executable, "-c", PROXY, "proxy", *arguments, "--admin", f"unix:{self.admin}", "--drain", "1"]
        super().__init__(service, version, pod, place.proxy(command), logs)

    def listens(self, wanted: Iterable[str], deadline: float) -> dict[str, int]:
        """The ports of listeners, by their names, once all that are ``wanted`` are there. Raises ChildDied."""
        names = set(wanted)
        while time.monotonic() < deadline:
            self.check()
            try:
                found = self.ask("/listeners?format=json").get("listener_statuses", ()) if self.admin.exists() else ()
            except httpx.HTTPError:  # it is there, and it or its Envoy does not listen yet
                found = []
            ports: dict[str, int] = {}
            for each in found:  # inbound:8080 is known as inbound, too
                name, port = each["name"].replace("_", ":", 1), port_of(each["local_address"])
                ports.setdefault(name.partition(":")[0], port)
                ports[name] = port
            if names <= ports.keys():
                return ports
            time.sleep(POLL_SECONDS)
        raise ChildDied(f"{self.pod} was not ready in time\n{self.log_tail()}")

    def knows(self) -> dict[str, Any]:
        """``mesh.status()``, as far as scenarios look at it: its ``version``, and its ``clusters`` with their endpoints."""
        found = self.ask("/status")
        if found.get("engine") == "envoy":
            found["clusters"] = clusters_of_envoy(self.ask("/clusters?format=json"))
        return found

    def ask(self, path: str) -> dict[str, Any]:
        """What its admin endpoint says in JSON."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.admin)), timeout=5.0) as client:
            found: dict[str, Any] = client.get(f"http://admin{path}").raise_for_status().json()
        return found


def port_of(local_address: str | dict[str, Any]) -> int:
    """Of a listener: its address as text, or as Envoy has it."""
    if isinstance(local_address, str):
        return int(local_address.rpartition(":")[2])
    return int(local_address["socket_address"]["port_value"])


def clusters_of_envoy(page: dict[str, Any]) -> list[dict[str, Any]]:
    """What Envoy says of its clusters, as ``mesh.status()`` would."""
    found = []
    for cluster in page.get("cluster_statuses", ()):
        kind, _, rest = cluster["name"].partition("|")
        _, _, rest = rest.partition("|")
        subset, _, host = rest.partition("|")
        if kind == "outbound":
            endpoints = [_endpoint(each) for each in cluster.get("host_statuses", ())]
            found.append({"host": host, "subset": subset, "endpoints": endpoints})
    return found


def _endpoint(status: dict[str, Any]) -> dict[str, Any]:
    where = status["address"]["socket_address"]
    ejected = bool(status.get("health_status", {}).get("failed_outlier_check"))
    return {"address": f"{where['address']}:{where['port_value']}", "ejected": ejected}
