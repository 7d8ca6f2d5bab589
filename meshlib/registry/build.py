"""``RegistryBuilder``: all services out of all resources. The order is stable, oldest first.

Building again costs what has changed: a service whose resource and workloads are the same objects as last time stays the
same object, so that whoever compiles from it can see at once that nothing about it is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meshlib.errors import Problem
from meshlib.pace import in_turns, take_turns
from meshlib.registry.kubernetes import KubernetesServices
from meshlib.registry.names import DOMAIN
from meshlib.registry.service import Endpoint, Registry, Service
from meshlib.registry.service_entry import instances_of, services_of
from meshlib.registry.workloads import WorkloadInstance, Workloads, from_pod, from_workload_entry

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

SERVICE_NAME = "kubernetes.io/service-name"


def build_registry(resources: Iterable[Resource], domain: str = DOMAIN) -> Registry:
    """Services with their endpoints. What is worth saying is in ``problems``."""
    return RegistryBuilder(domain).build(resources)


class _Memo:
    """Values by the identity of what they were made of. Holds its keys, so that an identity is not given away, and
    forgets at each ``turn`` what the last build did not use."""

    def __init__(self) -> None:
        self._old: dict[tuple[int, ...], tuple[Sequence[Any], Any]] = {}
        self._new: dict[tuple[int, ...], tuple[Sequence[Any], Any]] = {}

    def turn(self) -> None:
        self._old, self._new = self._new, {}

    def get(self, parts: Sequence[Any]) -> Any:
        key = tuple(map(id, parts))
        found = self._new.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self._new[key] = found
        return found[1]

    def put(self, parts: Sequence[Any], value: Any) -> None:
        self._new[tuple(map(id, parts))] = (parts, value)


class RegistryBuilder:
    """Builds registries, one after the other. Not for several threads at once."""

    def __init__(self, domain: str = DOMAIN) -> None:
        self._domain = domain
        self._instances = _Memo()
        self._services = _Memo()

    def build(self, resources: Iterable[Resource]) -> Registry:
        """Services with their endpoints. What is worth saying is in ``problems``."""
        self._instances.turn()
        self._services.turn()
        kinds: dict[str, list[Any]] = {}
        for resource in in_turns(resources):
            kinds.setdefault(resource.kind, []).append(resource)
        workloads = Workloads(self._workloads(kinds))
        slices: dict[tuple[str, str], list[Any]] = {}
        for piece in kinds.get("EndpointSlice", ()):
            owner = piece.labels.get(SERVICE_NAME, "")
            if owner:
                slices.setdefault((piece.namespace, owner), []).append(piece)
        endpoints = {(e.namespace, e.name): e for e in kinds.get("Endpoints", ())}
        kubernetes = KubernetesServices(workloads, slices, endpoints, kinds.get("Deployment", []), self._domain)
        problems: list[Problem] = []
        services = [self._kubernetes(kubernetes, s, problems) for s in sorted(kinds.get("Service", ()), key=_age)]
        entries: dict[tuple[str, str], list[Service]] = {}
        for entry in sorted(kinds.get("ServiceEntry", ()), key=_age):
            for service in self._entry(entry, workloads):
                entries.setdefault((service.namespace, service.host), []).append(service)
        services += [self._pooled(same) for same in entries.values()]
        return Registry(services, problems)

    def _workloads(self, kinds: dict[str, list[Any]]) -> Iterator[WorkloadInstance]:
        for pod in kinds.get("Pod", ()):
            take_turns()
            found = self._instances.get((pod,))
            if found is None:
                found = from_pod(pod)
                self._instances.put((pod,), found or False)
            if found:
                yield found
        for entry in kinds.get("WorkloadEntry", ()):
            take_turns()
            found = self._instances.get((entry,))
            if found is None:
                found = from_workload_entry(entry.spec, entry.name, entry.namespace, entry.labels)
                self._instances.put((entry,), found or False)
            if found:
                yield found

    def _kubernetes(self, kubernetes: KubernetesServices, resource: Any, problems: list[Problem]) -> Service:
        take_turns()
        parts = (resource, *kubernetes.sources(resource))
        found: Service | None = self._services.get(parts)
        if found is None:
            found = kubernetes.build(resource)
            if kubernetes.problems:  # said again at each build: only services without any are remembered
                problems += kubernetes.problems
                kubernetes.problems = []
            else:
                self._services.put(parts, found)
        return found

    def _entry(self, entry: Any, workloads: Workloads) -> list[Service]:
        take_turns()
        parts = (entry, *instances_of(entry, workloads)) if entry.spec.workload_selector is not None else (entry,)
        found: list[Service] | None = self._services.get(parts)
        if found is None:
            found = list(services_of(entry, workloads, self._domain))
            self._services.put(parts, found)
        return found

    def _pooled(self, same: Sequence[Service]) -> Service:
        """Several ServiceEntries of one host in one namespace: the oldest defines it, endpoints of all are pooled."""
        first = same[0]
        if len(same) == 1:
            return first
        pooled: Service | None = self._services.get(same)
        if pooled is None:
            ports = {p.number: p for s in reversed(same) for p in s.ports}
            endpoints: dict[int, tuple[Endpoint, ...]] = {}
            for number in ports:
                unique = {e.key: e for s in reversed(same) for e in s.endpoints.get(number, ())}
                endpoints[number] = tuple(sorted(unique.values(), key=lambda e: e.key))
            pooled = replace(first, ports=tuple(ports.values()), endpoints=endpoints)
            self._services.put(same, pooled)
        return pooled


def _age(resource: Any) -> tuple[str, str, str, int]:
    take_turns()
    key: tuple[str, str, str, int] = resource.age_key
    return key
