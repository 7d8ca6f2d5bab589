"""Outbound ports as Envoy's listeners: HTTP in plain text, as a sidecar of Istio's reads it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from meshlib.envoy.routes import CORS, FAULT
from meshlib.envoy.values import ADS, Json, listen_address, typed
from meshlib.envoy.virtual_hosts import DYNAMIC_HOST, FORWARD_PROXY

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings

MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"
DNS_CACHE: Json = {"name": "dialled", "dns_lookup_family": "ALL"}
GRPC_STATS = "envoy.filters.http.grpc_stats"


def outbound_listener(name: str, host: str, port: int, routes: str, settings: MeshSettings) -> Json:
    """One port. ``routes``: the name of its RouteConfiguration."""
    return {
        "name": name,
        "traffic_direction": "OUTBOUND",
        "address": listen_address(host, port),
        "filter_chains": [{"filters": [outbound_manager(name, routes, settings)]}],
    }


def outbound_manager(name: str, routes: str, settings: MeshSettings) -> Json:
    """The network filter that reads requests. ``name``: in metrics; ``routes``: of its RouteConfiguration."""
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        rds={"route_config_name": routes, "config_source": ADS},
        http_filters=http_filters(settings),
        **connection_manager(settings),
    )
    return {"name": MANAGER, "typed_config": manager}


def connection_manager(settings: MeshSettings) -> Json:
    """What all of them have in common: as istiod writes it for a sidecar, whose clients are believed in nothing."""
    headers = settings.proxy_headers
    paths = settings.path_normalization
    made: Json = {
        "use_remote_address": False,
        "generate_request_id": headers.request_id,
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "forward_client_cert_details": "SANITIZE",
        "normalize_path": paths != "NONE",
        "merge_slashes": paths in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"),
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {},
    }
    if paths == "DECODE_AND_MERGE_SLASHES":
        made["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD"
    return made


def http_filters(settings: MeshSettings) -> list[Json]:
    """In the order of istiod's; the router last."""
    router = typed("filters.http.router.v3.Router", suppress_envoy_headers=not settings.proxy_headers.debug)
    return [*route_filters(), {"name": ROUTER, "typed_config": router}]


def route_filters() -> list[Json]:
    """What routes have settings of: faults, cross-origin requests, where is dialled."""
    forward = typed(
        "filters.http.dynamic_forward_proxy.v3.FilterConfig",
        dns_cache_config=DNS_CACHE,
        allow_dynamic_host_from_filter_state=True,
    )
    state = typed("filters.http.set_filter_state.v3.Config")
    return [
        {"name": FAULT, "typed_config": typed("filters.http.fault.v3.HTTPFault")},
        {"name": CORS, "typed_config": typed("filters.http.cors.v3.Cors")},
        {"name": DYNAMIC_HOST, "typed_config": state},
        {"name": FORWARD_PROXY, "typed_config": forward},
    ]


def whole_seconds(seconds: float) -> int:
    """As Envoy's command line takes them."""
    return max(1, math.ceil(seconds))
