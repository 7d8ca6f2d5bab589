"""A circuit breaker that a fleet shares through Redis (a real one)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib.transport.core import shared_breaker
from tests.support.redis_server import LONG, RedisServer, needs_redis
from tests.support.resources import pod, service

HOST = "reviews.default.svc.cluster.local"


pytestmark = needs_redis


@pytest.fixture
def redis_port(tmp_path, monkeypatch) -> Iterator[int]:
    monkeypatch.setattr(shared_breaker, "TIMEOUT", LONG)  # however slow this machine is
    with RedisServer(tmp_path) as server:
        yield server.port


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not happen within 60 s"
        time.sleep(0.01)


def resources(port: int, reset: str = "60s") -> list[dict[str, Any]]:
    breaker = {
        "failureThreshold": 3,
        "resetTimeout": reset,
        "storage": {"redis": {"url": f"redis://127.0.0.1:{port}/0"}},
    }
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p"},
        "spec": {"host": HOST, "circuitBreaker": breaker},
    }
    return [service("reviews"), pod("reviews", "v1", 1), policy]


def call(mesh: meshlib.Mesh, status: int) -> str:
    with mesh.client(transport=httpx.MockTransport(lambda request: httpx.Response(status))) as client:
        return client.get("http://reviews:9080/").text


OTHER = """
import httpx, json, sys, meshlib
from meshlib.transport.core import shared_breaker
shared_breaker.TIMEOUT = 60.0
mesh = meshlib.Mesh.from_resources(json.loads(sys.argv[1]))
client = mesh.client(transport=httpx.MockTransport(lambda request: httpx.Response(500)))
for _ in range(3):
    client.get("http://reviews:9080/")
storage = mesh._core.live.guards[sys.argv[2]].breaker.storage
import time
until, there = time.monotonic() + 60, storage._connect()
while there.state != "open" and time.monotonic() < until:
    time.sleep(0.01)
print(client.get("http://reviews:9080/").text)
"""


def test_what_one_process_learns_counts_in_the_others(redis_port):
    import json

    with meshlib.Mesh.from_resources(resources(redis_port)) as mesh:
        assert call(mesh, 200) == ""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(OTHER), json.dumps(resources(redis_port)), HOST],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == "circuit breaker open"
        wait_for(lambda: call(mesh, 200) == "circuit breaker open")


def test_failures_of_several_processes_add_up(redis_port):
    with (
        meshlib.Mesh.from_resources(resources(redis_port)) as one,
        meshlib.Mesh.from_resources(resources(redis_port)) as two,
    ):
        call(one, 500)
        call(one, 500)
        # its question makes the other one look at what Redis knows
        wait_for(lambda: breaker(two).state == "closed" and breaker(two).storage.counter == 2)
        call(two, 500)
        assert breaker(two).state == "open"
        wait_for(lambda: breaker(one).state == "open")


def breaker(mesh: meshlib.Mesh) -> Any:
    mesh._core.live.cluster(f"outbound|9080||{HOST}")
    return mesh._core.live.guards[HOST].breaker


def test_without_redis_each_process_goes_on_alone():
    with meshlib.Mesh.from_resources(resources(free_port())) as mesh:
        assert [call(mesh, 500) for _ in range(4)] == ["", "", "", "circuit breaker open"]
        wait_for(lambda: breaker(mesh).storage.errors > 0)


def test_calls_never_wait_for_redis():
    """A Redis that accepts and says nothing."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        with meshlib.Mesh.from_resources(resources(silent.getsockname()[1])) as mesh:
            call(mesh, 200)
            started = time.monotonic()
            for _ in range(60):
                call(mesh, 200)
            assert time.monotonic() - started < 30  # one look at Redis alone may take 1 s
