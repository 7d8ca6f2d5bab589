"""From a resource whose kind was read to its type. Looks at ``kind`` alone, so that no model is imported that nothing uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from meshlib.resources import kubernetes
    from meshlib.resources.base import Resource
    from meshlib.resources.destination_rule import DestinationRule
    from meshlib.resources.envoy_filter import EnvoyFilter
    from meshlib.resources.gateway import Gateway
    from meshlib.resources.resilience import ResiliencePolicy
    from meshlib.resources.service_entry import ServiceEntry
    from meshlib.resources.sidecar import Sidecar
    from meshlib.resources.virtual_service import VirtualService
    from meshlib.resources.workload import WorkloadEntry


def is_virtual_service(resource: Resource) -> TypeGuard[VirtualService]:
    return resource.kind == "VirtualService"


def is_destination_rule(resource: Resource) -> TypeGuard[DestinationRule]:
    return resource.kind == "DestinationRule"


def is_resilience_policy(resource: Resource) -> TypeGuard[ResiliencePolicy]:
    return resource.kind == "ResiliencePolicy"


def is_sidecar(resource: Resource) -> TypeGuard[Sidecar]:
    return resource.kind == "Sidecar"


def is_gateway(resource: Resource) -> TypeGuard[Gateway]:
    return resource.kind == "Gateway"


def is_envoy_filter(resource: Resource) -> TypeGuard[EnvoyFilter]:
    return resource.kind == "EnvoyFilter"


def is_service_entry(resource: Resource) -> TypeGuard[ServiceEntry]:
    return resource.kind == "ServiceEntry"


def is_workload_entry(resource: Resource) -> TypeGuard[WorkloadEntry]:
    return resource.kind == "WorkloadEntry"


def is_service(resource: Resource) -> TypeGuard[kubernetes.Service]:
    return resource.kind == "Service"


def is_pod(resource: Resource) -> TypeGuard[kubernetes.Pod]:
    return resource.kind == "Pod"


def is_endpoint_slice(resource: Resource) -> TypeGuard[kubernetes.EndpointSlice]:
    return resource.kind == "EndpointSlice"


def is_endpoints(resource: Resource) -> TypeGuard[kubernetes.Endpoints]:
    return resource.kind == "Endpoints"


def is_deployment(resource: Resource) -> TypeGuard[kubernetes.Deployment]:
    return resource.kind == "Deployment"
