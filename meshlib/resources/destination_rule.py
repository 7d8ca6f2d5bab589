"""DestinationRule (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from meshlib.policy.locality import covers
from meshlib.resources.base import Model, Resource
from meshlib.resources.notices import Loc, Notice, deprecated
from meshlib.resources.types import (
    AnyDuration,
    Count,
    DnsLabel,
    Duration,
    Host,
    PercentInt,
    PortSelector,
    names,
    refuse,
)


class Http2KeepAlive(Model):
    """``spec.subsets.trafficPolicy.connectionPool.http.http2KeepAlive`` of DestinationRule."""

    interval: Duration | None = None
    timeout: Duration | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.interval is None or self.timeout is None:
            raise refuse("missing-field", "http2KeepAlive needs interval and timeout", "")
        return self


class Http(Model):
    """``spec.subsets.trafficPolicy.connectionPool.http`` of DestinationRule."""

    h2_upgrade_policy: (
        Annotated[Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"], names("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")] | None
    ) = None
    http1_max_pending_requests: Count | None = None
    http2_keep_alive: Http2KeepAlive | None = None
    http2_max_requests: Count | None = None
    idle_timeout: Duration | None = None
    max_concurrent_streams: Count | None = None
    max_requests_per_connection: Count | None = None
    max_retries: Count | None = None
    use_client_protocol: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.use_client_protocol and self.h2_upgrade_policy == "UPGRADE":
            raise refuse("client-protocol-and-upgrade", "useClientProtocol excludes h2UpgradePolicy UPGRADE", "")
        return self


class TcpKeepalive(Model):
    """``spec.subsets.trafficPolicy.connectionPool.tcp.tcpKeepalive`` of DestinationRule."""

    interval: Duration | None = None
    probes: int | None = None
    time: Duration | None = None


class Tcp(Model):
    """``spec.subsets.trafficPolicy.connectionPool.tcp`` of DestinationRule."""

    connect_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    max_connection_duration: Duration | None = None
    max_connections: Count | None = None
    tcp_keepalive: TcpKeepalive | None = None


class ConnectionPool(Model):
    """``spec.subsets.trafficPolicy.connectionPool`` of DestinationRule."""

    http: Http | None = None
    tcp: Tcp | None = None


class BackendUtilization(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.backendUtilization`` of DestinationRule."""

    error_utilization_penalty_percent: int | None = None
    metric_names_for_computing_utilization: list[str] | None = None
    weight_expiration_period: Duration | None = None
    weight_stabilization_period: Duration | None = None
    weight_update_period: Duration | None = None


