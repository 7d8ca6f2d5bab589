"""The resources that make a configuration, by kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.resources import typed

if TYPE_CHECKING:
    from meshlib.resources.base import Resource


class Kinds:
    """Each kind in the order of reading."""

    __slots__ = (
        "destination_rules",
        "envoy_filters",
        "gateways",
        "resilience_policies",
        "services",
        "sidecars",
        "virtual_services",
    )

    def __init__(self, resources: Iterable[Resource]) -> None:
        by_kind: dict[str, list[Resource]] = {}
        for resource in resources:
            take_turns()
            by_kind.setdefault(resource.kind, []).append(resource)
        self.virtual_services = [r for r in by_kind.get("VirtualService", ()) if typed.is_virtual_service(r)]
        self.destination_rules = [r for r in by_kind.get("DestinationRule", ()) if typed.is_destination_rule(r)]
        self.resilience_policies = [r for r in by_kind.get("ResiliencePolicy", ()) if typed.is_resilience_policy(r)]
        self.sidecars = [r for r in by_kind.get("Sidecar", ()) if typed.is_sidecar(r)]
        self.gateways = [r for r in by_kind.get("Gateway", ()) if typed.is_gateway(r)]
        self.envoy_filters = [r for r in by_kind.get("EnvoyFilter", ()) if typed.is_envoy_filter(r)]
        self.services = [r for r in by_kind.get("Service", ()) if typed.is_service(r)]
