"""A real Envoy whose listeners are those of Istio's sidecar: that of its explicit proxy port, with a host for each slot, and
inbound ones.

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


INBOUND: dict[str, Any] = {
    **MANAGER,
    "stat_prefix": "inbound",
    "http_protocol_options": {},
    "server_name": "istio-envoy",
    "proxy_100_continue": True,
    "forward_client_cert_details": "APPEND_FORWARD",
    "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True},
}
"""What ``buildSidecarInboundHTTPOpts`` sets beside."""


@contextlib.contextmanager
def sidecar(slots: list[Slot]) -> Iterator[tuple[str, int]]:
    """Outbound. Where it listens."""
    listen, admin = free_port(), free_port()
    hosts = [(slot.host.decode(), slot.upstream.port) for slot in slots]
    routes = {
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [*(_virtual_host(name) for name, _ in hosts), _UNKNOWN],
    }
    clusters = [cluster(name, [port]) for name, port in hosts]
    with running(_config(admin, [_listener(listen, MANAGER, routes)], clusters), admin):
        yield "127.0.0.1", listen


@contextlib.contextmanager
def inbound_sidecar(slots: list[Slot]) -> Iterator[tuple[str, int]]:
    """Inbound, a listener for each slot, whose application is the slot's upstream."""
    admin = free_port()
    listeners, clusters = [], []
    for slot in slots:
        name, port = slot.host.decode(), free_port()
        slot.proxy = ("127.0.0.1", port)
        listeners.append(_listener(port, INBOUND, {"virtual_hosts": [{**_virtual_host(name), "domains": ["*"]}]}))
        clusters.append(cluster(name, [slot.upstream.port]))
    with running(_config(admin, listeners, clusters), admin):
        yield "127.0.0.1", 0


def _config(admin: int, listeners: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "layered_runtime": ISTIOS_RUNTIME,
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _listener(port: int, settings: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        **settings,
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": routes,
    }
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


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
