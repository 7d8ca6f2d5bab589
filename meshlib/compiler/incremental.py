"""The next snapshot out of the last one: what a change touches (``dependencies.py``) is compiled as it was and as it is now,
and the one is replaced by the other (``splice.py``). The result is that of a compilation of everything; where only that can
tell, it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from meshlib.compiler import reports, splice
from meshlib.compiler.declared_ports import declared_ports
from meshlib.compiler.dependencies import Dependencies, Part
from meshlib.compiler.inbound import own_service
from meshlib.compiler.resilience import acting
from meshlib.compiler.semantics.fields import inert_fields
from meshlib.pace import take_turns
from meshlib.registry.names import resolve
from meshlib.registry.original_destinations import original_destinations

if TYPE_CHECKING:
    from meshlib.changes import Change
    from meshlib.compiler.destinations import Destinations
    from meshlib.compiler.inbound import InboundPorts
    from meshlib.compiler.resilience import Resilience, ResiliencePolicies
    from meshlib.compiler.routes import Cluster
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.problems import Problem
    from meshlib.registry.registry import Registry
    from meshlib.resources.base import Resource
    from meshlib.workload import Workload

MOST = 4
"""One of so many hosts may be made anew; where there are more, all are made."""
BROUGHT_ALONG = (80, 443)
"""Ports that are there because VirtualServices are."""
FEW = 100
"""Hosts that are made anew whatever share of all they are."""


class Compiled(Protocol):
    """A compilation that has been made. ``said``: what is to be said of resources, clusters aside; ``about_inbound``: of the
    workload's own server, and of telemetry; ``contested``: names that more than one host could have had."""

    said: Counter[Problem]
    refusals: list[Problem]
    about_inbound: list[Problem]
    contested: set[str]
    made: Snapshot
    leads: splice.Leads
    policies: ResiliencePolicies

    @property
    def destinations(self) -> Destinations: ...

    def take_rules(self, last: Snapshot, hosts: Collection[str]) -> None:
        """Before ``snapshot``: rules that are already there."""
        ...

    def snapshot(self, version: str) -> Snapshot:
        """What it comes to, which is ``made`` then."""
        ...