class Attribute(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes`` of DestinationRule."""

    name: str
    value: str | None = None


class HttpCookie(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.httpCookie`` of DestinationRule."""

    name: str
    attributes: list[Attribute] | None = None
    path: str | None = None
    ttl: AnyDuration | None = None


class Maglev(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.maglev`` of DestinationRule."""

    table_size: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        size = self.table_size
        if size is not None and not (1 < size <= 5_000_011 and _is_prime(size)):
            raise refuse("maglev-size", "tableSize {size} is not a prime up to 5000011", "65537 is one", size=size)
        return self


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


class RingHash(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash.ringHash`` of DestinationRule."""

    minimum_ring_size: Count | None = None


class ConsistentHash(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.consistentHash`` of DestinationRule."""

    http_cookie: HttpCookie | None = None
    http_header_name: str | None = None
    http_query_parameter_name: str | None = None
    maglev: Maglev | None = None
    minimum_ring_size: int | None = None
    ring_hash: RingHash | None = None
    use_source_ip: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name")
        given = [k for k in keys if getattr(self, k)]
        if len(given) != 1:
            raise refuse(
                "hash-key",
                "consistentHash needs exactly one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
                "",
            )
        if self.maglev is not None and self.ring_hash is not None:
            raise refuse("several-hashes", "consistentHash has either ringHash or maglev", "")
        if self.http_cookie is not None and not self.http_cookie.name:
            raise refuse("hash-key", "httpCookie has no name", "")
        if self.maglev is not None and self.minimum_ring_size is not None:
            raise refuse("several-hashes", "minimumRingSize is for ring hash, not maglev", "")
        return self


def _overlapping(patterns: list[str]) -> tuple[str, str] | None:
    """Two localities of which one covers the other."""
    for position, one in enumerate(patterns):
        for other in patterns[position + 1 :]:
            if covers(one, other) or covers(other, one):
                return (one, other) if covers(one, other) else (other, one)
    return None


class Distribute(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.localityLbSetting.distribute`` of DestinationRule."""

    from_: str | None = Field(default=None, alias="from")
    to: dict[str, int] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        weights = list((self.to or {}).values())
        if not weights:
            raise refuse("missing-field", "distribute needs to", "to: {region/zone/*: 100}")
        if any(not 1 <= weight <= 100 for weight in weights) or sum(weights) != 100:
            raise refuse(
                "locality-weights",
                "the weights of distribute add up to {total}; they are 1..100 each and 100 together",
                "for example us-west/*: 80 and us-east/*: 20",
                total=sum(weights),
            )
        overlap = _overlapping(list(self.to or {}))
        if overlap:
            raise refuse("locality-overlap", "{one} covers {other} in to", "", one=overlap[0], other=overlap[1])
        return self


class Failover(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.localityLbSetting.failover`` of DestinationRule."""

    from_: str | None = Field(default=None, alias="from")
    to: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.from_ == self.to:
            raise refuse("failover-to-itself", "failover goes from {region} to itself", "", region=repr(self.from_))
        for region in (self.from_ or "", self.to or ""):
            if "/" in region or "*" in region:
                raise refuse(
                    "failover-region", "{region} is not a region", "failover knows regions only", region=repr(region)
                )
        return self


class LocalityLbSetting(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.localityLbSetting`` of DestinationRule."""

    distribute: list[Distribute] | None = None
    enabled: bool | None = None
    failover: list[Failover] | None = None
    failover_priority: list[str] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.distribute and (self.failover or self.failover_priority):
            raise refuse("several-localities", "localityLbSetting has either distribute or failover", "")
        overlap = _overlapping([d.from_ or "" for d in self.distribute or ()])
        if overlap:
            raise refuse("locality-overlap", "{one} covers {other} in from", "", one=overlap[0], other=overlap[1])
        return self


class Warmup(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.warmup`` of DestinationRule."""

    duration: Duration
    aggression: float | None = None
    minimum_percent: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.minimum_percent is not None and not 0 <= self.minimum_percent <= 100:
            raise refuse("bad-percent", "minimumPercent is 0..100", "")
        if self.aggression is not None and self.aggression <= 0:
            raise refuse("bad-aggression", "aggression is greater than 0", "1 grows in a straight line")
        return self


class ZoneAwareLbSetting(Model):
    """``spec.subsets.trafficPolicy.loadBalancer.zoneAwareLbSetting`` of DestinationRule."""

    enabled: bool | None = None
    failover: list[Failover] | None = None
    failover_priority: list[str] | None = None
    min_cluster_size: int | None = None


class LoadBalancer(Model):
    """``spec.subsets.trafficPolicy.loadBalancer`` of DestinationRule."""

    backend_utilization: BackendUtilization | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    simple: (
        Annotated[
            Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"],
            names("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"),
        ]
        | None
    ) = None
    warmup: Warmup | None = None
    warmup_duration_secs: Duration | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.simple is not None and self.consistent_hash is not None:
            raise refuse("several-balancers", "loadBalancer has either simple or consistentHash", "")
        if self.locality_lb_setting is not None and self.zone_aware_lb_setting is not None:
            raise refuse("several-localities", "loadBalancer has either localityLbSetting or zoneAwareLbSetting", "")
        return self


class OutlierDetection(Model):
    """``spec.subsets.trafficPolicy.outlierDetection`` of DestinationRule."""

    base_ejection_time: Duration | None = None
    consecutive_5xx_errors: Count | None = Field(default=None, alias="consecutive5xxErrors")
    consecutive_errors: Count | None = None
    consecutive_gateway_errors: Count | None = None
    consecutive_local_origin_failures: Count | None = None
    interval: Duration | None = None
    max_ejection_percent: PercentInt | None = None
    min_health_percent: PercentInt | None = None
    outlier_detection_http_error_codes: list[int] | None = None
    split_external_local_origin_errors: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, value: Any) -> Any:
        # Istio ignores consecutiveErrors today; files that have it meant gateway errors, so that is what they get here
        if isinstance(value, dict) and "consecutiveErrors" in value and "consecutiveGatewayErrors" not in value:
            return {**value, "consecutiveGatewayErrors": value["consecutiveErrors"]}
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        files = [f for f in (self.client_certificate, self.private_key, self.ca_certificates) if f]
        if self.mode == "MUTUAL" and not self.credential_name and not (self.client_certificate and self.private_key):
            raise refuse("tls-files", "mode MUTUAL needs clientCertificate and privateKey (or credentialName)", "")
        if self.credential_name and files:
            raise refuse("tls-files", "credentialName replaces certificate files; give one or the other", "")
        if self.mode == "ISTIO_MUTUAL" and files:
            raise refuse("tls-files", "mode ISTIO_MUTUAL uses the mesh's own certificates; give no files", "")
        if self.insecure_skip_verify and (self.ca_certificates or self.subject_alt_names):
            raise refuse(
                "tls-skip-verify", "insecureSkipVerify contradicts caCertificates and subjectAltNames", "drop one side"
            )
        return self


class PortLevelSetting(Model):
    """``spec.subsets.trafficPolicy.portLevelSettings`` of DestinationRule."""

    connection_pool: ConnectionPool | None = None
    load_balancer: LoadBalancer | None = None
    outlier_detection: OutlierDetection | None = None
    port: PortSelector | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.port is None or self.port.number is None:
            raise refuse("missing-field", "port.number is missing", "port: {number: 80}")
        return self


class ProxyProtocol(Model):
    """``spec.subsets.trafficPolicy.proxyProtocol`` of DestinationRule."""

    version: Annotated[Literal["V1", "V2"], names("V1", "V2")] | None = None


class RetryBudget(Model):
    """``spec.subsets.trafficPolicy.retryBudget`` of DestinationRule."""

    budget_interval: Duration | None = None
    min_retry_concurrency: Count | None = None
    percent: float | None = None


class Tunnel(Model):
    """``spec.subsets.trafficPolicy.tunnel`` of DestinationRule."""

    target_host: str
    target_port: int
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.model_fields_set:
            raise refuse("empty-policy", "the traffic policy sets nothing", "leave it out")
        if self.tunnel is not None and self.proxy_protocol is not None:
            raise refuse("tunnel-and-proxy-protocol", "tunnel and proxyProtocol exclude each other", "")
        return self


class Subset(Model):
    """``spec.subsets`` of DestinationRule."""

    name: DnsLabel
    labels: dict[str, str] | None = None
    traffic_policy: TrafficPolicy | None = None


class WorkloadSelector(Model):
    """``spec.workloadSelector`` of DestinationRule."""

    match_labels: dict[str, str] | None = None


class DestinationRuleSpec(Model):
    """``spec`` of DestinationRule."""

    host: Host
    export_to: list[str] | None = None
    subsets: list[Subset] | None = None
    traffic_policy: TrafficPolicy | None = None
    workload_selector: WorkloadSelector | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        names_ = [s.name for s in self.subsets or ()]
        doubles = sorted({n for n in names_ if names_.count(n) > 1})
        if doubles:
            raise refuse("duplicate-subset", "subset {names} is defined twice", "", names=", ".join(doubles))
        return self


class DestinationRule(Resource):
    """Istio's DestinationRule."""

    kind: Literal["DestinationRule"]
    spec: DestinationRuleSpec
    status: Any = None

    def notices(self) -> list[Notice]:
        """Old spellings in use."""
        found = super().notices()
        policies: list[tuple[Loc, Any]] = [(("spec", "trafficPolicy"), self.spec.traffic_policy)]
        policies += [
            (("spec", "subsets", i, "trafficPolicy"), subset.traffic_policy)
            for i, subset in enumerate(self.spec.subsets or ())
        ]
        for loc, policy in policies:
            if policy is None:
                continue
            found += _policy_notices(policy, loc)
            for i, level in enumerate(policy.port_level_settings or ()):
                found += _policy_notices(level, (*loc, "portLevelSettings", i))
        return found


def _policy_notices(policy: Any, loc: Loc) -> list[Notice]:
    found = []
    balancer, detection = policy.load_balancer, policy.outlier_detection
    if balancer is not None:
        here: Loc = (*loc, "loadBalancer")
        if balancer.simple == "LEAST_CONN":
            found.append(deprecated((*here, "simple"), "LEAST_CONN", "LEAST_REQUEST"))
        if balancer.warmup_duration_secs is not None:
            found.append(deprecated((*here, "warmupDurationSecs"), "warmupDurationSecs", "warmup: {duration: ...}"))
        if balancer.consistent_hash is not None and balancer.consistent_hash.minimum_ring_size is not None:
            found.append(
                deprecated(
                    (*here, "consistentHash", "minimumRingSize"), "minimumRingSize", "ringHash: {minimumRingSize: ...}"
                )
            )
    if detection is not None:
        if detection.consecutive_errors is not None:
            found.append(
                deprecated(
                    (*loc, "outlierDetection", "consecutiveErrors"),
                    "consecutiveErrors",
                    "consecutiveGatewayErrors (which is how it is read here; Istio ignores it)",
                )
            )
        if detection.max_ejection_percent is None:
            found.append(
                Notice(
                    "ejection-cap",
                    "notice",
                    (*loc, "outlierDetection"),
                    "maxEjectionPercent is left at 10: with fewer than 10 endpoints none can ever be ejected",
                    "maxEjectionPercent: 50",
                )
            )
    return found
