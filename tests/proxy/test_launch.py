"""``meshlib proxy`` from its options to its end: what it says, and what signals do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.test_supervise import BLOCKED, refused
from tests.support.eventually import eventually
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand, ask, free_port
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer("v1") as made:
        yield made


def test_sigterm_tells_clients_to_go_finishes_what_is_under_way_and_ends(tmp_path: Path, server: EchoServer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(handler: Any) -> bool:
        if handler.path == "/wait":
            begun.set()
            go_on.wait(20)
        return False

    server.behave = wait
    admin, health = free_port(), free_port()
    places = ("--admin", f"127.0.0.1:{admin}", "--health", f"127.0.0.1:{health}")
    with ProxyCommand(tmp_path, server.port, *places, "--exit-on-zero-connections") as proxy:
        with proxy.client() as slow, proxy.client() as kept:
            assert kept.get().header("connection") is None
            slow.send(b"GET /wait HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert begun.wait(20)
            assert ask(health, "/healthz/ready") == (200, "LIVE\n")
            proxy.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: ask(health, "/healthz/ready") == (503, "DRAINING\n"))
            assert ask(admin, "/ready")[0] == 503
            response = kept.get()
            assert (response.status, response.header("connection")) == (200, "close"), "the last one of its connection"
            with proxy.client() as late:
                response = late.get()
                assert (response.status, response.header("connection")) == (200, "close"), (
                    "who does not know yet is served"
                )
            go_on.set()
            assert slow.response().status == 200
        assert proxy.ends() == 0


def test_sigint_accepts_no_more_and_ends_when_nothing_is_under_way(tmp_path: Path, server: EchoServer) -> None:
    with ProxyCommand(tmp_path, server.port, "--drain", "60") as proxy:
        with proxy.client() as client:
            assert client.get().status == 200
            proxy.process.send_signal(signal.SIGINT)
            assert client.closed()
        assert proxy.ends() == 0


def test_listeners_drained_by_hand_accept_no_more_and_the_process_goes_on(tmp_path: Path, server: EchoServer) -> None:
    admin = free_port()
    with ProxyCommand(tmp_path, server.port, "--admin", f"127.0.0.1:{admin}") as proxy:
        port = proxy.port
        assert ask(admin, "/listeners") == (200, f"outbound::127.0.0.1:{port}\n")
        assert ask(admin, "/drain_listeners", "POST") == (200, "OK\n")
        assert eventually(lambda: refused(port))
        assert ask(admin, "/ready")[0] == 503
        assert proxy.process.poll() is None


@pytest.mark.parametrize("workers", ["1", "2"])
def test_inbound_and_outbound_are_of_one_process_and_inbound_can_be_drained_alone(
    tmp_path: Path, server: EchoServer, workers: str
) -> None:
    admin, port = free_port(), free_port()
    pair = ("--inbound", f"127.0.0.1:{port}", "--app", f"127.0.0.1:{server.port}")
    with ProxyCommand(tmp_path, server.port, *pair, "--workers", workers, "--admin", f"127.0.0.1:{admin}") as proxy:
        proxy.says(rf"serving 127\.0\.0\.1:{server.port}, listening on 127\.0\.0\.1:{port}")
        for _ in range(4):
            with Client(port) as caller, proxy.client() as application:
                assert caller.get("/in").status == 200
                assert application.get("/out").status == 200
        shown = ask(admin, "/listeners")[1].splitlines()
        assert shown == [f"outbound::127.0.0.1:{proxy.port}", f"inbound:{server.port}::127.0.0.1:{port}"]
        assert ask(admin, "/drain_listeners?inboundonly", "POST") == (200, "OK\n")
        assert eventually(lambda: refused(port))
        with proxy.client() as application:
            assert application.get().status == 200
    assert [each["path"] for each in server.seen].count("/in") == 4


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_reads_the_resources_again(tmp_path: Path, server: EchoServer, workers: str) -> None:
    with ProxyCommand(tmp_path, server.port, "--workers", workers) as proxy:
        with proxy.client() as client:
            assert client.get().status == 200
            proxy.configure(BLOCKED)
            proxy.process.send_signal(signal.SIGHUP)
            assert eventually(lambda: client.get(host="reviews.example:9080").status == 418), "on the same connection"


def test_a_client_too_many_is_reset_and_counted(tmp_path: Path, server: EchoServer) -> None:
    admin = free_port()
    with ProxyCommand(tmp_path, server.port, "--max-connections", "1", "--admin", f"127.0.0.1:{admin}") as proxy:
        with proxy.client() as one:
            assert one.get().status == 200
            with proxy.client() as other:
                assert other.closed()
            assert one.get().status == 200
        assert 'meshlib_proxy_overload_total{reason="connections"} 1.0' in ask(admin, "/stats/prometheus")[1]


def test_what_is_worth_a_warning_is_said(tmp_path: Path, server: EchoServer) -> None:
    with ProxyCommand(tmp_path, server.port, "--max-connections", "600000000") as proxy:
        proxy.says(r"WARNING .*--max-connections 600000000: RLIMIT_NOFILE is \d+, which has room for about")
