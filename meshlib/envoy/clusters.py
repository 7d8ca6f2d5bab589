"""Clusters of a snapshot as Envoy's (``envoy.config.cluster.v3.Cluster``), and their endpoints (ClusterLoadAssignment)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.admin.dumped_clusters import thresholds
from meshlib.envoy.tls import Files, NoTls, mutual_socket, socket_of
from meshlib.envoy.values import ADS, MOST_WEIGHT, Json, address, duration, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlib.compiler.routes import Cluster
    from meshlib.policy.circuit_limits import CircuitLimits
    from meshlib.policy.outlier import OutlierSettings
    from meshlib.registry.service import Endpoint

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
STAT_END = ";"
"""Ends the name of a cluster in its metrics (``bootstrap.CLUSTER_TAG``)."""
TLS_MODE = "tlsMode"
MATCHED = "envoy.transport_socket_match"
PLAIN = {
    "name": "envoy.transport_sockets.raw_buffer",
    "typed_config": typed("transport_sockets.raw_buffer.v3.RawBuffer"),
}
DNS_CACHE: Json = {"name": "dialled", "dns_lookup_family": "ALL"}
"""Addresses of names that are dialled as they are, whatever cluster they belong to."""
SLOW_START_KEY = "meshlib.slow_start.aggression"
ORIGINAL_DST = "original_dst"
"""``resolution`` of what is here alone: endpoints are the addresses that connections were meant for (``transparent.py``)."""
DIALLED = ("passthrough", ORIGINAL_DST)
WITH_WARM_UP = ("ROUND_ROBIN", "LEAST_REQUEST")
WHOLE_PRECISION = 1000
"""Shares of localities may be fractions, Envoy's weights are whole numbers."""


def cluster_of(spec: Cluster, has_identity: bool, files: Files) -> Json:
    """The cluster without its endpoints, but those that are names. Raises ``NoTls``: no call may be made to it."""
    limits = spec.limits
    made: Json = {
        "name": spec.key,
        "alt_stat_name": spec.key + STAT_END,
        "connect_timeout": duration(limits.connect_timeout),
        "circuit_breakers": {"thresholds": [thresholds(spec)]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: _http_options(spec)},
        "common_lb_config": {"healthy_panic_threshold": {"value": spec.panic_percent}},
        **_discovery(spec),
        **_balancing(spec),
        **_tls(spec, has_identity, files),
    }
    if spec.proxy_protocol:
        _begin_with_header(made, spec.proxy_protocol)
    if limits.tcp_keepalive is not None:
        probes = limits.tcp_keepalive
        given = (("probes", probes.probes), ("time", probes.time), ("interval", probes.interval))
        keepalive = {f"keepalive_{name}": value for name, value in given if value}
        made["upstream_connection_options"] = {"tcp_keepalive": keepalive}
    if spec.placement is not None:
        made["common_lb_config"]["locality_weighted_lb_config"] = {}
    if spec.outlier is not None:
        made["outlier_detection"] = _outlier(spec.outlier)
    return made


def _begin_with_header(made: Json, version: str) -> None:
    """Connections tell of the client's (PROXY protocol), before TLS."""

    def behind(socket: Json) -> Json:
        message = "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
        config = typed(message, config={"version": version}, transport_socket=socket)
        return {"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": config}

    matches = made.get("transport_socket_matches", ())
    for each in matches:
        each["transport_socket"] = behind(each["transport_socket"])
    if not matches:
        made["transport_socket"] = behind(made.get("transport_socket", PLAIN))


def empty_cluster(spec: Cluster) -> Json:
    """In place of one to which no call may be made: it has no endpoint (503, flag UH)."""
    return {"name": spec.key, "type": "STATIC", "load_assignment": {"cluster_name": spec.key}}


def by_eds(made: Json) -> bool:
    """Whether the endpoints of a cluster are told apart from it."""
    return made.get("type") == "EDS"


