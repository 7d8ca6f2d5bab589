"""``build_registry``: all services out of all resources. Pure; the order is stable, oldest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meshlib.registry.kubernetes import KubernetesServices
from meshlib.registry.names import DOMAIN
from meshlib.registry.service import Endpoint, Registry, Service
from meshlib.registry.service_entry import services_of
from meshlib.registry.workloads import WorkloadInstance, Workloads, from_pod, from_workload_entry

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

SERVICE_NAME = "kubernetes.io/service-name"


def build_registry(resources: Iterable[Resource], domain: str = DOMAIN) -> Registry:
    """Services with their endpoints. What is worth saying is in ``problems``."""
    kinds: dict[str, list[Any]] = {}
    for resource in resources:
        kinds.setdefault(resource.kind, []).append(resource)
    workloads = Workloads(_instances(kinds))
    slices: dict[tuple[str, str], list[Any]] = {}
    for piece in kinds.get("EndpointSlice", ()):
        owner = piece.labels.get(SERVICE_NAME, "")
        if owner:
            slices.setdefault((piece.namespace, owner), []).append(piece)
    endpoints = {(e.namespace, e.name): e for e in kinds.get("Endpoints", ())}
    kubernetes = KubernetesServices(workloads, slices, endpoints, kinds.get("Deployment", []), domain)
    services = [kubernetes.build(s) for s in sorted(kinds.get("Service", ()), key=_age)]
    entries: dict[tuple[str, str], list[Service]] = {}
    for entry in sorted(kinds.get("ServiceEntry", ()), key=_age):
        for service in services_of(entry, workloads, domain):
            entries.setdefault((service.namespace, service.host), []).append(service)
    services += [_pooled(same) for same in entries.values()]
    return Registry(services, kubernetes.problems)


def _age(resource: Any) -> tuple[str, str, str, int]:
    key: tuple[str, str, str, int] = resource.age_key
    return key


def _instances(kinds: dict[str, list[Any]]) -> Iterable[WorkloadInstance]:
    for pod in kinds.get("Pod", ()):
        instance = from_pod(pod)
        if instance is not None:
            yield instance
    for entry in kinds.get("WorkloadEntry", ()):
        instance = from_workload_entry(entry.spec, entry.name, entry.namespace, entry.labels)
        if instance is not None:
            yield instance


def _pooled(same: Sequence[Service]) -> Service:
    """Several ServiceEntries of one host in one namespace: the oldest defines it, endpoints of all are pooled."""
    first = same[0]
    if len(same) == 1:
        return first
    ports = {p.number: p for s in reversed(same) for p in s.ports}
    endpoints: dict[int, tuple[Endpoint, ...]] = {}
    for number in ports:
        unique = {e.key: e for s in reversed(same) for e in s.endpoints.get(number, ())}
        endpoints[number] = tuple(sorted(unique.values(), key=lambda e: e.key))
    return replace(first, ports=tuple(ports.values()), endpoints=endpoints)
