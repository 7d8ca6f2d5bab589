"""A real Envoy that says what it has made of a path, for each of Istio's path normalizations."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, running

NORMALIZATIONS: dict[str, dict[str, Any]] = {
    "NONE": {"normalize_path": False},
    "BASE": {"normalize_path": True},
    "MERGE_SLASHES": {"normalize_path": True, "merge_slashes": True},
    "DECODE_AND_MERGE_SLASHES": {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}
"""What Istio sets on the connection manager of a sidecar."""
ISTIOS_RUNTIME = {
    "layers": [{"name": "istio", "static_layer": {"envoy.reloadable_features.http_reject_path_with_fragment": False}}]
}


class Echo:
    """Asks each of the listeners over a connection that is kept."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._open: dict[str, socket.socket] = {}

    def path(self, normalization: str, target: bytes) -> bytes | None:
        """The path, query and all, that its filters see; None when Envoy refuses the request."""
        for fresh in (False, True):
            connection = self._open.pop(normalization, None)
            if connection is None:
                fresh, connection = True, socket.create_connection(("127.0.0.1", self._ports[normalization]), 30)
            try:
                connection.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: a\r\n\r\n")
                head = _head(connection)
            except OSError:
                connection.close()
                if fresh:
                    raise
                continue
            if b"connection: close" in head.lower():
                connection.close()
            else:
                self._open[normalization] = connection
            if not head.startswith(b"HTTP/1.1 200"):
                return None
            return next(line[8:] for line in head.split(b"\r\n") if line.startswith(b"x-path: "))
        raise AssertionError("not reached")

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed")
        head += more
    return head


@contextlib.contextmanager
def echoing() -> Iterator[Echo]:
    admin = free_port()
    ports = {name: free_port() for name in NORMALIZATIONS}
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "layered_runtime": ISTIOS_RUNTIME,
        "static_resources": {
            "listeners": [_listener(name, port, NORMALIZATIONS[name]) for name, port in ports.items()]
        },
    }
    with running(config, admin):
        echo = Echo(ports)
        try:
            yield echo
        finally:
            echo.close()


def _listener(name: str, port: int, settings: dict[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        **settings,
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                    "response_headers_to_add": [{"header": {"key": "x-path", "value": "%REQ(:PATH)%"}}],
                }
            ]
        },
    }
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
