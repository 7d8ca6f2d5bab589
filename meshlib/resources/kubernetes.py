"""The Kubernetes kinds that discovery needs: only what matters is typed, everything else is accepted and ignored."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import IntOrString


class Loose(Model):
    """Base of Kubernetes objects: fields that mean nothing here pass."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class KubernetesResource(Resource):
    """Base of Kubernetes kinds."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class ServicePort(Loose):
    """``spec.ports`` of Service."""

    port: int
    name: str | None = None
    protocol: str | None = None
    target_port: IntOrString | None = None
    app_protocol: str | None = None
    node_port: int | None = None


class ServiceSpec(Loose):
    """``spec`` of Service."""

    ports: list[ServicePort] | None = None
    selector: dict[str, str] | None = None
    cluster_ip: str | None = Field(default=None, alias="clusterIP")
    cluster_ips: list[str] | None = Field(default=None, alias="clusterIPs")
    type: str | None = None
    external_name: str | None = None
    publish_not_ready_addresses: bool | None = None
    traffic_distribution: str | None = None


class Service(KubernetesResource):
    """A Kubernetes Service."""

    kind: Literal["Service"]
    spec: ServiceSpec = Field(default_factory=ServiceSpec)


class ObjectReference(Loose):
    """A reference to a Pod."""

    kind: str | None = None
    name: str | None = None
    namespace: str | None = None


class EndpointAddress(Loose):
    """``subsets.addresses`` of Endpoints."""

    ip: str
    hostname: str | None = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Loose):
    """A port of Endpoints or EndpointSlice."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSubset(Loose):
    """``subsets`` of Endpoints."""

    addresses: list[EndpointAddress] | None = None
    not_ready_addresses: list[EndpointAddress] | None = None
    ports: list[EndpointPort] | None = None


class Endpoints(KubernetesResource):
    """Kubernetes Endpoints, the older form of EndpointSlice."""

    kind: Literal["Endpoints"]
    subsets: list[EndpointSubset] | None = None


class EndpointConditions(Loose):
    """``endpoints.conditions`` of EndpointSlice."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class SliceEndpoint(Loose):
    """``endpoints`` of EndpointSlice."""

    addresses: list[str]
    conditions: EndpointConditions | None = None
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None


class EndpointSlice(KubernetesResource):
    """A Kubernetes EndpointSlice."""

    kind: Literal["EndpointSlice"]
    address_type: str | None = None
    endpoints: list[SliceEndpoint] | None = None
    ports: list[EndpointPort] | None = None


class ContainerPort(Loose):
    """``spec.containers.ports`` of Pod."""

    container_port: int
    name: str | None = None
    protocol: str | None = None


class Container(Loose):
    """``spec.containers`` of Pod."""

    name: str | None = None
    ports: list[ContainerPort] | None = None


class PodSpec(Loose):
    """``spec`` of Pod."""

    containers: list[Container] | None = None
    service_account_name: str | None = None
    node_name: str | None = None
    hostname: str | None = None


class PodCondition(Loose):
    """``status.conditions`` of Pod."""

    type: str
    status: str


class PodStatus(Loose):
    """``status`` of Pod."""

    pod_ip: str | None = Field(default=None, alias="podIP")
    phase: str | None = None
    conditions: list[PodCondition] | None = None


class Pod(KubernetesResource):
    """A Kubernetes Pod."""

    kind: Literal["Pod"]
    spec: PodSpec = Field(default_factory=PodSpec)
    status: PodStatus | None = None


class PodTemplateMetadata(Loose):
    """``spec.template.metadata`` of Deployment."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class PodTemplate(Loose):
    """``spec.template`` of Deployment."""

    metadata: PodTemplateMetadata | None = None
    spec: PodSpec | None = None


class DeploymentSpec(Loose):
    """``spec`` of Deployment."""

    replicas: int | None = None
    template: PodTemplate | None = None
    selector: dict[str, object] | None = None


class Deployment(KubernetesResource):
    """A Kubernetes Deployment: gives no address, but says which Pods are to be expected."""

    kind: Literal["Deployment"]
    spec: DeploymentSpec = Field(default_factory=DeploymentSpec)


class Namespace(KubernetesResource):
    """A Kubernetes Namespace."""

    kind: Literal["Namespace"]


class ServiceAccount(KubernetesResource):
    """A Kubernetes ServiceAccount."""

    kind: Literal["ServiceAccount"]


class Secret(KubernetesResource):
    """A Kubernetes Secret. Its values never appear in messages or representations."""

    kind: Literal["Secret"]
    type: str | None = None
    data: dict[str, str] | None = Field(default=None, repr=False)
    string_data: dict[str, str] | None = Field(default=None, repr=False)
