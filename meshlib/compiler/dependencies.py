"""What depends on what: from a resource that changes to the hosts whose virtual hosts and clusters are made anew, and from
those to the part of the configuration that this takes. Who adds a kind of resource, or has a virtual host look at something
more, says it here.

| a change of | touches |
|---|---|
| what services are made of | the hosts whose services are other ones (``registry/build.py`` has the table) |
| VirtualService | the hosts it claims; a delegate: those of its roots |
| DestinationRule | its host |
| ResiliencePolicy | its hosts |
| Sidecar, EnvoyFilter, AuthorizationPolicy, RequestAuthentication, MeshConfig, ConfigMap, Telemetry, ProxyConfig | everything |
| the workload's own Pod or Deployment, where it has the annotation proxy.istio.io/config | everything |
| anything with a wildcard | everything |
| other kinds | nothing: of them there is only something to be said |

A touched host touches the hosts whose rules or fallbacks lead to it (not when it is just claimed by another VirtualService),
and those that are another name of it. Hosts of one VirtualService are made together. What is made of a host takes: its
services, VirtualServices with their delegates, DestinationRules (wildcards too) and ResiliencePolicies, and the services,
DestinationRules and ResiliencePolicies of every host that its rules lead to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from meshlib.changes import Dependents
from meshlib.compiler.port_counts import PortCounts
from meshlib.compiler.reports import full_name_of
from meshlib.compiler.resilience import hosts_of_policy
from meshlib.compiler.scope import exported_to, names_gateway
from meshlib.pace import take_turns
from meshlib.registry.names import overlap, resolve
from meshlib.registry.registry import Registry
from meshlib.registry.service import Service, ServicePort
from meshlib.resources.proxy_annotation import annotation_text
from meshlib.resources.typed import (
    DESTINATION_RULE,
    ENVOY_FILTER,
    LOCAL_ENDPOINTS,
    RESILIENCE_POLICY,
    SERVICE,
    VIRTUAL_SERVICE,
)

if TYPE_CHECKING:
    from meshlib.resources import kubernetes
    from meshlib.resources.base import Resource
    from meshlib.resources.destination_rule import DestinationRule
    from meshlib.resources.envoy_filter import EnvoyFilter
    from meshlib.resources.local_endpoints import LocalEndpoints
    from meshlib.resources.resilience import ResiliencePolicy
    from meshlib.resources.virtual_service import HttpRoute, VirtualService
    from meshlib.workload import Workload

R = TypeVar("R", bound="Resource")

HTTP_PORT = 80
"""On this port VirtualServices bring hosts along that the registry does not have."""
_EVERYTHING = frozenset(
    (
        "Sidecar",
        "EnvoyFilter",
        "AuthorizationPolicy",
        "PeerAuthentication",
        "RequestAuthentication",
        "MeshConfig",
        "ConfigMap",
        "Telemetry",
        "ProxyConfig",
    )
)
_LAST = (True, ("\U0010ffff", "", "", 0), 0)


@dataclass(frozen=True, slots=True)
class Part:
    """A configuration of some hosts only: compiled, it gives just the virtual hosts that they have in the whole."""

    resources: list[Resource]
    registry: Registry


class Dependencies:
    """The resources of one workload's configuration by what they are about, kept from one change to the next."""

    def __init__(self, workload: Workload, domain: str) -> None:
        self._client = workload.namespace
        self._workload_name = workload.name
        self._labels = workload.labels
        self._domain = domain
        self.registry = Registry({}, [])
        self._claims: dict[str, list[VirtualService]] = {}
        self._wildcard_claims: dict[int, tuple[str, ...]] = {}
        self._claiming = 0
        self._named: dict[tuple[str, str], VirtualService] = {}
        self._roots: dict[int, VirtualService] = {}
        self._delegated: Dependents[tuple[str, str], int] = Dependents()
        self._rules: dict[str, list[DestinationRule]] = {}
        self._wildcard_rules: dict[int, DestinationRule] = {}
        self._policies: dict[str, list[ResiliencePolicy]] = {}
        self._fallbacks: Dependents[str, str] = Dependents()
        self._own_services: dict[int, kubernetes.Service] = {}
        self._of_own_services: set[int] = (
            set()
        )  # what may say something of this workload's server because of its services
        self._partial: dict[int, VirtualService] = {}
        self._local: dict[int, LocalEndpoints] = {}
        self._aliases: Dependents[str, str] = Dependents()
        self._ports = PortCounts()

    # -- following changes ------------------------------------------------------------------------------------------

    def add(self, resource: Resource) -> None:
        """One more."""
        if VIRTUAL_SERVICE.is_kind_of(resource):
            self._virtual_service(resource, there=True)
        elif DESTINATION_RULE.is_kind_of(resource):
            host = self._host_of(resource)
            if "*" in host:
                self._wildcard_rules[id(resource)] = resource
            else:
                self._rules.setdefault(host, []).append(resource)
        elif RESILIENCE_POLICY.is_kind_of(resource):
            for host in dict.fromkeys(hosts_of_policy(resource, self._domain)):
                self._policies.setdefault(host, []).append(resource)
                self._note_fallbacks(host)
            if resource.spec.inbound is not None:
                self._of_own_services.add(id(resource))
        elif SERVICE.is_kind_of(resource) and self.selects_us(resource):
            self._own_services[id(resource)] = resource
        elif LOCAL_ENDPOINTS.is_kind_of(resource):
            self._local[id(resource)] = resource
        elif ENVOY_FILTER.is_kind_of(resource) and _patches_routes(resource):
            self._of_own_services.add(id(resource))  # the ports of routes are those of services

    def remove(self, resource: Resource) -> None:
        """One less."""
        if VIRTUAL_SERVICE.is_kind_of(resource):
            self._virtual_service(resource, there=False)
        elif DESTINATION_RULE.is_kind_of(resource):
            if self._wildcard_rules.pop(id(resource), None) is None:
                _take(self._rules, self._host_of(resource), resource)
        elif RESILIENCE_POLICY.is_kind_of(resource):
            for host in dict.fromkeys(hosts_of_policy(resource, self._domain)):
                _take(self._policies, host, resource)
                self._note_fallbacks(host)
            self._of_own_services.discard(id(resource))
        else:
            self._of_own_services.discard(id(resource))
            self._own_services.pop(id(resource), None)
            self._local.pop(id(resource), None)

    def renew(self, registry: Registry, changed: Iterable[str]) -> bool:
        """Another registry, in which the services of these hosts have changed. Gives whether that is nothing to others: it is
        something when a port of theirs becomes one on which HTTP, or something else, is spoken, or is not any more."""
        spoken: dict[int, tuple[bool, bool]] = {}
        theirs: Counter[int] = Counter()
        for host in changed:
            take_turns()
            for services, one in ((self.registry, -1), (registry, 1)):
                service = services.lookup(host, self._client)
                if service is not None:
                    for port in service.ports:
                        spoken.setdefault(port.number, self._ports.spoken(port.number))
                        theirs[port.number] += one > 0
                    self._ports.count(service, one)
            self._aliases.read(host, [s.alias for s in registry.definitions(host) if s.alias])
        self.registry = registry
        return not any(
            before != self._ports.spoken(port) and (port == HTTP_PORT or self._ports.everything[port] > theirs[port])
            for port, before in spoken.items()
        )

    def partial_claims(self) -> Iterable[VirtualService]:
        """VirtualServices one of whose hosts may be a part of a Service's full name, in the order of reading."""
        return sorted(self._partial.values(), key=lambda resource: resource.origin.document)

    def local_endpoints(self) -> list[LocalEndpoints]:
        """All of them, in the order of reading."""
        return sorted(self._local.values(), key=lambda resource: (not resource.is_argument, resource.origin.document))

    def _virtual_service(self, resource: VirtualService, *, there: bool) -> None:
        spec, name = resource.spec, (resource.namespace, resource.name)
        if not there:
            self._partial.pop(id(resource), None)
        elif any(full_name_of(host, self._domain) for host in spec.hosts or ()):
            self._partial[id(resource)] = resource
        if there:
            self._named[name] = resource
        elif self._named.get(name) is resource:
            del self._named[name]
        delegates = [d for rule in spec.http or () if (d := self._delegate(rule, resource)) is not None]
        if delegates and there:
            self._roots[id(resource)] = resource
            self._delegated.read(id(resource), delegates)
        elif delegates:
            del self._roots[id(resource)]
            self._delegated.forget(id(resource))
        hosts = self.claimed_by(resource)
        self._claiming += bool(hosts) if there else -bool(hosts)
        for host in hosts:
            if there:
                self._claims.setdefault(host, []).append(resource)
            else:
                _take(self._claims, host, resource)
        wildcards = tuple(host for host in hosts if "*" in host)
        if wildcards and there:
            self._wildcard_claims[id(resource)] = wildcards
        elif wildcards:
            del self._wildcard_claims[id(resource)]

    def _note_fallbacks(self, host: str) -> None:
        policies = self._policies.get(host, ())
        self._fallbacks.read(host, [found for policy in policies for found in self._fallback_of(policy)])

    def _fallback_of(self, policy: ResiliencePolicy) -> Iterator[str]:
        fallback = policy.spec.fallback
        if fallback is not None and fallback.destination is not None:
            yield resolve(fallback.destination.host, policy.namespace, self._domain)

    # -- what a change touches --------------------------------------------------------------------------------------

    def touched_by(self, resource: Resource) -> Iterable[str] | None:
        """The hosts that a resource is about, beside what the registry makes of it; None: all there are."""
        if resource.kind in _EVERYTHING:
            return None
        if resource.kind == "Secret" and resource.namespace == self._client:
            return None  # a DestinationRule may name it
        if resource.kind in ("Deployment", "Pod") and self._is_ours(resource) and annotation_text(resource):
            return None  # what is told of calls
        if SERVICE.is_kind_of(resource) and self._of_own_services and self.selects_us(resource):
            return None
        if VIRTUAL_SERVICE.is_kind_of(resource):
            hosts = list(self.claimed_by(resource))
            for root in self._delegated.of((resource.namespace, resource.name)):
                hosts += self.claimed_by(self._roots[root])
            return hosts
        if DESTINATION_RULE.is_kind_of(resource):
            return (self._host_of(resource),)
        if RESILIENCE_POLICY.is_kind_of(resource):
            return None if resource.spec.inbound is not None else hosts_of_policy(resource, self._domain)
        return ()

    def _is_ours(self, resource: Resource) -> bool:
        return (resource.namespace, resource.name) == (self._client, self._workload_name)

    def aliases_of(self, hosts: Iterable[str]) -> set[str]:
        """The hosts that stand for one of these, directly or not."""
        found: set[str] = set()
        new = list(hosts)
        while new:
            aliases = set(self._aliases.of(new.pop())) - found
            found |= aliases
            new += aliases
        return found

    def falling_back_to(self, hosts: Iterable[str]) -> list[str]:
        """The hosts that have one of these as a fallback."""
        return [other for host in hosts for other in self._fallbacks.of(host)]

    def together_with(self, hosts: set[str]) -> set[str]:
        """These hosts and all that share VirtualServices with them."""
        found, new = set(hosts), list(hosts)
        while new:
            take_turns()
            for service in self._claims.get(new.pop(), ()):
                for host in self.claimed_by(service):
                    if host not in found:
                        found.add(host)
                        new.append(host)
        return found

    def claimed_by(self, service: VirtualService) -> tuple[str, ...]:
        """The hosts of a VirtualService, in full, if it is for this client."""
        spec = service.spec
        if not spec.hosts or not names_gateway(spec.gateways):
            return ()
        if not exported_to(spec.export_to, service.namespace, self._client):
            return ()
        return tuple(dict.fromkeys(resolve(host, service.namespace, self._domain) for host in spec.hosts))

    @property
    def has_claims(self) -> bool:
        return self._claiming > 0

    @property
    def own_services(self) -> list[kubernetes.Service]:
        """The Service resources that select this workload."""
        return list(self._own_services.values())

    @property
    def has_policies(self) -> bool:
        return bool(self._policies)

    def destination_rules(self) -> Iterator[DestinationRule]:
        """All of them."""
        for rules in self._rules.values():
            yield from rules
        yield from self._wildcard_rules.values()

    def serves(self, port: int) -> bool:
        """Whether a service has the port."""
        return self._ports.everything[port] > 0

    def stand_alone(self, hosts: Iterable[str]) -> bool:
        """Whether what requests to these hosts get does not hang on other hosts: no wildcard claims one of them, nobody shares
        their addresses, and on their ports connections to others are told apart from connections to them."""
        for host in hosts:
            if "*" in host:
                return False
            if any(overlap(host, wildcard) for found in self._wildcard_claims.values() for wildcard in found):
                return False
            service = self.registry.lookup(host, self._client)
            if service is not None and any(self._ports.addresses[address] > 1 for address in service.addresses):
                return False
        return not any(self._ports.shared(port) for port in self.ports_of(hosts))

    def ports_of(self, hosts: Iterable[str]) -> set[int]:
        """The ports on which these hosts may be called."""
        found = {HTTP_PORT}
        for host in hosts:
            service = self.registry.lookup(host, self._client)
            if service is not None:
                found.update(port.number for port in service.ports)
        return found

    # -- what it takes ----------------------------------------------------------------------------------------------

    def part(self, hosts: set[str], further: Iterable[Resource] = ()) -> Part:
        """What is needed to compile these hosts, which are all that their VirtualServices claim; ``further`` resources."""
        resources: dict[int, Resource] = {id(r): r for r in further}
        needed = dict.fromkeys(sorted(hosts))
        for host in hosts:
            needed.update((s.alias, None) for s in self.registry.definitions(host) if s.alias)
        for host in list(needed):
            for service in self._claims.get(host, ()):
                for one in (service, *self._delegates_of(service)):
                    resources[id(one)] = one
                    needed.update(dict.fromkeys(self._leads_to(one)))
        for host in list(needed):
            for policy in self._policies.get(host, ()):
                needed.update(dict.fromkeys(self._fallback_of(policy)))
        others = {service.host: (service,) for service in self._others(self.ports_of(hosts))}
        return self._with_rules_of(needed, Part(list(resources.values()), Registry(others, [])))

    def alike(self, one: Part, other: Part) -> tuple[Part, Part]:
        """The same parts, each also with what the other needs of hosts that no change touches: what is to be said of that is
        said of both then."""
        mine, its = set(one.registry.hosts()), set(other.registry.hosts())
        return self._with_rules_of(its - mine, one), self._with_rules_of(mine - its, other)

    def _with_rules_of(self, hosts: Collection[str], part: Part) -> Part:
        if not hosts:
            return part
        resources = {id(r): r for r in part.resources}
        resources.update(self._wildcard_rules)
        for host in hosts:
            resources.update((id(r), r) for r in (*self._rules.get(host, ()), *self._policies.get(host, ())))
        services = {host: part.registry.definitions(host) for host in part.registry.hosts()}
        services.update((host, self.registry.definitions(host)) for host in hosts)
        by_age = sorted(services.items(), key=lambda item: min((s.order for s in item[1]), default=_LAST))
        return Part(list(resources.values()), Registry(dict(by_age), []))

    def rules_of(self, hosts: Collection[str]) -> Part:
        """What is needed to compile clusters of these hosts."""
        return self._with_rules_of(hosts, Part([], Registry({}, [])))

    def _others(self, ports: Iterable[int]) -> Iterator[Service]:
        """Two services that stand in a part for all others on its ports."""
        for protocol, counts in self._ports.spoken_by():
            host = f"{protocol}.invalid"
            known = tuple(ServicePort(port, protocol, protocol) for port in sorted(ports) if counts[port] > 0)
            yield Service(host, self._client, "kubernetes", known, {}, "", ("", "", "", 0))

    def _delegates_of(self, service: VirtualService) -> Iterator[VirtualService]:
        for rule in service.spec.http or ():
            name = self._delegate(rule, service)
            found = self._named.get(name) if name is not None else None
            if found is not None:
                yield found

    def _leads_to(self, service: VirtualService) -> Iterator[str]:
        for rule in service.spec.http or ():
            take_turns()
            models = [d.destination for d in rule.route or ()]
            models += [m.destination for m in rule.mirrors or ()]
            models += [rule.mirror] if rule.mirror is not None else []
            yield from (resolve(model.host, service.namespace, self._domain) for model in models)
        for l4_rule in (*(service.spec.tls or ()), *(service.spec.tcp or ())):
            yield from (resolve(d.destination.host, service.namespace, self._domain) for d in l4_rule.route or ())

    @staticmethod
    def _delegate(rule: HttpRoute, service: VirtualService) -> tuple[str, str] | None:
        """Namespace and name of the VirtualService whose rules stand in the place of this one."""
        delegate = rule.delegate
        return None if delegate is None else (delegate.namespace or service.namespace, delegate.name or "")

    def _host_of(self, rule: DestinationRule) -> str:
        return resolve(rule.spec.host, rule.namespace, self._domain)

    def selects_us(self, resource: kubernetes.Service) -> bool:
        """Whether a Service selects this workload."""
        selector = resource.spec.selector
        if resource.namespace != self._client or not selector:
            return False
        return all(self._labels.get(key) == value for key, value in selector.items())


def _patches_routes(resource: EnvoyFilter) -> bool:
    return any(patch.apply_to in ("HTTP_ROUTE", "VIRTUAL_HOST") for patch in resource.spec.config_patches or ())


def _take(table: dict[str, list[R]], key: str, resource: R) -> None:
    there = table[key]
    there[:] = [other for other in there if other is not resource]
    if not there:
        del table[key]
