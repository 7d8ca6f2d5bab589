"""The attributes that expressions in CEL may read: those of Envoy, and those that Istio's metrics add.

``meshlib.telemetry.cel`` gives them their values; here they are known by name, so that a misspelt one is told when the
configuration is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_TLS = (
    "tls_version",
    "subject_local_certificate",
    "subject_peer_certificate",
    "uri_san_local_certificate",
    "uri_san_peer_certificate",
    "dns_san_local_certificate",
    "dns_san_peer_certificate",
    "sha256_peer_certificate_digest",
    "peer_certificate",
)
_WORKLOAD = frozenset(("workload", "namespace", "cluster", "service", "revision", "app", "version", "name", "identity"))

ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "request": frozenset(
        (
            *("path", "url_path", "host", "scheme", "method", "headers", "referer", "useragent", "time", "id"),
            *("protocol", "query", "size", "total_size", "headers_bytes", "duration"),
        )
    ),
    "response": frozenset(
        (
            *("code", "code_details", "flags", "grpc_status", "headers", "trailers", "size", "total_size"),
            *("headers_bytes", "backend_latency"),
        )
    ),
    "source": frozenset(("address", "port")),
    "destination": frozenset(("address", "port")),
    "connection": frozenset(
        ("id", "mtls", "requested_server_name", "termination_details", "transport_failure_reason", *_TLS)
    ),
    "upstream": frozenset(
        (
            *("address", "port", "local_address", "locality", "transport_failure_reason", "request_attempt_count"),
            *("cx_pool_ready_duration", "num_endpoints", *_TLS),
        )
    ),
    "xds": frozenset(
        (
            *("node", "cluster_name", "cluster_metadata", "route_name", "route_metadata", "virtual_host_name"),
            *("virtual_host_metadata", "upstream_host_metadata", "upstream_host_locality_metadata"),
            *("filter_chain_name", "listener_metadata", "listener_direction"),
        )
    ),
    "node": frozenset(("id", "cluster", "metadata", "locality")),
    "upstream_peer": _WORKLOAD,
    "downstream_peer": _WORKLOAD,
    "filter_state": frozenset(),
    "upstream_filter_state": frozenset(),
    "metadata": frozenset(),
}
"""By the object that has them; of one without fields any may be read."""

_TYPES = frozenset(
    (
        *("bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type", "google"),
        *("timestamp", "duration"),
    )
)


def unknown_attribute(references: Sequence[Sequence[str]]) -> tuple[str, str]:
    """The first of what an expression reads that is no attribute, and what is known instead; two "" when all are."""
    for path in references:
        root = path[0]
        if root in _TYPES:
            continue
        fields = ATTRIBUTES.get(root)
        if fields is None:
            return root, f"an attribute begins with {', '.join(ATTRIBUTES)}; a text stands in quotes: '{root}'"
        if fields and len(path) > 1 and path[1] not in fields:
            return f"{root}.{path[1]}", f"{root} has {', '.join(sorted(fields))}"
    return "", ""
