"""From a resource to its type, by its kind. The models themselves are not imported, so that none is made that nothing uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeGuard, TypeVar

if TYPE_CHECKING:
    from meshlib.resources import kubernetes
    from meshlib.resources.authorization_policy import AuthorizationPolicy
    from meshlib.resources.base import Resource
    from meshlib.resources.destination_rule import DestinationRule
    from meshlib.resources.envoy_filter import EnvoyFilter
    from meshlib.resources.gateway import Gateway
    from meshlib.resources.ingress import Ingress, IngressClass
    from meshlib.resources.local_endpoints import LocalEndpoints
    from meshlib.resources.mesh_config import ConfigMap, MeshConfig
    from meshlib.resources.peer_authentication import PeerAuthentication
    from meshlib.resources.proxy_config import ProxyConfig
    from meshlib.resources.request_authentication import RequestAuthentication
    from meshlib.resources.resilience import ResiliencePolicy
    from meshlib.resources.service_entry import ServiceEntry
    from meshlib.resources.sidecar import Sidecar
    from meshlib.resources.telemetry import Telemetry
    from meshlib.resources.virtual_service import VirtualService
    from meshlib.resources.wasm_plugin import WasmPlugin
    from meshlib.resources.workload import WorkloadEntry
    from meshlib.resources.workload_group import WorkloadGroup

R = TypeVar("R", bound="Resource")


class Typed(Generic[R]):
    """A kind, and the type of what is of it."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def is_kind_of(self, resource: Resource) -> TypeGuard[R]:
        """Whether it is of this kind."""
        return resource.kind == self.kind

    def among(self, resources: Iterable[Resource]) -> list[R]:
        """Those of this kind, in the same order."""
        return [resource for resource in resources if self.is_kind_of(resource)]


VIRTUAL_SERVICE: Typed[VirtualService] = Typed("VirtualService")
DESTINATION_RULE: Typed[DestinationRule] = Typed("DestinationRule")
SERVICE_ENTRY: Typed[ServiceEntry] = Typed("ServiceEntry")
WORKLOAD_ENTRY: Typed[WorkloadEntry] = Typed("WorkloadEntry")
WORKLOAD_GROUP: Typed[WorkloadGroup] = Typed("WorkloadGroup")
GATEWAY: Typed[Gateway] = Typed("Gateway")
SIDECAR: Typed[Sidecar] = Typed("Sidecar")
ENVOY_FILTER: Typed[EnvoyFilter] = Typed("EnvoyFilter")
AUTHORIZATION_POLICY: Typed[AuthorizationPolicy] = Typed("AuthorizationPolicy")
PEER_AUTHENTICATION: Typed[PeerAuthentication] = Typed("PeerAuthentication")
REQUEST_AUTHENTICATION: Typed[RequestAuthentication] = Typed("RequestAuthentication")
WASM_PLUGIN: Typed[WasmPlugin] = Typed("WasmPlugin")
TELEMETRY: Typed[Telemetry] = Typed("Telemetry")
PROXY_CONFIG: Typed[ProxyConfig] = Typed("ProxyConfig")
MESH_CONFIG: Typed[MeshConfig] = Typed("MeshConfig")
CONFIG_MAP: Typed[ConfigMap] = Typed("ConfigMap")
RESILIENCE_POLICY: Typed[ResiliencePolicy] = Typed("ResiliencePolicy")
LOCAL_ENDPOINTS: Typed[LocalEndpoints] = Typed("LocalEndpoints")
SERVICE: Typed[kubernetes.Service] = Typed("Service")
ENDPOINTS: Typed[kubernetes.Endpoints] = Typed("Endpoints")
ENDPOINT_SLICE: Typed[kubernetes.EndpointSlice] = Typed("EndpointSlice")
POD: Typed[kubernetes.Pod] = Typed("Pod")
DEPLOYMENT: Typed[kubernetes.Deployment] = Typed("Deployment")
NAMESPACE: Typed[kubernetes.Namespace] = Typed("Namespace")
INGRESS: Typed[Ingress] = Typed("Ingress")
INGRESS_CLASS: Typed[IngressClass] = Typed("IngressClass")
SECRET: Typed[kubernetes.Secret] = Typed("Secret")
