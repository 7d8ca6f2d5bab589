"""Bookinfo in pods: its services call one another by their names, and the kernel leads what they say to the proxies beside
them. ``python -m meshlib.demo.sidecar.led`` plays it where ``unshare`` has made a node, and ends when its input closes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from meshlib.demo.bookinfo.runner import PROBLEM
from meshlib.demo.report import Report
from meshlib.demo.sidecar.application import OnEnvoy, Sidecars
from meshlib.demo.sidecar.child import INBOUND, OUTBOUND, PORT
from meshlib.demo.sidecar.place import Place
from meshlib.demo.sidecar.pods import Node, NoNamespaces
from meshlib.demo.sidecar.runner import ENGINES, ENVOY, MESHLIB, played
from meshlib.demo.sidecar.service import BOOKS

ADDRESSES = {
    "productpage": "10.96.0.11",
    "details": "10.96.0.12",
    "reviews": "10.96.0.13",
    "ratings": "10.96.0.14",
    BOOKS: "203.0.113.80",
}
"""Where services call one another: nobody is there, as nobody is at a Service's address in a cluster."""
WITHOUT_SIDECAR = ("ingressgateway", "egressgateway", "books")


class Led(Sidecars):
    """``Sidecars`` whose services know of no proxy."""

    processes = f"{Sidecars.processes}; each pod in a network namespace of its own, with the rules of meshlib iptables"

    def __init__(self, port: int = 0, otlp: str = "") -> None:
        super().__init__(port, otlp)
        self._node = Node()
        self._node.names(ADDRESSES, self.root / "hosts")

    def place(self, name: str) -> Place:
        """A pod of its own."""
        pod = self._node.pod()
        if name not in WITHOUT_SIDECAR:
            pod.lead(PORT, INBOUND, OUTBOUND)
        return pod

    def stop(self, *, keep_files: bool = False) -> None:
        """End every process and every pod."""
        super().stop(keep_files=keep_files)
        self._node.stop()


class LedOnEnvoy(Led, OnEnvoy):
    """The same, each proxy with Envoy as its engine."""

    processes = f"{Led.processes}; Envoy is the engine of all proxies"


def main() -> int:
    """Play it; exit codes as those of ``meshlib demo sidecar``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--engine", choices=ENGINES, default=MESHLIB)
    given = parser.parse_args()
    threading.Thread(target=_follow, daemon=True).start()
    report = Report()
    try:
        return played(report, LedOnEnvoy if given.engine == ENVOY else Led, once=True, requests=given.requests)
    except NoNamespaces as error:
        report.say(f"\n{error}")
        return PROBLEM


def _follow() -> None:
    """However the process ends that has started this one, nothing of it is left behind."""
    while os.read(0, 1024):  # not by sys.stdin, whose lock would be held at the end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
