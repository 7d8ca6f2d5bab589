"""``meshlib proxy`` under load while it is reloaded, restarted and killed, and while its disk is full: no request fails that a
client of HTTP/1.1 would not try again. Short here; MESHLIB_FAULTS=1 makes 100 reloads and 10 restarts."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.clock import SystemClock
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.proxy_command import Load, ProxyCommand, ask, free_port, workers_of
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

pytestmark = pytest.mark.fault
LONG = os.environ.get("MESHLIB_FAULTS") == "1"
RELOADS = 100 if LONG else 8
RESTARTS = 10 if LONG else 2


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer("v1") as made:
        yield made


def route(number: int) -> str:
    return f"""---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews.example]
  http: [{{timeout: {number + 5}s, route: [{{destination: {{host: reviews.example}}}}]}}]
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_fails_while_resources_are_reloaded(tmp_path: Path, server: EchoServer, workers: str) -> None:
    admin = free_port()
    with ProxyCommand(tmp_path, server.port, "--workers", workers, "--admin", f"127.0.0.1:{admin}") as proxy:
        with Load(proxy.port) as load:
            load.more()
            for number in range(RELOADS):
                proxy.configure(route(number))
                proxy.process.send_signal(signal.SIGHUP)
                load.more(20)
            assert eventually(lambda: f'"timeout": "{RELOADS + 4}s"' in ask(admin, "/config_dump")[1])
            load.more()
        assert load.failed == []
        assert load.again == 0, "no connection was closed under a client"


def test_no_request_fails_while_a_proxy_is_replaced_by_another_at_the_same_port(
    tmp_path: Path, server: EchoServer
) -> None:
    options = ("--reuse-port", "--drain", "2")
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(ProxyCommand(tmp_path, server.port, *options))
        port = old.port
        with Load(port) as load:
            load.more()
            for _ in range(RESTARTS):
                new = stack.enter_context(ProxyCommand(tmp_path, server.port, *options, port=port))
                assert new.port == port
                load.more(20)
                old.process.send_signal(signal.SIGTERM)
                assert old.ends() == 0
                load.more(20)
                old = new
    assert load.failed == []


def test_a_worker_that_is_killed_costs_the_requests_that_it_had_and_no_others(
    tmp_path: Path, server: EchoServer
) -> None:
    admin = free_port()
    with ProxyCommand(tmp_path, server.port, "--workers", "2", "--admin", f"127.0.0.1:{admin}") as proxy:
        with Load(proxy.port, threads=4) as load:
            for kill in range(1, RESTARTS + 1):
                load.more(20)
                os.kill(workers_of(admin)[kill % 2], signal.SIGKILL)
                proxy.says(r"has ended by signal 9", times=kill)
                assert eventually(lambda: len(workers_of(admin)) == 2)
                load.more(20)
        # one under way, and its second try when that waited in the queue of the one that died: neither has a response
        assert len(load.failed) <= 4 * RESTARTS
        assert load.done > 20 * RESTARTS


def test_a_full_disk_stops_the_access_log_and_no_request(tmp_path: Path, server: EchoServer) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with ProxyCommand(tmp_path, server.port, env={"MESHLIB_ACCESS_LOG": "/dev/full"}) as proxy:
        with Load(proxy.port) as load:
            load.more()
            proxy.says(r"ERROR meshlib\.access_log: .*No space left on device")
            load.more()
        assert load.failed == []
        assert load.again == 0


class Jumping(SystemClock):
    """The wall clock of a machine that was set by hand; what only grows goes on growing."""

    off = 0.0

    def time(self) -> float:
        return super().time() + self.off


def test_a_wall_clock_that_jumps_costs_nothing(server: EchoServer) -> None:
    clock = Jumping()
    with Proxy([service("reviews"), pod("reviews", "v1", server.port)], clock=clock) as proxy, proxy.client() as client:
        for clock.off in (0.0, -365 * 86400.0, 10 * 365 * 86400.0, 0.0):
            for _ in range(10):
                assert client.get().status == 200
        assert proxy.metric("istio_requests_total", response_code="200") == 40
