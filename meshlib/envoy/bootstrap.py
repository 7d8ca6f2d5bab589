"""What an Envoy begins with: where its admin pages are, and that all the rest is asked over ADS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.envoy.values import ADS, TYPES, Json, typed

if TYPE_CHECKING:
    from meshlib.workload import Workload

CONTROL = "meshlib-ads"
"""The cluster that is our ADS server."""
HEAP_MONITOR = "envoy.resource_monitors.fixed_heap"
NO_MORE_REQUESTS = "envoy.overload_actions.stop_accepting_requests"
SHRINK = "envoy.overload_actions.shrink_heap"
SHRINK_AT = 0.9
"""Of the heap that is allowed: what is free goes back to the system before requests are turned away."""
CONNECTIONS_MONITOR = "envoy.resource_monitors.global_downstream_max_connections"

CLUSTER_TAG: Json = {"tag_name": "envoy.cluster_name", "regex": r"^cluster\.((.+?);\.)"}
"""The name of a cluster in its metrics: ours have dots, so that it ends with a semicolon (``clusters.STAT_END``), as istiod
has it."""
TAGS = (
    "response_code",
    "response_code_class",
    "listener_address",
    "http_conn_manager_prefix",
    "rds_route_config",
    "ssl_cipher",
    "worker_id",
)
"""Envoy's own, of what is made here."""
RUNTIME = {"re2.max_program_size.error_level": 32768}
"""As Istio's proxies have it: Envoy's own limit of regular expressions is 100."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """Unix sockets of one run: of Envoy's admin pages, of our ADS server."""

    admin: str
    ads: str


def bootstrap(
    workload: Workload, sockets: Sockets, most_connections: int | None = None, most_memory: int | None = None
) -> Json:
    """``envoy.config.bootstrap.v3.Bootstrap``. ``most_connections``: of clients, over all workers; None: no limit.
    ``most_memory``: bytes of heap from which on new requests get 503; None: no limit."""
    made: Json = {
        "node": {
            "id": f"meshlib~{workload.name}.{workload.namespace}",
            "cluster": f"{workload.name}.{workload.namespace}",
            "metadata": {"NAME": workload.name, "NAMESPACE": workload.namespace, "LABELS": dict(workload.labels)},
        },
        "admin": {"address": {"pipe": {"path": sockets.admin, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL}, "timeout": "0s"}],
            },
            "cds_config": ADS,
            "lds_config": ADS,
        },
        "static_resources": {"clusters": [_control(sockets.ads)]},
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [CLUSTER_TAG, *({"tag_name": f"envoy.{name}"} for name in TAGS)],
        },
        "layered_runtime": {
            "layers": [{"name": "istio", "static_layer": RUNTIME}, {"name": "admin", "admin_layer": {}}]
        },
    }
    limits = _limits(most_connections, most_memory)
    if limits:
        made["overload_manager"] = limits
    return made


def _limits(connections: int | None, memory: int | None) -> Json:
    """An ``OverloadManager``; empty where nothing is limited."""
    monitors, actions = [], []
    if connections is not None:
        kind, most = "downstream_connections.v3.DownstreamConnectionsConfig", "max_active_downstream_connections"
        monitors.append(_monitor(CONNECTIONS_MONITOR, kind, {most: connections}))
    if memory is not None:
        kind, most = "fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes"
        monitors.append(_monitor(HEAP_MONITOR, kind, {most: memory}))
        actions = [
            {"name": name, "triggers": [{"name": HEAP_MONITOR, "threshold": {"value": value}}]}
            for name, value in ((SHRINK, SHRINK_AT), (NO_MORE_REQUESTS, 1.0))
        ]
    if not monitors:
        return {}
    return {"resource_monitors": monitors, **({"actions": actions} if actions else {})}


def _monitor(name: str, message: str, settings: Json) -> Json:
    return {"name": name, "typed_config": {"@type": f"{TYPES}envoy.extensions.resource_monitors.{message}", **settings}}


def _control(path: str) -> Json:
    options = typed("upstreams.http.v3.HttpProtocolOptions")
    options["explicit_http_config"] = {"http2_protocol_options": {}}
    endpoint = {"endpoint": {"address": {"pipe": {"path": path}}}}
    return {
        "name": CONTROL,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": CONTROL, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
