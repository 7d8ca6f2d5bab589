"""DestinationRule (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from meshlib.policy.balancer import BALANCERS, NOT_SIMPLE
from meshlib.resources.base import Model, Resource
from meshlib.resources.connection_pool import ConnectionPool
from meshlib.resources.selection import Selector
from meshlib.resources.types import (
    AnyDuration,
    DnsLabel,
    Duration,
    Host,
    Int32,
    PercentInt,
    Port,
    UInt32,
    UInt64,
    names,
    one_of,
)


class BackendUtilization(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.backendUtilization`` of DestinationRule."""

    error_utilization_penalty_percent: UInt32 | None = None
    metric_names_for_computing_utilization: list[str] | None = None
    weight_expiration_period: AnyDuration | None = None
    weight_stabilization_period: AnyDuration | None = None
    weight_update_period: AnyDuration | None = None


class Attribute(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes`` of DestinationRule."""

    name: str = ""
    value: str | None = None


class HttpCookie(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.httpCookie`` of DestinationRule."""

    name: str = ""
    attributes: list[Attribute] | None = None
    path: str | None = None
    ttl: AnyDuration | None = None


class Maglev(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.maglev`` of DestinationRule."""

    table_size: UInt64 | None = None


class RingHash(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.ringHash`` of DestinationRule."""

    minimum_ring_size: UInt64 | None = None


class ConsistentHash(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash`` of DestinationRule."""

    http_cookie: HttpCookie | None = None
    http_header_name: str | None = None
    http_query_parameter_name: str | None = None
    maglev: Maglev | None = None
    minimum_ring_size: UInt64 | None = None
    ring_hash: RingHash | None = None
    use_source_ip: bool | None = None


class Distribute(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.localityLbSetting.distribute`` of DestinationRule."""

    from_: str | None = Field(default=None, alias="from")
    to: dict[str, UInt32] | None = None


class Failover(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.localityLbSetting.failover`` of DestinationRule."""

    from_: str | None = Field(default=None, alias="from")
    to: str | None = None


class LocalityLbSetting(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.localityLbSetting`` of DestinationRule."""

    distribute: list[Distribute] | None = None
    enabled: bool | None = None
    failover: list[Failover] | None = None
    failover_priority: list[str] | None = None


class Warmup(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.warmup`` of DestinationRule."""

    duration: Duration
    aggression: float | None = None
    minimum_percent: float | None = None


class ZoneAwareLbSetting(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.zoneAwareLbSetting`` of DestinationRule."""

    enabled: bool | None = None
    failover: list[Failover] | None = None
    failover_priority: list[str] | None = None
    min_cluster_size: UInt64 | None = None


_ISTIOS = ("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST")


def _simple(value: object) -> object:
    """One of Istio's names, or one that somebody has added to ``policy/balancer.py``."""
    if isinstance(value, str) and value in BALANCERS and value not in NOT_SIMPLE:
        return value
    return one_of(value, *_ISTIOS)


class LoadBalancer(Model):
    """``spec.subsets.trafficPolicy.loadBalancer`` of DestinationRule."""

    backend_utilization: BackendUtilization | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    simple: Annotated[str, BeforeValidator(_simple)] | None = None
    warmup: Warmup | None = None
    warmup_duration_secs: AnyDuration | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None


class OutlierDetection(Model):
    """``spec.subsets.trafficPolicy.outlierDetection`` of DestinationRule."""

    base_ejection_time: Duration | None = None
    consecutive_5xx_errors: UInt32 | None = Field(default=None, alias="consecutive5xxErrors")
    consecutive_errors: Int32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_local_origin_failures: UInt32 | None = None
    interval: Duration | None = None
    max_ejection_percent: PercentInt | None = None
    min_health_percent: PercentInt | None = None
    outlier_detection_http_error_codes: list[UInt32] | None = None
    split_external_local_origin_errors: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, value: object) -> object:
        # Istio ignores consecutiveErrors today; files that have it meant gateway errors, so that is what they get here
        if not isinstance(value, dict):
            return value
        old = value.get("consecutiveErrors")
        if type(old) is int and old >= 0 and "consecutiveGatewayErrors" not in value:
            return {**value, "consecutiveGatewayErrors": old}
        return value


class Tls(Model):
    """``spec.subsets.trafficPolicy.portLevelSettings.tls`` of DestinationRule."""

    ca_certificates: str | None = None
    ca_crl: str | None = None
    client_certificate: str | None = None
    credential_name: str | None = None
    insecure_skip_verify: bool | None = None
    mode: (
        Annotated[
            Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"], names("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")
        ]
        | None
    ) = None
    private_key: str | None = None
    sni: str | None = None
    subject_alt_names: list[str] | None = None


class PortNumber(Model):
    """``spec.trafficPolicy.portLevelSettings.port`` of DestinationRule: the port of a service, by number."""

    number: UInt32 | None = None
    name: str | None = None  # removed from Istio long ago; old resources still have it


class PortLevelSetting(Model):
    """``spec.subsets.trafficPolicy.portLevelSettings`` of DestinationRule."""

    connection_pool: ConnectionPool | None = None
    load_balancer: LoadBalancer | None = None
    outlier_detection: OutlierDetection | None = None
    port: PortNumber | None = None
    tls: Tls | None = None


class ProxyProtocol(Model):
    """``spec.subsets.trafficPolicy.proxyProtocol`` of DestinationRule."""

    version: Annotated[Literal["V1", "V2"], names("V1", "V2")] | None = None


class RetryBudget(Model):
    """``spec.subsets.trafficPolicy.retryBudget`` of DestinationRule."""

    budget_interval: AnyDuration | None = None
    min_retry_concurrency: UInt32 | None = None
    percent: float | None = None


class Tunnel(Model):
    """``spec.subsets.trafficPolicy.tunnel`` of DestinationRule."""

    target_host: str
    target_port: Port
    protocol: str | None = None


class TrafficPolicy(Model):
    """``spec.subsets.trafficPolicy`` of DestinationRule."""

    connection_pool: ConnectionPool | None = None
    load_balancer: LoadBalancer | None = None
    outlier_detection: OutlierDetection | None = None
    port_level_settings: list[PortLevelSetting] | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None
    tls: Tls | None = None
    tunnel: Tunnel | None = None


class Subset(Model):
    """``spec.subsets`` of DestinationRule."""

    name: DnsLabel
    labels: dict[str, str] | None = None
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Model):
    """``spec`` of DestinationRule."""

    host: Host
    export_to: list[str] | None = None
    subsets: list[Subset] | None = None
    traffic_policy: TrafficPolicy | None = None
    workload_selector: Selector | None = None


class DestinationRule(Resource):
    """Istio's DestinationRule."""

    kind: Literal["DestinationRule"]
    spec: DestinationRuleSpec
    status: object = None
