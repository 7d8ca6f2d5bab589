"""Sidecar (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.connection_pool import ConnectionPool
from meshlib.resources.selection import WorkloadSelector
from meshlib.resources.server_tls import ServerTls
from meshlib.resources.types import (
    DestinationHost,
    DestinationPort,
    OptionalDnsLabel,
    UInt32,
    names,
)


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


class Ingress(Model):
    """``spec.ingress`` of Sidecar."""

    port: EgressPort
    bind: str | None = None
    capture_mode: Annotated[Literal["DEFAULT", "IPTABLES", "NONE"], names("DEFAULT", "IPTABLES", "NONE")] | None = None
    connection_pool: ConnectionPool | None = None
    default_endpoint: str | None = None
    tls: ServerTls | None = None


class EgressProxy(Model):
    """``spec.outboundTrafficPolicy.egressProxy`` of Sidecar."""

    host: DestinationHost
    port: DestinationPort | None = None
    subset: OptionalDnsLabel | None = None


class OutboundTrafficPolicy(Model):
    """``spec.outboundTrafficPolicy`` of Sidecar."""

    egress_proxy: EgressProxy | None = None
    mode: Annotated[Literal["REGISTRY_ONLY", "ALLOW_ANY"], names("REGISTRY_ONLY", "ALLOW_ANY")] | None = None


class SidecarSpec(Model):
    """``spec`` of Sidecar."""

    egress: list[Egress] | None = None
    inbound_connection_pool: ConnectionPool | None = None
    ingress: list[Ingress] | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    workload_selector: WorkloadSelector | None = None


class Sidecar(Resource):
    """Istio's Sidecar."""

    kind: Literal["Sidecar"]
    spec: SidecarSpec
    status: object = None
