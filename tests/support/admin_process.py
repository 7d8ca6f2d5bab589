"""A process of its own with a mesh and an admin endpoint, whose calls have been made: what commands are attached to.

Its calls go to no network: ``python -m tests.support.admin_process ADDRESS`` makes seven to ``reviews`` (one is retried
after an endpoint has failed) and one to a service without endpoints, says where it listens, and waits for its end of input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

import meshlib
from tests.support.resources import destination_rule, pod, service, to, virtual_service

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
    with meshlib.Mesh.from_resources(RESOURCES, admin=address, seed=1) as mesh:
        with mesh.client(transport=httpx.MockTransport(answer)) as client:
            for _ in range(6):
                client.get("http://reviews:9080/reviews/0?token=c4n4ry", headers={"authorization": "Bearer c4n4ry"})
            client.get("http://reviews:9080/fails")
            client.get("http://ratings:9080/")
        sys.stdout.write(f"{mesh.status()['admin']['address']}\n")
        sys.stdout.flush()
        sys.stdin.read()


class AdminProcess:
    """``with AdminProcess(address, runtime) as process``: its ``pid``, and the ``address`` it listens at."""

    def __init__(self, address: str, runtime: Path, **environment: str) -> None:
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.admin_process", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), **environment},
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """As an operator would: its input is over, and it closes its mesh."""
        self._process.communicate(timeout=60)


if __name__ == "__main__":
    main(sys.argv[1])