class Incremental:
    """What has been compiled for one workload, kept to be changed. Of no use any more once ``after`` has raised, or has given
    None: then everything is to be compiled, as it is then too when a Sidecar bounds what the workload sees. ``as_bytes``: the
    ports that its listeners declare not to be HTTP."""

    def __init__(
        self,
        resources: Sequence[Resource],
        registry: Registry,
        whole: Compiled,
        compiled: Callable[[Sequence[Resource], Registry], Compiled],
        workload: Workload,
        domain: str,
        as_bytes: Set[int],
    ) -> None:
        self._workload = workload
        self._as_bytes = as_bytes
        self._domain = domain
        self._compiled = compiled
        self._dependencies = Dependencies(workload, domain)
        for resource in resources:
            take_turns()
            self._dependencies.add(resource)
        self._dependencies.renew(registry, registry.hosts())
        self._leads = whole.leads
        self._said = whole.said
        self._refusals = whole.refusals
        self._about_inbound = whole.about_inbound
        self._contested = whole.contested
        self.snapshot = whole.made

    def after(
        self, change: Change[Resource], registry: Registry, redefined: Collection[str], version: str, count: int
    ) -> Snapshot | None:
        """The snapshot after a change, in which the registry has other services for the hosts ``redefined``; ``count`` is the
        number of resources then. None: everything is to be compiled."""
        dependencies = self._dependencies
        new = [resource for _, resource in change.come]
        only_endpoints = {host for host in redefined if self._same_shape(host, registry)}
        touched, claimed = set(redefined) - only_endpoints, set[str]()
        for resource in (*change.gone, *new):
            about = dependencies.touched_by(resource)
            if about is None:
                return None
            (claimed if resource.kind == "VirtualService" else touched).update(about)
        touched.update(dependencies.aliases_of(touched))
        touched.update(
            s.alias for host in list(touched) for r in (dependencies.registry, registry) for s in r.definitions(host)
        )
        touched.discard("")
        if self.snapshot.sidecar and (
            touched or claimed or any(len(registry.definitions(host)) > 1 for host in only_endpoints)
        ):
            return None  # what is seen of a host may hang on who leads there
        touched.update(dependencies.falling_back_to(touched))
        claimed.update(dependencies.aliases_of(claimed))
        hosts = dependencies.together_with(claimed.union(touched, *map(self._leads.readers.of, touched)))
        if len(hosts) > max(FEW, len(registry.hosts()) // MOST) or not dependencies.stand_alone(hosts):
            return None
        if any(custom.host in hosts for custom in self.snapshot.inbound.custom):
            return None  # what an authorizer is asked at hangs on its service, and on no virtual host
        part_before = dependencies.part(hosts, change.gone)
        had_claims, registry_before = dependencies.has_claims, dependencies.registry
        for resource in change.gone:
            dependencies.remove(resource)
        for resource in new:
            dependencies.add(resource)
        nothing_to_others = dependencies.renew(registry, redefined)
        if not nothing_to_others or had_claims != dependencies.has_claims or not dependencies.stand_alone(hosts):
            return None
        made = last = self.snapshot
        candidates = splice.fallback_clusters(last.resilience)
        if hosts:
            part_before, part_now = dependencies.alike(part_before, dependencies.part(hosts, new))
            before, now = self._made(part_before, hosts), self._made(part_now)
            try:
                made = self._spliced(before, now, hosts, touched)
            except splice.NotApart:
                return None
            self._say(before.said, now.said)
            candidates.update(before.destinations.clusters, now.destinations.clusters)
        else:
            self._say(Counter(inert_fields(change.gone)), Counter(inert_fields(new)))
        clusters = self._with_endpoints(made.clusters, only_endpoints, candidates)
        if hosts:
            self._refusals = list(reports.refusals(clusters.values(), dependencies.destination_rules()))
        partial = reports.partial_hosts(dependencies.partial_claims(), registry, self._domain)
        local = self._about_local(registry, clusters)
        self.snapshot = replace(
            made,
            version=version,
            clusters=clusters,
            problems=(*registry.problems, *self._said, *self._refusals, *partial, *local, *self._about_inbound),
            resource_count=count,
            named=registry.named,
            inbound=self._inbound(made),
            dialled=self._dialled(made, redefined, registry_before),
            hosts=last.hosts.of(registry),
            since=(last.mark, frozenset(k for k in candidates if clusters.get(k) is not last.clusters.get(k))),
            mark=object(),
        )
        return self.snapshot

    def _about_local(self, registry: Registry, clusters: Mapping[str, Cluster]) -> Sequence[Problem]:
        """What is to be said of LocalEndpoints, which may hang on DestinationRules that have changed."""
        resources = self._dependencies.local_endpoints()
        if not resources:
            return ()
        hosts = {resolve(e.host, r.namespace, self._domain) for r in resources for e in r.spec.hosts if e.subset}
        part = self._dependencies.rules_of(hosts)
        rule_of = self._compiled(part.resources, part.registry).destinations.rule_of
        return list(reports.local_endpoints(resources, registry, rule_of, clusters.values(), self._domain))

    def _say(self, before: Counter[Problem], now: Counter[Problem]) -> None:
        """What was said of a part is not said any more, but what is said of it now."""
        self._said.update(now)
        for problem, times in before.items():
            self._said[problem] -= times
            if self._said[problem] <= 0:
                del self._said[problem]

    def _made(self, part: Part, as_before: Collection[str] = ()) -> Compiled:
        """A part, compiled; the rules of the hosts that are ``as_before`` are those that the last snapshot has."""
        found = self._compiled(part.resources, part.registry)
        found.take_rules(self.snapshot, as_before)
        found.snapshot("")
        return found

    def _same_shape(self, host: str, registry: Registry) -> bool:
        old, new = self._dependencies.registry.definitions(host), registry.definitions(host)
        return len(old) == len(new) and all(
            a.same_but_endpoints(b, self._as_bytes) for a, b in zip(old, new, strict=True)
        )

    def _spliced(self, before: Compiled, now: Compiled, hosts: set[str], touched: set[str]) -> Snapshot:
        """The last snapshot with the part as it is now. Raises ``NotApart``."""
        last, old, new = self.snapshot, before.made, now.made
        if not hosts:
            return last
        self._contested |= now.contested
        unknown = [made.passthrough for made in (old, new)] + [made.blocked for made in (old, new)]
        ports, tls_ports = (
            splice.tables(getattr(last, kind), getattr(old, kind), getattr(new, kind), hosts, unknown, self._contested)
            for kind in ("ports", "tls_ports")
        )
        for port in old.ports.keys() | new.ports.keys():
            brought_along = port in BROUGHT_ALONG and self._dependencies.has_claims
            if port not in new.ports and not brought_along and not self._dependencies.serves(port):
                del ports[port], tls_ports[port]
            elif last.tls_ports.get(port) is last.ports.get(port) and new.tls_ports.get(port) is new.ports.get(port):
                tls_ports[port] = ports[port]
        gone = self._leads.remove(old, hosts)
        self._leads.add(new.ports, new.tls_ports, new.l4, hosts)
        clusters = splice.clusters(last, new, self._leads, gone, touched)
        resilience = self._resilience(clusters, now, touched)
        return replace(
            last,
            ports=ports,
            tls_ports=tls_ports,
            clusters=clusters,
            l4=splice.by_host(last.l4, old.l4, new.l4, hosts),
            resilience=resilience,
            fallbacks=any(policy.fallback is not None for policy in resilience.values()),
            seen={},
            told_apart={},
        )

    def _resilience(self, clusters: dict[str, Cluster], now: Compiled, touched: set[str]) -> Mapping[str, Resilience]:
        """The policies that act; ``clusters`` gets those that fallbacks lead to, and loses those that they led to before."""
        last = self.snapshot.resilience
        if not self._dependencies.has_policies and not last:
            return last

        def find(host: str) -> Resilience | None:
            was = last.get(host) if host not in touched else None
            return was or now.policies.find(host)

        uses = self._leads.uses
        made = acting({cluster.host for key, cluster in clusters.items() if key in uses}, find)
        wanted = splice.fallback_clusters(made)
        for key in splice.fallback_clusters(last) - wanted - uses.keys():
            clusters.pop(key, None)
        for key in wanted - uses.keys():
            there, new = clusters.get(key), now.destinations.clusters.get(key)
            if new is not None and (there is None or new.host in touched):
                clusters[key] = there if there is not None and there.same_as(new) else new
            elif there is None:
                clusters[key] = self.snapshot.clusters[key]
        return made

    def _with_endpoints(
        self, clusters: Mapping[str, Cluster], hosts: set[str], changed: set[str]
    ) -> Mapping[str, Cluster]:
        """The clusters of hosts of which just the endpoints have changed, made anew; they are ``changed``."""
        if not hosts:
            return clusters
        part = self._dependencies.rules_of(hosts)
        destinations = self._compiled(part.resources, part.registry).destinations
        made = dict(clusters)
        for host in hosts:
            found = self._dependencies.registry.definitions(host)
            service = (
                found[0] if len(found) == 1 else self._dependencies.registry.lookup(host, self._workload.namespace)
            )
            if service is not None:
                for key in destinations.keys_of(service):
                    if key in made:
                        made[key] = destinations.recompile(key, made[key], service)
                        changed.add(key)
        return made

    def _inbound(self, made: Snapshot) -> InboundPorts:
        services = self._dependencies.own_services
        host = own_service(services, self._workload, self._domain)
        declared = declared_ports(services, self._workload, self._domain)
        inbound = made.inbound
        return inbound if host == inbound.service and declared == inbound.declared else inbound.serving(host, declared)

    def _dialled(self, made: Snapshot, redefined: Collection[str], before: Registry) -> Mapping[str, tuple[str, ...]]:
        now = self._dependencies.registry
        services = [s for registry in (before, now) for host in redefined for s in registry.definitions(host)]
        if any(service.headless or service.alias or service.aliases for service in services):
            return original_destinations(now.all(), self._workload.namespace, self._domain)
        return made.dialled
