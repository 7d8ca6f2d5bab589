"""``--engine envoy`` from its options to what it says."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from meshlib.envoy.launch import unsupported
from meshlib.proxy.options import Given, checked
from tests.support.envoy_engine import EnvoyCommand
from tests.support.eventually import eventually
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow

RESILIENCE = """
---
apiVersion: meshlib.dev/v1
kind: ResiliencePolicy
metadata: {name: reviews}
spec: {host: reviews.example, bulkhead: {maxConcurrent: 5}}
"""
OUTBOUND = Given(configs=["mesh"], outbound=["127.0.0.1:0"])


def test_options_that_envoy_has_no_part_in_are_refused_one_by_one() -> None:
    given = Given(
        ["mesh"], ["127.0.0.1:0"], ["127.0.0.1:0"], ["127.0.0.1:8080"], max_memory=5, max_lag=1.0, max_requests=5
    )
    assert [line.split()[0] for line in unsupported(checked(given), "https://localhost:4318")] == [
        "--max-requests",
        "--max-lag",
        "--otlp",
    ]


def test_a_limit_of_the_access_log_is_not_silently_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHLIB_ACCESS_LOG", "stdout")
    assert unsupported(checked(OUTBOUND), None) == []
    monkeypatch.setenv("MESHLIB_ACCESS_LOG_RATE", "10/second")
    (said,) = unsupported(checked(OUTBOUND), None)
    assert "MESHLIB_ACCESS_LOG_RATE" in said


def test_what_envoy_does_not_do_is_said_with_its_place_at_start(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "more.yaml").write_text(RESILIENCE)
    with EchoServer() as server, EnvoyCommand(tmp_path, server.port) as proxy:
        said = proxy.says("go without bulkhead")
        assert "more.yaml:3" in said


def test_beyond_its_memory_it_turns_new_requests_away(tmp_path: Path) -> None:
    def refused() -> bool:
        with proxy.client() as client:
            response = client.get("/", "GET", "reviews.example")
            return (response.status, response.body) == (503, b"envoy overloaded")

    (tmp_path / "mesh").mkdir()
    with EchoServer() as server, EnvoyCommand(tmp_path, server.port, "--max-memory", "1") as proxy:
        proxy.says("forwarding, listening on")
        assert eventually(refused)  # Envoy looks once a second


def test_check_says_the_same_and_binds_nothing(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "more.yaml").write_text(RESILIENCE)
    with EnvoyCommand(tmp_path, 1, "--check") as proxy:
        assert proxy.ends() == 0
        proxy.says("go without bulkhead")
        proxy.says("^ok: 2 resources")


def test_a_port_that_is_in_use_is_said_before_envoy_begins(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with EnvoyCommand(tmp_path, 1, port=port) as proxy:
            assert proxy.ends() == 1
            proxy.says(f"port {port} is in use")
