"""All tables by kind."""

from __future__ import annotations

from meshlib.compiler.semantics import (
    authorization_policy,
    destination_rule,
    mesh_config,
    others,
    peer_authentication,
    request_authentication,
    resilience_policy,
    telemetry,
    virtual_service,
)
from meshlib.compiler.semantics.table import Table

TABLES: dict[str, Table] = {
    kind: Table(kind, rows)
    for kind, rows in (
        ("VirtualService", virtual_service.ROWS),
        ("DestinationRule", destination_rule.ROWS),
        ("ServiceEntry", others.SERVICE_ENTRY),
        ("WorkloadEntry", others.WORKLOAD),
        ("WorkloadGroup", others.WORKLOAD_GROUP),
        ("Sidecar", others.SIDECAR),
        ("Gateway", others.GATEWAY),
        ("EnvoyFilter", others.ENVOY_FILTER),
        ("ProxyConfig", others.PROXY_CONFIG),
        ("MeshConfig", mesh_config.ROWS),
        ("AuthorizationPolicy", authorization_policy.ROWS),
        ("PeerAuthentication", peer_authentication.ROWS),
        ("RequestAuthentication", request_authentication.ROWS),
        ("ResiliencePolicy", resilience_policy.ROWS),
        ("Telemetry", telemetry.ROWS),
        ("LocalEndpoints", others.LOCAL_ENDPOINTS),
    )
}

SAME_AS = {"ConfigMap": "MeshConfig"}
"""Kinds that say what another one does."""

EXTENSIONS = {
    "WasmPlugin": "Wasm runs in Envoy",
    "TrafficExtension": "Wasm and Lua run in Envoy",
}
"""Kinds that load and of which nothing acts, with the reason."""
