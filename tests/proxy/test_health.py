"""The port for probes: two pages, for whoever asks, and nothing that changes anything."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from meshlib.admin.page import text
from meshlib.proxy.health import HealthPort
from meshlib.proxy.places import TcpPlace
from meshlib.proxy.sockets import listening


@pytest.fixture
def port() -> Iterator[int]:
    (sock,) = listening(TcpPlace("127.0.0.1", 0), "--health")
    made = HealthPort(sock, lambda request: text(f"page {request.path}\n", 503))
    where: int = sock.getsockname()[1]
    made.start()
    yield where
    made.close()
    made.close()


def ask(port: int, path: str, method: str = "GET", host: str = "10.0.0.7:15021") -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request(method, path, headers={"Host": host})
    response = client.getresponse()
    try:
        return response.status, response.read().decode()
    finally:
        client.close()


def test_it_shows_readiness_and_metrics_by_whatever_name_it_is_called(port: int) -> None:
    assert ask(port, "/healthz/ready") == (503, "page /healthz/ready\n")
    assert ask(port, "/stats/prometheus", host="node-7.example") == (503, "page /stats/prometheus\n")


@pytest.mark.parametrize(
    "path", ["/", "/config_dump", "/clusters", "/quitquitquit", "/healthz/ready/../../config_dump"]
)
def test_it_shows_nothing_else(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


def test_nothing_can_be_changed_there(port: int) -> None:
    assert ask(port, "/quitquitquit", "POST")[0] == 405
    assert ask(port, "/healthz/ready", "POST")[0] == 405
