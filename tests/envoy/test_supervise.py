"""The supervisor over a real Envoy: it is begun again, drained, and follows what changes. (What it is sent:
``test_ads_state``.)"""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.envoy_engine import EnvoyCommand
from tests.support.eventually import eventually
from tests.support.proxy_command import Load, ask
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow

ROUTE = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews.example]
  http:
  - match: [{uri: {prefix: /teapot}}]
    directResponse: {status: STATUS}
  - match: [{headers: {x-long: {regex: "REGEX"}}}]
    directResponse: {status: 201}
  - route: [{destination: {host: reviews.example}}]
"""


def rules(status: int = 418, regex: str = "a.*") -> str:
    return ROUTE.replace("STATUS", str(status)).replace("REGEX", regex)


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer("v1") as made:
        yield made


def status(proxy: EnvoyCommand, path: str = "/") -> int:
    with proxy.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: reviews.example:9080\r\n\r\n".encode())
        found: int = client.response().status
        return found


def test_a_killed_envoy_is_back_with_its_configuration_at_its_port(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port) as proxy:
        port, first = proxy.port, proxy.envoy()
        assert status(proxy) == 200
        proxy.kill_envoy()
        proxy.says("Envoy has ended by signal 9")
        assert proxy.envoy(2) != first
        assert (proxy.port, status(proxy)) == (port, 200)
        assert proxy.process.poll() is None


def test_a_killed_envoy_is_nobodys_but_its_own_agents(tmp_path: Path, server: EchoServer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(handler: Any) -> bool:
        if handler.path == "/wait":
            begun.set()
            go_on.wait(60)
        return False

    server.behave = wait
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with EnvoyCommand(tmp_path / "one", server.port) as one, EnvoyCommand(tmp_path / "other", server.port) as other:
        theirs = other.envoy()
        with other.client() as kept, other.client() as slow, Load(other.port) as load:
            assert kept.get().status == 200
            slow.send(b"GET /wait HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert begun.wait(60)
            for times in (1, 2):
                one.kill_envoy(times)
                one.envoy(times + 1)
                load.more()
            assert status(one) == 200
            go_on.set()
            assert slow.response().status == 200, "it was under way all the time"
            assert kept.get().status == 200, "on the same connection"
        assert load.failed == []
        assert not [line for line in other.lines if "Envoy has ended" in line or "Envoy is back" in line]
        assert json.loads(ask(other.admin, "/server_info")[1])["state"] == "LIVE"
        assert Path(f"/proc/{theirs}").exists()


def test_envoy_ends_with_a_supervisor_that_is_killed(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port) as proxy:
        child = proxy.envoy()
        proxy.process.kill()
        proxy.process.wait(60)

        def gone() -> bool:
            try:
                return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                return True

        assert eventually(gone)


def test_a_change_of_a_file_takes_effect_and_fails_no_request(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port) as proxy:
        assert status(proxy, "/teapot") == 200
        with Load(proxy.port) as load:
            load.more()
            proxy.configure(rules(418))
            assert eventually(lambda: status(proxy, "/teapot") == 418)
            proxy.configure(rules(419))
            assert eventually(lambda: status(proxy, "/teapot") == 419)
            load.more()
        assert load.failed == []


def test_a_change_with_an_error_keeps_what_there_is(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port) as proxy:
        proxy.configure(rules(418))
        assert eventually(lambda: status(proxy, "/teapot") == 418)
        proxy.configure(rules(99999))
        proxy.says("error")
        assert status(proxy, "/teapot") == 418


def test_what_envoy_refuses_is_told_and_the_last_good_configuration_stays(tmp_path: Path, server: EchoServer) -> None:
    """A regular expression whose program is beyond Envoy's limit is valid for us."""
    with EnvoyCommand(tmp_path, server.port) as proxy:
        proxy.configure(rules(418))
        assert eventually(lambda: status(proxy, "/teapot") == 418)
        proxy.configure(rules(419, "a{1000}" * 40))
        proxy.says("Envoy refuses its configuration")
        assert status(proxy, "/teapot") == 418
        proxy.kill_envoy()
        proxy.envoy(2)
        assert status(proxy, "/teapot") == 418
        proxy.configure(rules(420))
        assert eventually(lambda: status(proxy, "/teapot") == 420)


def test_sigterm_tells_clients_to_go_finishes_what_is_under_way_and_ends(tmp_path: Path, server: EchoServer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(handler: Any) -> bool:
        if handler.path == "/wait":
            begun.set()
            go_on.wait(20)
        return False

    server.behave = wait
    with EnvoyCommand(tmp_path, server.port, "--exit-on-zero-connections") as proxy:
        with proxy.client() as slow, proxy.client() as kept:
            assert kept.get().header("connection") is None
            slow.send(b"GET /wait HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert begun.wait(20)
            proxy.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: ask(proxy.admin, "/ready") == (503, "DRAINING\n"))
            response = kept.get()
            assert (response.status, response.header("connection")) == (200, "close")
            go_on.set()
            assert slow.response().status == 200
        assert proxy.ends() == 0


def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port, "--drain", "600") as proxy, proxy.client() as client:
        assert client.get().status == 200
        proxy.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: ask(proxy.admin, "/ready")[0] == 503)
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.ends() == 0


def test_admin_pages_and_metrics_are_envoys(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port) as proxy:
        assert status(proxy) == 200
        assert ask(proxy.admin, "/ready") == (200, "LIVE\n")
        found = ask(proxy.admin, "/stats/prometheus")[1]
        assert re.search(
            r'envoy_cluster_upstream_rq_total\{envoy_cluster_name="outbound\|9080\|\|reviews\.example"\} 1', found
        )
        assert f"127.0.0.1:{server.port}" in ask(proxy.admin, "/clusters")[1]
        kinds = {
            each["@type"].rpartition(".")[2] for each in json.loads(ask(proxy.admin, "/config_dump")[1])["configs"]
        }
        assert {"BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump"} <= kinds


def test_several_workers_are_envoys_threads(tmp_path: Path, server: EchoServer) -> None:
    with EnvoyCommand(tmp_path, server.port, "--workers", "2") as proxy:
        assert status(proxy) == 200
        assert json.loads(ask(proxy.admin, "/server_info")[1])["command_line_options"]["concurrency"] == 2


def test_systemd_hears_that_it_is_ready_alive_and_stopping(tmp_path: Path, server: EchoServer) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with EnvoyCommand(tmp_path, server.port, env=env) as proxy:
            heard: list[bytes] = []

            def hears(what: bytes) -> bool:
                while what not in heard:
                    heard.append(told.recv(100))
                return True

            assert hears(b"READY=1")
            heard.clear()
            assert hears(b"WATCHDOG=1")
            proxy.process.send_signal(signal.SIGINT)
            assert hears(b"STOPPING=1")
            assert proxy.ends() == 0
