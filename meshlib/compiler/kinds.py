"""The resources that make a configuration, by kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.resources import typed
from meshlib.resources.proxy_annotation import annotation_text

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.kubernetes import Deployment, Pod


class Kinds:
    """Each kind in the order of reading."""

    __slots__ = (
        "annotated",
        "authorization_policies",
        "destination_rules",
        "envoy_filters",
        "gateways",
        "ingress_classes",
        "ingresses",
        "local_endpoints",
        "mesh_config_maps",
        "mesh_configs",
        "peer_authentications",
        "proxy_configs",
        "request_authentications",
        "resilience_policies",
        "secrets",
        "services",
        "sidecars",
        "telemetries",
        "virtual_services",
    )

    def __init__(self, resources: Iterable[Resource]) -> None:
        by_kind: dict[str, list[Resource]] = {}
        for resource in resources:
            take_turns()
            by_kind.setdefault(resource.kind, []).append(resource)
        self.virtual_services = typed.VIRTUAL_SERVICE.among(by_kind.get("VirtualService", ()))
        self.destination_rules = typed.DESTINATION_RULE.among(by_kind.get("DestinationRule", ()))
        self.resilience_policies = typed.RESILIENCE_POLICY.among(by_kind.get("ResiliencePolicy", ()))
        self.local_endpoints = typed.LOCAL_ENDPOINTS.among(by_kind.get("LocalEndpoints", ()))
        self.sidecars = typed.SIDECAR.among(by_kind.get("Sidecar", ()))
        self.gateways = typed.GATEWAY.among(by_kind.get("Gateway", ()))
        self.ingresses = typed.INGRESS.among(by_kind.get("Ingress", ()))
        self.ingress_classes = typed.INGRESS_CLASS.among(by_kind.get("IngressClass", ()))
        self.envoy_filters = typed.ENVOY_FILTER.among(by_kind.get("EnvoyFilter", ()))
        self.mesh_configs = typed.MESH_CONFIG.among(by_kind.get("MeshConfig", ()))
        self.mesh_config_maps = typed.CONFIG_MAP.among(by_kind.get("ConfigMap", ()))
        self.services = typed.SERVICE.among(by_kind.get("Service", ()))
        self.secrets = typed.SECRET.among(by_kind.get("Secret", ()))
        self.authorization_policies = typed.AUTHORIZATION_POLICY.among(by_kind.get("AuthorizationPolicy", ()))
        self.peer_authentications = typed.PEER_AUTHENTICATION.among(by_kind.get("PeerAuthentication", ()))
        self.request_authentications = typed.REQUEST_AUTHENTICATION.among(by_kind.get("RequestAuthentication", ()))
        self.telemetries = typed.TELEMETRY.among(by_kind.get("Telemetry", ()))
        self.proxy_configs = typed.PROXY_CONFIG.among(by_kind.get("ProxyConfig", ()))
        self.annotated: list[Deployment | Pod] = [
            *(r for r in typed.DEPLOYMENT.among(by_kind.get("Deployment", ())) if annotation_text(r)),
            *(r for r in typed.POD.among(by_kind.get("Pod", ())) if annotation_text(r)),
        ]
        """Those with the annotation proxy.istio.io/config."""
