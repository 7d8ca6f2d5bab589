"""A real Envoy with the inbound listeners of Istio's sidecar, in front of an application that tells which head has come."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any, Self

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, running
from tests.support.listening import stop_accepting

TLS = TYPES.removesuffix(".filters") + ".transport_sockets.tls.v3.DownstreamTlsContext"
DETAILS = {"subject": True, "uri": True, "dns": True}
"""setCurrentClientCertDetails, as Istio has them when ProxyConfig says nothing."""
NO_RETRIES: dict[str, Any] = {}
RETRIES = {"retry_on": "reset-before-request", "num_retries": 2}
"""Istio's inbound route."""


class HeadEcho:
    """An application that answers each request with the head that has come to it, as bytes."""

    def __init__(self, *more: bytes) -> None:
        self._more = b"".join(line + b"\r\n" for line in more)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        stop_accepting(self._sock, self._thread)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with connection, contextlib.suppress(OSError):
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(head), self._more, head)
                connection.sendall(answer)


def listener(
    name: str,
    port: int,
    settings: dict[str, Any],
    tls: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """As istiod makes one for a port of HTTP: ``settings`` of its connection manager beside."""
    action = {"cluster": "app", "timeout": "0s", "retry_policy": RETRIES, **(route or {})}
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": False,
        "normalize_path": True,
        "server_name": "istio-envoy",
        "proxy_100_continue": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "0s",
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": DETAILS,
        **settings,
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "inbound|http|80",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "decorator": {"operation": "reviews.default.svc.cluster.local:80/*"},
                            "route": action,
                        }
                    ],
                }
            ]
        },
    }
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }


def mutual(certificate: str, key: str, bundle: str) -> dict[str, Any]:
    """mTLS with these files."""
    return {
        "@type": TLS,
        "require_client_certificate": True,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}],
            "validation_context": {"trusted_ca": {"filename": bundle}},
        },
    }


@contextlib.contextmanager
def inbound_envoy(listeners: list[dict[str, Any]], app: int) -> Iterator[None]:
    admin = free_port()
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": listeners, "clusters": [cluster("app", [app])]},
    }
    with running(config, admin):
        yield


def ask(port: int, request: bytes, context: ssl.SSLContext | None = None) -> tuple[bytes, bytes]:
    """The head and the body of the response to ``request``, over a connection of its own."""
    sock: Any = socket.create_connection(("127.0.0.1", port), 30)
    if context is not None:
        sock = context.wrap_socket(sock, server_hostname="reviews")
    with sock:
        sock.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return data, b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            more = sock.recv(65536)
            if not more:
                break
            body += more
        return head, body
