"""WorkloadGroup (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import Count, UInt32


class Metadata(Model):
    """``spec.metadata`` of WorkloadGroup."""

    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Exec(Model):
    """``spec.probe.exec`` of WorkloadGroup."""

    command: list[str] | None = None


class Grpc(Model):
    """``spec.probe.grpc`` of WorkloadGroup."""

    port: UInt32 | None = None
    service: str | None = None


class HttpHeader(Model):
    """``spec.probe.httpGet.httpHeaders`` of WorkloadGroup."""

    name: str | None = None
    value: str | None = None


class HttpGet(Model):
    """``spec.probe.httpGet`` of WorkloadGroup."""

    port: UInt32 | None = None
    host: str | None = None
    http_headers: list[HttpHeader] | None = None
    path: str | None = None
    scheme: str | None = None


class TcpSocket(Model):
    """``spec.probe.tcpSocket`` of WorkloadGroup."""

    port: UInt32 | None = None
    host: str | None = None


class Probe(Model):
    """``spec.probe`` of WorkloadGroup."""

    exec: Exec | None = None
    failure_threshold: Count | None = None
    grpc: Grpc | None = None
    http_get: HttpGet | None = None
    initial_delay_seconds: Count | None = None
    period_seconds: Count | None = None
    success_threshold: Count | None = None
    tcp_socket: TcpSocket | None = None
    timeout_seconds: Count | None = None


class Template(Model):
    """``spec.template`` of WorkloadGroup."""

    address: str | None = None
    labels: dict[str, str] | None = None
    locality: str | None = None
    network: str | None = None
    ports: dict[str, UInt32] | None = None
    service_account: str | None = None
    weight: UInt32 | None = None


class WorkloadGroupSpec(Model):
    """``spec`` of WorkloadGroup."""

    template: Template
    metadata: Metadata | None = None
    probe: Probe | None = None


class WorkloadGroup(Resource):
    """Istio's WorkloadGroup."""

    kind: Literal["WorkloadGroup"]
    spec: WorkloadGroupSpec
    status: object = None
