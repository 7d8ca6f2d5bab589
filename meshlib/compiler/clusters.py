"""Service + DestinationRule -> Cluster: endpoints of the subset, limits, balancer, outlier detection, TLS."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.destination_rules import EffectivePolicy, MergedRule, effective_policy
from meshlib.compiler.snapshot import Cluster, TlsSettings
from meshlib.policy.circuit_limits import CircuitLimits
from meshlib.policy.outlier import OutlierSettings
from meshlib.registry.service import Endpoint, Service
from meshlib.workload import Workload

DEFAULT_LIMITS = CircuitLimits()
DEFAULT_BALANCER = "LEAST_REQUEST"


def cluster_key(host: str, subset: str, port: int) -> str:
    """Envoy's name of an outbound cluster, as Istio writes it."""
    return f"outbound|{port}|{subset}|{host}"


def compile_cluster(service: Service, rule: MergedRule | None, subset: str, port: int, workload: Workload) -> Cluster:
    """The cluster of one subset ("" for the whole service) on one service port."""
    policy = effective_policy(rule, subset, port)
    endpoints = service.endpoints.get(port, ())
    chosen = rule.subsets.get(subset) if rule and subset else None
    if chosen is not None and chosen.labels:
        wanted = chosen.labels.items()
        endpoints = tuple(e for e in endpoints if _has_labels(e, wanted))
    protocol = next((p.protocol for p in service.ports if p.number == port), "http")
    return Cluster(
        key=cluster_key(service.host, subset, port),
        host=service.host,
        subset=subset,
        port=port,
        endpoints=endpoints,
        limits=_limits(policy),
        balancer=_balancer(policy),
        outlier=_outlier(policy),
        tls=_tls(policy),
        protocol=protocol,
        resolution=_resolution(service),
        destination_rule=rule.id if rule else "",
        panic_percent=_panic_percent(policy),
        refusal=_refusal(policy, rule),
    )


def _has_labels(endpoint: Endpoint, wanted: Any) -> bool:
    labels = endpoint.labels
    return all(labels.get(key) == value for key, value in wanted)


def _resolution(service: Service) -> str:
    if service.resolution == "none":
        return "passthrough"
    return "static" if service.resolution == "static" else "dns"


def _limits(policy: EffectivePolicy) -> CircuitLimits:
    pool = policy.connection_pool
    if pool is None:
        return DEFAULT_LIMITS
    values: dict[str, Any] = {}
    if pool.tcp is not None:
        values["max_connections"] = pool.tcp.max_connections
        values["connect_timeout"] = pool.tcp.connect_timeout
        values["idle_timeout"] = pool.tcp.idle_timeout
        values["max_connection_duration"] = pool.tcp.max_connection_duration
    if pool.http is not None:
        values["http1_max_pending_requests"] = pool.http.http1_max_pending_requests
        values["http2_max_requests"] = pool.http.http2_max_requests
        values["max_requests_per_connection"] = pool.http.max_requests_per_connection
        values["max_retries"] = pool.http.max_retries
        if pool.http.idle_timeout:
            values["idle_timeout"] = pool.http.idle_timeout
    # proto3: an explicit 0 is the same as not set, and means the default
    return CircuitLimits(**{name: value for name, value in values.items() if value})


def _balancer(policy: EffectivePolicy) -> str:
    balancer = policy.load_balancer
    if balancer is None or balancer.simple is None:
        return DEFAULT_BALANCER
    simple = str(getattr(balancer.simple, "value", balancer.simple))
    return DEFAULT_BALANCER if simple in ("UNSPECIFIED", "LEAST_CONN") else simple


def _outlier(policy: EffectivePolicy) -> OutlierSettings | None:
    detection = policy.outlier_detection
    if detection is None:
        return None
    values = {
        "consecutive_5xx": detection.consecutive_5xx_errors,
        "consecutive_gateway": detection.consecutive_gateway_errors,
        "consecutive_local_origin": detection.consecutive_local_origin_failures,
        "split_external_local_origin": detection.split_external_local_origin_errors,
        "interval": detection.interval,
        "base_ejection_time": detection.base_ejection_time,
        "max_ejection_percent": detection.max_ejection_percent,
        "min_health_percent": detection.min_health_percent,
    }
    return OutlierSettings(**{name: value for name, value in values.items() if value is not None})


def _panic_percent(policy: EffectivePolicy) -> int:
    detection = policy.outlier_detection
    return int(detection.min_health_percent or 0) if detection is not None else 0


def _refusal(policy: EffectivePolicy, rule: MergedRule | None) -> str:
    """Fail closed: a policy that asks for TLS which is not there must not be answered with plaintext."""
    tls = policy.tls
    if tls is None or rule is None:
        return ""
    if tls.mode == "ISTIO_MUTUAL":
        return f"{rule.id} asks for tls ISTIO_MUTUAL, and this workload has no mesh identity (certificate) yet"
    if tls.credential_name:
        return f"{rule.id} asks for the TLS secret {tls.credential_name}; name files instead (caCertificates ...)"
    return ""


def _tls(policy: EffectivePolicy) -> TlsSettings | None:
    tls = policy.tls
    mode = str(getattr(tls.mode, "value", tls.mode) or "DISABLE") if tls is not None else "DISABLE"
    if tls is None or mode not in ("SIMPLE", "MUTUAL"):
        return None
    return TlsSettings(
        mode=mode,
        sni=tls.sni or "",
        ca_certificates=tls.ca_certificates or "",
        client_certificate=tls.client_certificate or "",
        private_key=tls.private_key or "",
        subject_alt_names=tuple(tls.subject_alt_names or ()),
        insecure_skip_verify=bool(tls.insecure_skip_verify),
    )
