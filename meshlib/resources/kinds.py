"""Which model reads which apiVersion and kind. Modules are imported when first needed."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from meshlib.resources.base import Resource


class Kind(NamedTuple):
    """Where a kind's model is, and the versions of its API group that it reads (the first is the current one)."""

    group: str
    versions: tuple[str, ...]
    module: str


_NETWORKING = ("networking.istio.io", ("v1", "v1beta1", "v1alpha3"))
_SECURITY = ("security.istio.io", ("v1", "v1beta1"))
_EXTENSIONS = ("extensions.istio.io", ("v1alpha1",))
_CORE = ("", ("v1",))

KINDS: dict[str, Kind] = {
    "VirtualService": Kind(*_NETWORKING, "virtual_service"),
    "DestinationRule": Kind(*_NETWORKING, "destination_rule"),
    "ServiceEntry": Kind(*_NETWORKING, "service_entry"),
    "WorkloadEntry": Kind(*_NETWORKING, "workload"),
    "WorkloadGroup": Kind(*_NETWORKING, "workload_group"),
    "Gateway": Kind(*_NETWORKING, "gateway"),
    "Sidecar": Kind(*_NETWORKING, "sidecar"),
    "EnvoyFilter": Kind("networking.istio.io", ("v1alpha3",), "envoy_filter"),
    "ProxyConfig": Kind("networking.istio.io", ("v1beta1",), "proxy_config"),
    "AuthorizationPolicy": Kind(*_SECURITY, "authorization_policy"),
    "PeerAuthentication": Kind(*_SECURITY, "peer_authentication"),
    "RequestAuthentication": Kind(*_SECURITY, "request_authentication"),
    "Telemetry": Kind("telemetry.istio.io", ("v1", "v1alpha1"), "telemetry"),
    "WasmPlugin": Kind(*_EXTENSIONS, "wasm_plugin"),
    "TrafficExtension": Kind(*_EXTENSIONS, "traffic_extension"),
    "Service": Kind(*_CORE, "kubernetes"),
    "Endpoints": Kind(*_CORE, "kubernetes"),
    "Pod": Kind(*_CORE, "kubernetes"),
    "Namespace": Kind(*_CORE, "kubernetes"),
    "ServiceAccount": Kind(*_CORE, "kubernetes"),
    "Secret": Kind(*_CORE, "kubernetes"),
    "EndpointSlice": Kind("discovery.k8s.io", ("v1", "v1beta1"), "kubernetes"),
    "Deployment": Kind("apps", ("v1", "v1beta2", "v1beta1"), "kubernetes"),
    "Ingress": Kind("networking.k8s.io", ("v1",), "ingress"),
    "IngressClass": Kind("networking.k8s.io", ("v1",), "ingress"),
    "ConfigMap": Kind(*_CORE, "mesh_config"),
    "MeshConfig": Kind("meshlib.dev", ("v1",), "mesh_config"),
    "ResiliencePolicy": Kind("meshlib.dev", ("v1",), "resilience"),
    "LocalEndpoints": Kind("meshlib.dev", ("v1",), "local_endpoints"),
}


def split_api_version(api_version: str) -> tuple[str, str]:
    """``("apps", "v1")`` of ``apps/v1``; the core group is ""."""
    group, slash, version = api_version.partition("/")
    return (group, version) if slash else ("", group)


def model_for(api_version: str, kind: str) -> type[Resource] | None:
    """The model that reads this kind in this group and version; None when meshlib has none."""
    known = KINDS.get(kind)
    group, version = split_api_version(api_version)
    if known is None or known.group != group or version not in known.versions:
        return None
    return _load(known.module, kind)


@functools.cache
def _load(module: str, kind: str) -> type[Resource]:
    found: type[Resource] = getattr(importlib.import_module(f"meshlib.resources.{module}"), kind)
    return found


def all_models() -> dict[str, type[Resource]]:
    """Every kind's model, by kind."""
    return {kind: _load(known.module, kind) for kind, known in KINDS.items()}
