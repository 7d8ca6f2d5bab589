"""Which rules judge a resource beyond its types, by kind: what Istio's validation refuses, and what is worth saying although it
loads. The rules know the models, not the other way round; they are imported when the first resource of their kind is read."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from meshlib.resources.notices import Notice

Rule = Callable[[object], Iterable[Notice]]
"""Gives notices about one resource of the kind that it is for, each at its own field."""


class Rules(NamedTuple):
    """Of one kind."""

    refusals: Rule
    notices: tuple[Rule, ...]


_MODULES = {
    "VirtualService": ("virtual_service:refusals", "virtual_service:warnings", "virtual_service_notices:notices"),
    "DestinationRule": ("destination_rule:refusals", "destination_rule:warnings", "destination_rule_notices:notices"),
    "ServiceEntry": ("service_entry:refusals", "service_entry:warnings"),
    "WorkloadEntry": ("workload_entry:refusals", "workload_entry:warnings"),
    "WorkloadGroup": ("workload_group:refusals",),
    "Gateway": ("gateway:refusals", "gateway:warnings"),
    "Ingress": ("ingress:refusals",),
    "Sidecar": ("sidecar:refusals", "sidecar:warnings"),
    "EnvoyFilter": ("envoy_filter:refusals", "envoy_filter:warnings"),
    "ProxyConfig": ("proxy_config:refusals", "proxy_config:warnings"),
    "AuthorizationPolicy": ("authorization_policy:refusals", "authorization_policy:warnings"),
    "PeerAuthentication": ("peer_authentication:refusals", "peer_authentication:warnings"),
    "RequestAuthentication": ("request_authentication:refusals", "request_authentication:warnings"),
    "MeshConfig": ("mesh_config:refusals", "mesh_config:warnings"),
    "ConfigMap": ("mesh_config:refusals", "mesh_config:warnings"),
    "Telemetry": ("telemetry:refusals", "telemetry:warnings"),
    "ResiliencePolicy": ("resilience_policy:refusals",),
    "LocalEndpoints": ("local_endpoints:refusals",),
    "WasmPlugin": ("extensions:wasm_plugin_refusals", "extensions:selector_notices"),
    "TrafficExtension": ("extensions:traffic_extension_refusals", "extensions:selector_notices"),
}
"""Modules of ``validation/`` and their functions: what refuses, then what only warns."""


def _nothing(_resource: object) -> Iterable[Notice]:
    return ()


@functools.cache
def rules_of(kind: str) -> Rules:
    """The rules of a kind; those of a kind without any say nothing."""
    found = [_load(*name.split(":")) for name in _MODULES.get(kind, ())]
    return Rules(found[0], tuple(found[1:])) if found else Rules(_nothing, ())


def _load(module: str, function: str) -> Rule:
    rule: Rule = getattr(importlib.import_module(f"meshlib.resources.validation.{module}"), function)
    return rule
