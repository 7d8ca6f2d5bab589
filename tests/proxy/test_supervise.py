"""Workers of one proxy: they share ports, count together, are replaced, and end together."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand, ask, free_port, workers_of
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer("v1") as made:
        yield made


def total(text: str, name: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
    )


def test_workers_share_a_port_count_together_are_replaced_and_end_together(tmp_path: Path, server: EchoServer) -> None:
    admin, health = free_port(), free_port()
    places = ("--admin", f"127.0.0.1:{admin}", "--health", f"127.0.0.1:{health}")
    with ProxyCommand(tmp_path, server.port, "--workers", "2", "--drain", "0.5", *places) as proxy:
        for _ in range(16):
            with proxy.client() as client:
                assert client.get().status == 200
        scrape = ask(admin, "/stats/prometheus")[1]
        assert total(scrape, "istio_requests_total") == 16
        pids = workers_of(admin)
        each = [ask(admin, f"/stats/prometheus?worker={slot}")[1] for slot in pids]
        assert sum(total(text, "meshlib_proxy_downstream_connections_total") for text in each) == 16
        assert ask(health, "/healthz/ready") == (200, "LIVE\n")
        assert total(ask(health, "/stats/prometheus")[1], "istio_requests_total") == 16

        os.kill(pids[0], signal.SIGKILL)
        proxy.says(r"worker \d+ has ended by signal 9; it is replaced")
        assert eventually(lambda: len(workers_of(admin)) == 2 and workers_of(admin)[0] != pids[0])
        assert workers_of(admin)[1] == pids[1]
        for _ in range(8):
            with proxy.client() as client:
                assert client.get().status == 200, "the new one has the port of its slot"
        assert total(ask(admin, "/stats/prometheus")[1], "istio_requests_total") == 24, (
            "what the dead one counted stays"
        )

        assert ask(admin, "/quitquitquit") == (
            405,
            "/quitquitquit changes something: it takes POST alone (curl -X POST)\n",
        )
        assert ask(admin, "/quitquitquit", "POST") == (200, "OK\n")
        assert proxy.ends() == 0


def test_a_worker_that_replaces_another_has_the_resources_of_now(tmp_path: Path, server: EchoServer) -> None:
    admin = free_port()
    with ProxyCommand(tmp_path, server.port, "--workers", "2", "--admin", f"127.0.0.1:{admin}") as proxy:
        assert proxy.port
        before = {slot: _version(admin, slot) for slot in (0, 1)}
        assert len(set(before.values())) == 1
        proxy.configure(BLOCKED)
        assert eventually(lambda: all(_version(admin, slot) != before[0] for slot in (0, 1)))
        os.kill(workers_of(admin)[0], signal.SIGKILL)
        assert eventually(lambda: len(workers_of(admin)) == 2)
        assert eventually(lambda: _version(admin, 0) == _version(admin, 1) != before[0])


BLOCKED = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec: {hosts: [reviews.example], http: [{directResponse: {status: 418}}]}
"""


def _version(admin: int, slot: int) -> str:
    found = re.search(r"\"version\": \"([0-9a-f]+)\"", ask(admin, f"/status?worker={slot}")[1])
    return found.group(1) if found else ""


def test_a_worker_that_cannot_begin_ends_all_with_its_reason(tmp_path: Path, server: EchoServer) -> None:
    with ProxyCommand(tmp_path, server.port, "--workers", "2", "--admin", f"127.0.0.1:{server.port}") as proxy:
        assert proxy.ends() == 1
        assert any(f"the admin address 127.0.0.1:{server.port} is taken" in line for line in proxy.lines)


def test_drained_listeners_stay_closed_whoever_replaces_a_worker_and_leave_no_queue_behind(
    tmp_path: Path, server: EchoServer
) -> None:
    admin = free_port()
    with ProxyCommand(tmp_path, server.port, "--workers", "2", "--admin", f"127.0.0.1:{admin}") as proxy:
        port = proxy.port
        assert ask(admin, "/drain_listeners", "POST") == (200, "OK\n")
        assert eventually(lambda: refused(port))
        pids = workers_of(admin, "DRAINING")
        os.kill(pids[0], signal.SIGKILL)
        assert eventually(lambda: workers_of(admin, "DRAINING").get(0, pids[0]) != pids[0])
        assert refused(port)
        assert ask(admin, "/ready")[0] == 503


def test_ctrl_c_reaches_all_and_what_is_under_way_is_finished(tmp_path: Path, server: EchoServer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_handler: Any) -> bool:
        begun.set()
        go_on.wait(20)
        return False

    server.behave = wait
    with ProxyCommand(tmp_path, server.port, "--workers", "2", "--drain", "20") as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert begun.wait(20)
        os.killpg(proxy.process.pid, signal.SIGINT)
        with proxy.client() as late:
            late.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            go_on.set()
            assert (client.response().status, late.response().status) == (200, 200)


def refused(port: int) -> bool:
    try:
        Client(port).sock.close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it came as the port was closed
    return False