def _discovery(spec: Cluster) -> Json:
    if spec.resolution == "passthrough":
        forward = {
            "@type": "type.googleapis.com/" + _FORWARD,
            "dns_cache_config": DNS_CACHE,
            "allow_insecure_cluster_options": True,  # what is verified is said by ``_http_options``
        }
        return {"cluster_type": {"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": forward}}
    if spec.resolution == ORIGINAL_DST:
        made: Json = {"type": "ORIGINAL_DST"}
        if spec.dial_port:
            made["original_dst_lb_config"] = {"upstream_port_override": spec.dial_port}
        return made
    if spec.resolution == "static":
        return {"type": "EDS", "eds_cluster_config": {"eds_config": ADS}}
    sole = len(spec.endpoints) == 1
    return {
        "type": "LOGICAL_DNS" if spec.resolution == "logical_dns" and sole else "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "respect_dns_ttl": True,
        "dns_refresh_rate": "60s",
        "load_assignment": endpoints_of(spec),
    }


_FORWARD = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"


def _http_options(spec: Cluster) -> Json:
    limits = spec.limits
    common: Json = {"idle_timeout": duration(limits.idle_timeout)}
    if limits.max_connection_duration:
        common["max_connection_duration"] = duration(limits.max_connection_duration)
    if limits.max_requests_per_connection:
        common["max_requests_per_connection"] = limits.max_requests_per_connection
    made: Json = {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", "common_http_protocol_options": common}
    if spec.http2:
        made["explicit_http_config"] = {"http2_protocol_options": _http2(limits)}
    elif spec.as_client or spec.resolution in DIALLED:
        made["use_downstream_protocol_config"] = {"http_protocol_options": {}, "http2_protocol_options": _http2(limits)}
    else:
        made["explicit_http_config"] = {"http_protocol_options": {}}
    if _names_by_request(spec):
        made["upstream_http_protocol_options"] = {"auto_sni": True, "auto_san_validation": True}
    codes = spec.outlier.error_codes if spec.outlier is not None else None
    if codes:
        made["outlier_detection"] = {"error_matcher": _any_status(sorted(codes))}
    return made


def _names_by_request(spec: Cluster) -> bool:
    """Whether TLS asks for the name that each request dials, and verifies that."""
    tls = spec.tls
    if tls is None or tls.mode == "ISTIO_MUTUAL" or spec.resolution != "passthrough":
        return False
    return not (tls.sni or tls.subject_alt_names or tls.insecure_skip_verify)


def _any_status(codes: Sequence[int]) -> Json:
    """A MatchPredicate of responses with one of these statuses."""
    rules = [
        {
            "http_response_headers_match": {
                "headers": [{"name": ":status", "string_match": {"exact": str(code)}}],
            }
        }
        for code in codes
    ]
    return rules[0] if len(rules) == 1 else {"or_match": {"rules": rules}}


def _http2(limits: CircuitLimits) -> Json:
    made: Json = {}
    if limits.max_concurrent_streams < 2**31 - 1:
        made["max_concurrent_streams"] = limits.max_concurrent_streams
    if limits.http2_keepalive is not None:
        interval, timeout = limits.http2_keepalive
        made["connection_keepalive"] = {"interval": duration(interval), "timeout": duration(timeout)}
    return made


def _balancing(spec: Cluster) -> Json:
    if spec.resolution in DIALLED:
        return {"lb_policy": "CLUSTER_PROVIDED"}
    if spec.hash_policy is not None:
        size = spec.hash_policy.size
        if spec.hash_policy.maglev:
            return {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": size}}
        return {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": size}}
    name = spec.balancer if spec.balancer in ("ROUND_ROBIN", "RANDOM") else "LEAST_REQUEST"
    made: Json = {"lb_policy": name}
    if spec.slow_start is not None and name in WITH_WARM_UP:
        made[f"{name.lower()}_lb_config"] = {
            "slow_start_config": {
                "slow_start_window": duration(spec.slow_start.window),
                "aggression": {"default_value": spec.slow_start.aggression, "runtime_key": SLOW_START_KEY},
                "min_weight_percent": {"value": spec.slow_start.minimum_percent},
            }
        }
    return made


def _outlier(settings: OutlierSettings) -> Json:
    return {
        "consecutive_5xx": settings.consecutive_5xx,
        "enforcing_consecutive_5xx": 100 if settings.consecutive_5xx else 0,
        "consecutive_gateway_failure": settings.consecutive_gateway,
        "enforcing_consecutive_gateway_failure": 100 if settings.consecutive_gateway else 0,
        "consecutive_local_origin_failure": settings.consecutive_local_origin,
        "enforcing_consecutive_local_origin_failure": 100 if settings.consecutive_local_origin else 0,
        "split_external_local_origin_errors": settings.split_external_local_origin,
        "interval": duration(settings.interval),
        "base_ejection_time": duration(settings.base_ejection_time),
        "max_ejection_time": duration(max(settings.max_ejection_time, settings.base_ejection_time)),
        "max_ejection_percent": settings.max_ejection_percent,
        "enforcing_success_rate": settings.enforcing_success_rate,
        "enforcing_failure_percentage": settings.enforcing_failure_percentage,
    }


def _tls(spec: Cluster, has_identity: bool, files: Files) -> Json:
    if spec.refusal:
        raise NoTls(spec.refusal)
    if spec.tls is not None:
        if spec.tls.mode != "ISTIO_MUTUAL":
            host = None if _names_by_request(spec) else spec.host
            return {"transport_socket": socket_of(spec.tls, spec.http2, host, files)}
        if not has_identity:
            raise NoTls("mTLS of the mesh is asked for (ISTIO_MUTUAL), and this process has no certificate")
        return {"transport_socket": mutual_socket(spec.tls, spec.http2)}
    if spec.auto_mtls is None or not has_identity or not spec.mutual:
        return {}
    if spec.resolution in DIALLED:  # Envoy looks at labels of endpoints, and an address that is dialled has none
        raise NoTls(
            "it depends on the address whether mTLS of the mesh is spoken: say so with a tls block of a DestinationRule"
        )
    socket = mutual_socket(spec.auto_mtls, spec.http2)
    return {
        "transport_socket_matches": [
            {"name": "tlsMode-istio", "match": {TLS_MODE: "istio"}, "transport_socket": socket},
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": PLAIN},
        ]
    }


# -- endpoints --------------------------------------------------------------------------------------------------------


def endpoints_of(spec: Cluster) -> Json:
    """The load assignment of a cluster, by priority and place."""
    placed = spec.placement
    groups: dict[tuple[int, int], list[Endpoint]] = {}
    for position, endpoint in enumerate(spec.endpoints):
        priority = 0 if placed is None else placed.priorities[position]
        if priority is not None:
            group = 0 if placed is None else placed.groups[position]
            groups.setdefault((priority, group), []).append(endpoint)
    made = []
    for (priority, group), members in sorted(groups.items(), key=lambda item: item[0]):
        place: Json = {
            "locality": _locality(members[0].locality),
            "lb_endpoints": [_endpoint(each, each.key in spec.mutual) for each in members],
        }
        if priority:
            place["priority"] = priority
        if placed is not None and placed.weights[group] > 0:
            place["load_balancing_weight"] = max(1, round(placed.weights[group] * WHOLE_PRECISION))
        made.append(place)
    return {"cluster_name": spec.key, "endpoints": made}


def _endpoint(endpoint: Endpoint, mutual: bool) -> Json:
    made: Json = {
        "endpoint": {"address": address(endpoint.address, endpoint.port)},
        "load_balancing_weight": min(max(1, round(endpoint.weight)), MOST_WEIGHT),
    }
    if not endpoint.healthy:
        made["health_status"] = "UNHEALTHY"
    if mutual:
        made["metadata"] = {"filter_metadata": {MATCHED: {TLS_MODE: "istio"}}}
    return made


def _locality(locality: str) -> Json:
    region, _, rest = locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return {name: value for name, value in (("region", region), ("zone", zone), ("sub_zone", sub_zone)) if value}
