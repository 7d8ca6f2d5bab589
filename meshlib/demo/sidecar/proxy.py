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
                found = self.ask("/listeners?format=json")["listener_statuses"] if self.admin.exists() else []
            except httpx.TransportError:  # it is there and does not listen yet
                found = []
            ports: dict[str, int] = {}
            for each in found:  # inbound:8080 is known as inbound, too
                name, port = each["name"], int(each["local_address"].rpartition(":")[2])
                ports.setdefault(name.partition(":")[0], port)
                ports[name] = port
            if names <= ports.keys():
                return ports
            time.sleep(POLL_SECONDS)
        raise ChildDied(f"{self.pod} was not ready in time\n{self.log_tail()}")

    def ask(self, path: str) -> dict[str, Any]:
        """What its admin endpoint says in JSON."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.admin)), timeout=5.0) as client:
            found: dict[str, Any] = client.get(f"http://admin{path}").raise_for_status().json()
        return found
