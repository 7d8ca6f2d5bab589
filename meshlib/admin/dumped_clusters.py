"""Clusters of a snapshot as Envoy's JSON has them (``envoy.config.cluster.v3.Cluster`` and its endpoints)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster, TlsSettings
    from meshlib.policy.outlier import OutlierSettings
    from meshlib.registry.service import Endpoint

Json = dict[str, Any]

TYPES = {"static": "EDS", "dns": "STRICT_DNS", "logical_dns": "LOGICAL_DNS", "passthrough": "ORIGINAL_DST"}
UPSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def duration(seconds: float) -> str:
    """As protobuf's JSON writes durations: ``0.025s``."""
    whole = f"{seconds:.9f}".rstrip("0").rstrip(".")
    return f"{whole}s"


def istio_config(resource: str) -> Json:
    """The resource that something comes from, in the metadata that Istio gives it; nothing when it comes from none."""
    kind, _, name = resource.partition("/")
    if not name:
        return {}
    namespace, _, own = name.partition("/")
    path = "".join(f"-{each.lower()}" if each.isupper() else each for each in kind).removeprefix("-")
    return {"istio": {"config": f"/apis/networking.istio.io/v1/namespaces/{namespace}/{path}/{own}"}}


def thresholds(spec: Cluster) -> Json:
    """Envoy's CircuitBreakers.Thresholds, which istiod makes of a connectionPool."""
    limits = spec.limits
    made: Json = {
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.http1_max_pending_requests,
        "max_requests": limits.http2_max_requests,
        "max_retries": limits.max_retries,
        "track_remaining": True,
    }
    if spec.retry_budget is not None:
        made["retry_budget"] = {
            "budget_percent": {"value": spec.retry_budget.percent},
            "min_retry_concurrency": spec.retry_budget.minimum,
        }
    return made


def cluster(spec: Cluster) -> Json:
    """One cluster; its endpoints are apart, where they are (``endpoints``)."""
    limits = spec.limits
    metadata: Json = {
        **istio_config(spec.destination_rule),
        "meshlib": {
            key: value
            for key, value in (
                ("balancer", spec.balancer),
                ("refusal", spec.refusal),
                ("why_plain_text", spec.why_plain),
                ("lack", "" if spec.lack is None else str(spec.lack)),
            )
            if value
        },
    }
    found: Json = {
        "name": spec.key,
        "type": TYPES.get(spec.resolution, "EDS"),
        "connect_timeout": duration(limits.connect_timeout),
        "lb_policy": _policy(spec),
        "circuit_breakers": {"thresholds": [thresholds(spec)]},
        "metadata": {"filter_metadata": metadata},
    }
    if found["type"] == "EDS":
        found["eds_cluster_config"] = {"service_name": spec.key}
    if limits.max_requests_per_connection:
        found["max_requests_per_connection"] = limits.max_requests_per_connection
    if spec.outlier is not None:
        found["outlier_detection"] = _outlier(spec.outlier)
        found["common_lb_config"] = {"healthy_panic_threshold": {"value": spec.panic_percent}}
    tls = spec.tls if spec.tls is not None else spec.auto_mtls
    if tls is not None:
        found["transport_socket"] = _tls(tls)
    return found


def endpoints(spec: Cluster) -> Json:
    """The load assignment of a cluster: what discovery knows, before any health of ours."""
    placed = spec.placement
    groups: dict[tuple[int, str], list[Json]] = {}
    for position, endpoint in enumerate(spec.endpoints):
        priority = 0 if placed is None else placed.priorities[position]
        if priority is not None:
            groups.setdefault((priority, endpoint.locality), []).append(_endpoint(endpoint))
    return {
        "cluster_name": spec.key,
        "endpoints": [
            {"priority": priority, "locality": _locality(locality), "lb_endpoints": members}
            for (priority, locality), members in sorted(groups.items())
        ],
    }


def _endpoint(endpoint: Endpoint) -> Json:
    if endpoint.address.startswith("unix:"):
        address: Json = {"pipe": {"path": endpoint.address.removeprefix("unix://")}}
    else:
        address = {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}
    return {
        "endpoint": {"address": address, "hostname": endpoint.hostname},
        "health_status": "HEALTHY" if endpoint.healthy else "UNHEALTHY",
        "load_balancing_weight": max(1, round(endpoint.weight)),
        "metadata": {"filter_metadata": {"meshlib": {"workload": endpoint.workload, "labels": dict(endpoint.labels)}}},
    }


def _locality(locality: str) -> Json:
    region, _, rest = locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return {name: value for name, value in (("region", region), ("zone", zone), ("sub_zone", sub_zone)) if value}


def _policy(spec: Cluster) -> str:
    if spec.resolution == "passthrough":
        return "CLUSTER_PROVIDED"
    if spec.hash_policy is not None:
        return "MAGLEV" if spec.hash_policy.maglev else "RING_HASH"
    return spec.balancer if spec.balancer in ("ROUND_ROBIN", "RANDOM") else "LEAST_REQUEST"


def _outlier(settings: OutlierSettings) -> Json:
    return {
        "consecutive_5xx": settings.consecutive_5xx,
        "enforcing_consecutive_5xx": 100 if settings.consecutive_5xx else 0,
        "consecutive_gateway_failure": settings.consecutive_gateway,
        "enforcing_consecutive_gateway_failure": 100 if settings.consecutive_gateway else 0,
        "consecutive_local_origin_failure": settings.consecutive_local_origin,
        "split_external_local_origin_errors": settings.split_external_local_origin,
        "interval": duration(settings.interval),
        "base_ejection_time": duration(settings.base_ejection_time),
        "max_ejection_time": duration(settings.max_ejection_time),
        "max_ejection_percent": settings.max_ejection_percent,
        "enforcing_success_rate": settings.enforcing_success_rate,
        "enforcing_failure_percentage": settings.enforcing_failure_percentage,
    }


def _tls(settings: TlsSettings) -> Json:
    """Files by their names; what was handed over as bytes is said to be there, and not shown."""
    context: Json = {}
    if settings.client_certificate:
        context["tls_certificates"] = [
            {
                "certificate_chain": {"filename": settings.client_certificate},
                "private_key": {"filename": settings.private_key},
            }
        ]
    elif settings.mode == "ISTIO_MUTUAL":
        context["tls_certificate_sds_secret_configs"] = [{"name": "default"}]
    elif settings.credential:
        context["tls_certificate_sds_secret_configs"] = [{"name": settings.credential}]
    validation: Json = {}
    if settings.ca_certificates:
        validation["trusted_ca"] = {"filename": settings.ca_certificates}
    if settings.ca_crl:
        validation["crl"] = {"filename": settings.ca_crl}
    if settings.subject_alt_names:
        validation["match_typed_subject_alt_names"] = [
            {"san_type": "URI" if name.startswith("spiffe://") else "DNS", "matcher": {"exact": name}}
            for name in settings.subject_alt_names
        ]
    if validation:
        context["validation_context"] = validation
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": UPSTREAM_TLS, "sni": settings.sni, "common_tls_context": context},
    }
