"""Sidecar (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.notices import Notice
from meshlib.resources.types import (
    Count,
    DestinationHost,
    DestinationPort,
    Duration,
    DurationOrOff,
    OptionalDnsLabel,
    UInt32,
    names,
)
from meshlib.resources.validation import sidecar as rules


class EgressPort(Model):
    """``spec.egress.port`` of Sidecar."""

    name: str | None = None
    number: UInt32 | None = None
    protocol: str | None = None
    target_port: UInt32 | None = None


class Egress(Model):
    """``spec.egress`` of Sidecar."""

    hosts: list[str]
    bind: str | None = None
    capture_mode: Annotated[Literal["DEFAULT", "IPTABLES", "NONE"], names("DEFAULT", "IPTABLES", "NONE")] | None = None
    port: EgressPort | None = None


class Http2KeepAlive(Model):
    """``spec.inboundConnectionPool.http.http2KeepAlive`` of Sidecar."""

    interval: Duration | None = None
    timeout: Duration | None = None


class Http(Model):
    """``spec.inboundConnectionPool.http`` of Sidecar."""

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


class TcpKeepalive(Model):
    """``spec.inboundConnectionPool.tcp.tcpKeepalive`` of Sidecar."""

    interval: Duration | None = None
    probes: UInt32 | None = None
    time: Duration | None = None


class Tcp(Model):
    """``spec.inboundConnectionPool.tcp`` of Sidecar."""

    connect_timeout: Duration | None = None
    idle_timeout: DurationOrOff | None = None
    max_connection_duration: Duration | None = None
    max_connections: Count | None = None
    tcp_keepalive: TcpKeepalive | None = None


class InboundConnectionPool(Model):
    """``spec.inboundConnectionPool`` of Sidecar."""

    http: Http | None = None
    tcp: Tcp | None = None


class TlsCertificate(Model):
    """``spec.ingress.tls.tlsCertificates`` of Sidecar."""

    ca_certificates: str | None = None
    private_key: str | None = None
    server_certificate: str | None = None


class Tls(Model):
    """``spec.ingress.tls`` of Sidecar."""

    ca_cert_credential_name: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    cipher_suites: list[str] | None = None
    credential_name: str | None = None
    credential_names: list[str] | None = None
    ecdh_curves: list[str] | None = None
    https_redirect: bool | None = None
    insecure_skip_verify: bool | None = None
    max_protocol_version: (
        Annotated[
            Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"],
            names("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
        ]
        | None
    ) = None
    min_protocol_version: (
        Annotated[
            Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"],
            names("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
        ]
        | None
    ) = None
    mode: (
        Annotated[
            Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"],
            names("PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"),
        ]
        | None
    ) = None
    private_key: str | None = None
    server_certificate: str | None = None
    subject_alt_names: list[str] | None = None
    tls_certificates: list[TlsCertificate] | None = None
    verify_certificate_hash: list[str] | None = None
    verify_certificate_spki: list[str] | None = None


class Ingress(Model):
    """``spec.ingress`` of Sidecar."""

    port: EgressPort
    bind: str | None = None
    capture_mode: Annotated[Literal["DEFAULT", "IPTABLES", "NONE"], names("DEFAULT", "IPTABLES", "NONE")] | None = None
    connection_pool: InboundConnectionPool | None = None
    default_endpoint: str | None = None
    tls: Tls | None = None


class EgressProxy(Model):
    """``spec.outboundTrafficPolicy.egressProxy`` of Sidecar."""

    host: DestinationHost
    port: DestinationPort | None = None
    subset: OptionalDnsLabel | None = None


class OutboundTrafficPolicy(Model):
    """``spec.outboundTrafficPolicy`` of Sidecar."""

    egress_proxy: EgressProxy | None = None
    mode: Annotated[Literal["REGISTRY_ONLY", "ALLOW_ANY"], names("REGISTRY_ONLY", "ALLOW_ANY")] | None = None


class WorkloadSelector(Model):
    """``spec.workloadSelector`` of Sidecar."""

    labels: dict[str, str] | None = None


class SidecarSpec(Model):
    """``spec`` of Sidecar."""

    egress: list[Egress] | None = None
    inbound_connection_pool: InboundConnectionPool | None = None
    ingress: list[Ingress] | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    workload_selector: WorkloadSelector | None = None


class Sidecar(Resource):
    """Istio's Sidecar."""

    kind: Literal["Sidecar"]
    spec: SidecarSpec
    status: Any = None

    def refusals(self) -> Iterator[Notice]:
        """See ``validation/sidecar.py``."""
        return rules.refusals(self)

    def notices(self) -> list[Notice]:
        """What Istio warns of, beside old spellings."""
        return [*super().notices(), *rules.warnings(self)]
