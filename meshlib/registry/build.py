"""``RegistryBuilder``: all services out of all resources. The order is stable, oldest first.

It is told what has changed and makes again what that touches:

| a change of | touches |
|---|---|
| Service, ServiceEntry | the services it defines, and those of its hosts that are pooled with them |
| EndpointSlice, Endpoints | the Service of their name |
| Pod, WorkloadEntry | who selects its labels, and whose slices or Endpoints name the pod |
| Deployment | the Services of its namespace that have no endpoints, as they say so |
| LocalEndpoints | the hosts that it names |
| VirtualService, DestinationRule | with ``dns``, the hosts that only they name |

A service that would be made of the same objects stays the same object, so that whoever compiles from it can see at once that
nothing about it is new.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import is_, itemgetter
from typing import TYPE_CHECKING, TypeVar

from meshlib.changes import Change, Dependents, everything
from meshlib.pace import take_turns
from meshlib.problems import Problem
from meshlib.registry.aliases import aliases_by_host
from meshlib.registry.automatic import AutomaticAddresses
from meshlib.registry.cluster_dns import NamedHosts, by_name
from meshlib.registry.definitions import pooled
from meshlib.registry.kubernetes import KubernetesServices
from meshlib.registry.local import LocalHosts
from meshlib.registry.names import DOMAIN
from meshlib.registry.registry import Registry
from meshlib.registry.service import Service
from meshlib.registry.service_entry import instances_of, services_of
from meshlib.registry.workloads import (
    WorkloadInstance,
    WorkloadKey,
    Workloads,
    from_pod,
    from_workload_entry,
    selection_key,
)
from meshlib.resources.typed import (
    DEPLOYMENT,
    DESTINATION_RULE,
    ENDPOINT_SLICE,
    ENDPOINTS,
    LOCAL_ENDPOINTS,
    POD,
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
)

if TYPE_CHECKING:
    from meshlib.resources import kubernetes as written
    from meshlib.resources.base import Resource
    from meshlib.resources.service_entry import ServiceEntry
    from meshlib.resources.workload import WorkloadEntry

    Unit = written.Service | ServiceEntry

K = TypeVar("K")
R = TypeVar("R")

SERVICE_NAME = "kubernetes.io/service-name"


def build_registry(
    resources: Iterable[Resource],
    domain: str = DOMAIN,
    client_namespace: str = "default",
    *,
    dns: bool = False,
    automatic: bool = False,
) -> Registry:
    """Services with their endpoints. What is worth saying is in ``problems``."""
    return RegistryBuilder(domain, client_namespace, dns=dns, automatic=automatic).take(everything(resources))


class RegistryBuilder:
    """The registry of resources that change: one after a change from nothing, and then one after each further change. Not for
    several threads at once; of no use any more once ``take`` has raised. ``client_namespace`` is whose hosts people write
    short; ``dns``: what has no endpoints is called at its name (``cluster_dns.py``); ``automatic``: what has no addresses gets
    some (``automatic.py``)."""

    def __init__(
        self, domain: str = DOMAIN, client_namespace: str = "default", *, dns: bool = False, automatic: bool = False
    ) -> None:
        self._automatic = AutomaticAddresses() if automatic else None
        self._client = client_namespace
        self._dns = dns
        self._named_hosts = NamedHosts(domain, destinations=dns)
        self._workloads = Workloads()
        self._instances: dict[int, WorkloadInstance] = {}  # by identity of the resource, as all that is made of one
        self._slices: dict[tuple[str, str], list[tuple[int, written.EndpointSlice]]] = {}
        self._endpoints: dict[tuple[str, str], written.Endpoints] = {}
        self._deployments: dict[str, list[tuple[int, written.Deployment]]] = {}
        self._units: dict[int, Unit] = {}
        self._named: dict[tuple[str, str], int] = {}  # the Services among them
        self._made: dict[int, tuple[Sequence[object], Sequence[Service]]] = {}  # what of, and what
        self._problems: dict[int, list[Problem]] = {}
        self._dependents: Dependents[WorkloadKey, int] = Dependents()
        self._definitions: dict[str, tuple[Service, ...]] = {}  # by host, before they are pooled
        self._targets: dict[str, str] = {}  # what an alias stands for
        self._aliases: dict[str, tuple[str, ...]] = {}  # what stands for a host
        self._kubernetes = KubernetesServices(
            self._workloads, self._slices, self._endpoints, self._deployments, domain, client_namespace
        )
        self._touched: dict[int, None] = {}
        self._local = LocalHosts(domain)
        self._relocated: dict[str, None] = {}
        self.registry = Registry({}, [])
        self.redefined: Collection[str] = ()
        """The hosts that have other services since the last change."""

    def take(self, change: Change[Resource]) -> Registry:
        """The registry after a change. What is worth saying is in its ``problems``."""
        for resource in change.gone:
            take_turns()
            self._change(resource, None)
        for place, resource in change.come:
            take_turns()
            self._change(resource, place)
        touched, self._touched = self._touched, {}
        redefined: dict[str, list[Service]] = {}
        for unit in touched:
            take_turns()
            self._make(unit, redefined)
        relocated, self._relocated = self._relocated, {}
        for host in relocated:
            redefined.setdefault(host, list(self._definitions.get(host, ())))
        self._find_aliases(redefined)
        for host in self._automatic.renew(redefined) if self._automatic is not None else ():
            redefined.setdefault(host, list(self._definitions.get(host, ())))
        hosts = {host: self._redefine(host, new) for host, new in redefined.items()}
        self.redefined = hosts
        self.registry = self.registry.after(hosts, [*self._said(), *self._local.problems], self._named_hosts.hosts)
        return self.registry

    def _said(self) -> Iterator[Problem]:
        """Of Services: that one has no endpoints is not so where a LocalEndpoints gives them, or DNS does."""
        for unit, problems in self._problems.items():
            services = self._made[unit][1]
            if not any(service.host in self._local or (self._dns and not service.headless) for service in services):
                yield from problems
        if self._automatic is not None:
            yield from self._automatic.problems(
                (self._units[unit], services) for unit, (_, services) in self._made.items()
            )

    # -- what resources say

    def _change(self, resource: Resource, place: int | None) -> None:
        """One resource has come to its ``place`` (None: is gone)."""
        if POD.is_kind_of(resource) or WORKLOAD_ENTRY.is_kind_of(resource):
            self._workload(resource, place)
        elif ENDPOINT_SLICE.is_kind_of(resource):
            owner = resource.labels.get(SERVICE_NAME, "")
            if owner:
                _keep(self._slices, (resource.namespace, owner), resource, place)
                self._touch_named((resource.namespace, owner))
        elif ENDPOINTS.is_kind_of(resource):
            key = (resource.namespace, resource.name)
            if place is not None:
                self._endpoints[key] = resource
            else:
                self._endpoints.pop(key, None)
            self._touch_named(key)
        elif DEPLOYMENT.is_kind_of(resource):
            _keep(self._deployments, resource.namespace, resource, place)
            for unit in self._problems:
                known = self._units.get(unit)
                if known is not None and known.namespace == resource.namespace:
                    self._touched[unit] = None
        elif SERVICE.is_kind_of(resource) or SERVICE_ENTRY.is_kind_of(resource):
            self._unit(resource, place)
        elif LOCAL_ENDPOINTS.is_kind_of(resource):
            self._relocated.update(dict.fromkeys(self._local.change(resource, there=place is not None)))
        elif VIRTUAL_SERVICE.is_kind_of(resource) or DESTINATION_RULE.is_kind_of(resource):
            changed = self._named_hosts.change(resource, there=place is not None)
            if self._dns:
                self._relocated.update(dict.fromkeys(changed))

    def _workload(self, resource: written.Pod | WorkloadEntry, place: int | None) -> None:
        known = self._instances.pop(id(resource), None)
        if known is not None:
            self._workloads.remove(known)
        elif place is not None:
            if resource.kind == "Pod":
                known = from_pod(resource)
            else:
                known = from_workload_entry(resource.spec, resource.name, resource.namespace, resource.labels)
            if known is not None:
                self._instances[id(resource)] = known
                self._workloads.add(known, place)
        if known is not None:
            for key in known.found_by():
                self._touched.update(dict.fromkeys(self._dependents.of(key)))

    def _unit(self, resource: Unit, place: int | None) -> None:
        unit = id(resource)
        if place is not None:
            self._units[unit] = resource
        else:
            del self._units[unit]
        if resource.kind == "Service":
            key = (resource.namespace, resource.name)
            if place is not None:
                self._named[key] = unit
            else:
                self._kubernetes.forget(resource)
                if self._named.get(key) == unit:
                    del self._named[key]
        self._touched[unit] = None

    def _touch_named(self, key: tuple[str, str]) -> None:
        unit = self._named.get(key)
        if unit is not None:
            self._touched[unit] = None

    # -- what is made of them

    def _make(self, unit: int, redefined: dict[str, list[Service]]) -> None:
        """The services of one Service or ServiceEntry; ``redefined`` gets the definitions of hosts for which that matters."""
        resource = self._units.get(unit)
        old = self._made.get(unit)
        problems: list[Problem] = []
        made: Sequence[Service] = ()
        if resource is None:
            self._dependents.forget(unit)
            self._made.pop(unit, None)
        else:
            parts, keys = self._sources(resource)
            self._dependents.read(unit, keys)
            if old is not None and unit not in self._problems and _same_objects(parts, old[0]):
                return
            if resource.kind == "Service":
                made = (self._kubernetes.build(resource, problems),)
            else:
                made = tuple(services_of(resource, self._workloads))
            self._made[unit] = (parts, made)
        self._problems.pop(unit, None)
        if problems:
            self._problems[unit] = problems
        gone = old[1] if old is not None else ()
        for host in dict.fromkeys(service.host for service in (*gone, *made)):
            if host not in redefined:
                redefined[host] = list(self._definitions.get(host, ()))
            redefined[host] = [s for s in redefined[host] if not any(s is other for other in gone)]
            redefined[host] += [s for s in made if s.host == host]

    def _sources(self, resource: Unit) -> tuple[Sequence[object], Sequence[WorkloadKey]]:
        """The objects that a Service or ServiceEntry is made a service of, and the workloads whose change changes that."""
        if resource.kind == "Service":
            return self._kubernetes.sources(resource), self._kubernetes.reads(resource)
        selector = resource.spec.workload_selector
        if selector is None:
            return (), ()
        return instances_of(resource, self._workloads), [selection_key(resource.namespace, selector.labels or {})]

    def _find_aliases(self, redefined: dict[str, list[Service]]) -> None:
        """What stands for what; hosts that have other aliases now are ``redefined``, too."""
        before = {host: target for host in redefined if (target := self._targets.get(host)) is not None}
        after = {
            host: s.alias
            for host, services in redefined.items()
            for s in services
            if s.alias and host not in self._local
        }
        if before == after:
            return
        for host in before:
            del self._targets[host]
        self._targets.update(after)
        old, self._aliases = self._aliases, aliases_by_host(self._targets)
        for host in {*old, *self._aliases}:
            if old.get(host) != self._aliases.get(host):
                redefined.setdefault(host, list(self._definitions.get(host, ())))

    def _redefine(self, host: str, definitions: list[Service]) -> tuple[Service, ...]:
        """What is served of one host, of these definitions."""
        definitions.sort(key=lambda service: service.age)
        if definitions:
            self._definitions[host] = tuple(definitions)
        else:
            self._definitions.pop(host, None)
        aliases = self._aliases.get(host)
        if aliases is not None:
            definitions = [replace(service, aliases=aliases) for service in definitions]
        made = self._local.services(host, pooled(definitions))
        if self._dns and host not in self._local:
            made = by_name(host, made, host in self._named_hosts, self._client)
        if self._automatic is not None:
            made = [self._automatic.of(service) for service in made]
        return tuple(made)


def _keep(table: dict[K, list[tuple[int, R]]], key: K, resource: R, place: int | None) -> None:
    """A resource in a table of lists in the order of places."""
    if place is not None:
        insort(table.setdefault(key, []), (place, resource), key=itemgetter(0))
        return
    there = table[key]
    there[:] = [entry for entry in there if entry[1] is not resource]
    if not there:
        del table[key]


def _same_objects(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))
