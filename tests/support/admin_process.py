"""A process of its own with a mesh and an admin endpoint, whose calls have been made: what commands are attached to.

Its calls go to no network: it makes seven to ``reviews`` (one is retried after an endpoint has failed) and one to a service
without endpoints, says where it listens, and waits for SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

import meshlib
from tests.support.forked import ROOT, SECONDS, Forked
from tests.support.resources import destination_rule, pod, service, to, virtual_service

PROGRAM = "import sys; from tests.support.admin_process import main; main(sys.argv[1])"
RESOURCES = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    pod("reviews", "v2", 9082),
    service("ratings"),
    destination_rule(
        "reviews", outlierDetection={"consecutive5xxErrors": 1, "maxEjectionPercent": 50, "baseEjectionTime": "60s"}
    ),
    virtual_service(
        "reviews", {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}}
    ),
]


def answer(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/fails":
        return httpx.Response(404)
    return httpx.Response(503 if request.url.port == 9082 else 200)


def main(address: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # of its threads, too
    with meshlib.Mesh.from_resources(RESOURCES, admin=address, seed=1) as mesh:
        with mesh.client(transport=httpx.MockTransport(answer)) as client:
            for _ in range(6):
                client.get("http://reviews:9080/reviews/0?token=c4n4ry", headers={"authorization": "Bearer c4n4ry"})
            client.get("http://reviews:9080/fails")
            client.get("http://ratings:9080/")
        sys.stdout.write(f"{mesh.status()['admin']['address']}\n")
        sys.stdout.flush()
        signal.sigwait([signal.SIGTERM])


class AdminProcess:
    """``with AdminProcess(address, runtime) as process``: its ``pid``, and the ``address`` it listens at."""

    def __init__(self, address: str, runtime: Path, **environment: str) -> None:
        whole = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), **environment}
        self._process = Forked(PROGRAM, address, folder=ROOT, environment=whole)
        self.pid = self._process.pid
        self.address = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """It closes its mesh."""
        self._process.terminate()
        self._process.wait(SECONDS)
        self._process.stdout.close()
