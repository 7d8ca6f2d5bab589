"""A real Envoy whose listener is Istio's for a sidecar's explicit proxy port, with a host for each slot.

As ``buildHTTPConnectionManager`` and ``buildHTTPProxy`` of istiod set it: normalize_path (BASE), nothing merged or unescaped,
HTTP/1.0 refused, absolute targets taken, websocket the only upgrade, no stream idle timeout, Envoy's own limits for heads (60
KiB, 100 headers) and its way with invalid requests (the connection is closed); fragments are stripped, as Istio's bootstrap
has it. Hosts that nobody knows are answered as with outboundTrafficPolicy REGISTRY_ONLY: 502.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, running
from tests.differential.path_echo import ISTIOS_RUNTIME
from tests.proxy.malformed.asking import Slot

MANAGER: dict[str, Any] = {
    "stat_prefix": "outbound",
    "normalize_path": True,
    "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    "use_remote_address": False,
    "http_protocol_options": {"allow_absolute_url": True},
    "upgrade_configs": [{"upgrade_type": "websocket"}],
    "stream_idle_timeout": "0s",
    # not Istio's (1s): how long a connection that is closed lingers says nothing of what was read
    "delayed_close_timeout": "0.02s",
}


@contextlib.contextmanager
def sidecar(slots: list[Slot]) -> Iterator[tuple[str, int]]:
    """Where it listens."""
    listen, admin = free_port(), free_port()
    hosts = [(slot.host.decode(), slot.upstream.port) for slot in slots]
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        **MANAGER,
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": {
            "ignore_port_in_host_matching": True,
            "virtual_hosts": [*(_virtual_host(name) for name, _ in hosts), _UNKNOWN],
        },
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "layered_runtime": ISTIOS_RUNTIME,
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
            "clusters": [cluster(name, [port]) for name, port in hosts],
        },
    }
    with running(config, admin):
        yield "127.0.0.1", listen


def _virtual_host(name: str) -> dict[str, Any]:
    service = f"{name}.default"
    hosts = [name, service, f"{service}.svc", f"{service}.svc.cluster.local"]
    domains = [*hosts, *(f"{host}." for host in hosts)]
    return {
        "name": name,
        "domains": domains,
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}],
        "include_request_attempt_count": True,
    }


_UNKNOWN = {
    "name": "block_all",
    "domains": ["*"],
    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 502}}],
}
