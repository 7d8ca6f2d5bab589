"""Ingress and IngressClass (networking.k8s.io): what a gateway reads of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meshlib.resources.kubernetes import KubernetesResource, Loose


class BackendPort(Loose):
    """``port`` of a backend's service: its number or its name."""

    number: int | None = None
    name: str | None = None


class BackendService(Loose):
    """``service`` of a backend."""

    name: str
    port: BackendPort | None = None


class Backend(Loose):
    """``backend`` of a path, or ``defaultBackend``."""

    service: BackendService | None = None
    resource: object = None


class IngressPath(Loose):
    """``spec.rules.http.paths`` of Ingress."""

    backend: Backend
    path: str | None = None
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"] | None = None


class IngressHttp(Loose):
    """``spec.rules.http`` of Ingress."""

    paths: list[IngressPath]


class IngressRule(Loose):
    """``spec.rules`` of Ingress."""

    host: str | None = None
    http: IngressHttp | None = None


class IngressTls(Loose):
    """``spec.tls`` of Ingress."""

    hosts: list[str] | None = None
    secret_name: str | None = None


class IngressSpec(Loose):
    """``spec`` of Ingress."""

    ingress_class_name: str | None = None
    default_backend: Backend | None = None
    rules: list[IngressRule] | None = None
    tls: list[IngressTls] | None = None


class Ingress(KubernetesResource):
    """Kubernetes' Ingress."""

    kind: Literal["Ingress"]
    spec: IngressSpec = Field(default_factory=IngressSpec)


class IngressClassSpec(Loose):
    """``spec`` of IngressClass."""

    controller: str | None = None


class IngressClass(KubernetesResource):
    """Kubernetes' IngressClass."""

    kind: Literal["IngressClass"]
    spec: IngressClassSpec = Field(default_factory=IngressClassSpec)
