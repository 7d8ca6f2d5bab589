"""From resources to what serves requests. ``compile_snapshot`` is the pure step; a ``Compiler`` keeps what it has made, so
that a change of endpoints costs the clusters it touches."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meshlib.changes import ListFollower, everything
from meshlib.compiler import reports
from meshlib.compiler.clusters import DEFAULT_LIMITS
from meshlib.compiler.delegates import Delegates
from meshlib.compiler.destination_rules import DestinationRules
from meshlib.compiler.destinations import Destinations
from meshlib.compiler.gateways import GatewayRoutes
from meshlib.compiler.inbound import compile_inbound, own_service
from meshlib.compiler.l4_rules import compile_l4
from meshlib.compiler.resilience import ResiliencePolicies
from meshlib.compiler.rules import compile_rules, default_rule, passthrough_rule, sort_claims
from meshlib.compiler.scope import export_rank, exported_to, names_gateway
from meshlib.compiler.semantics.fields import inert_fields
from meshlib.compiler.sidecars import SidecarScope, sidecar_scope
from meshlib.compiler.snapshot import (
    PASSTHROUGH,
    Cluster,
    Destination,
    HostRoutes,
    L4Host,
    Rule,
    SkippedRule,
    Snapshot,
    VirtualHost,
)
from meshlib.compiler.version import Version
from meshlib.pace import in_turns, is_watched, let_go, much_is_made, take_turns
from meshlib.policy.rule_index import RuleIndex
from meshlib.registry.build import RegistryBuilder, build_registry
from meshlib.registry.names import dial_names, most_specific, resolve
from meshlib.registry.original_destinations import original_destinations
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.errors import Problem
    from meshlib.registry.service import Registry, Service
    from meshlib.resources.base import Resource

HTTP_DEFAULT_PORT = 80
WHERE_ENDPOINTS_ARE = frozenset(("Pod", "WorkloadEntry", "EndpointSlice", "Endpoints", "Service", "ServiceEntry"))
"""Kinds that reach virtual hosts only through the services that the registry makes of them."""


def compile_snapshot(
    resources: Sequence[Resource], workload: Workload, *, domain: str = "cluster.local", version: str | None = None
) -> Snapshot:
    """The configuration of ``workload``'s client. Never raises for what resources say: what cannot be used is in
    ``Snapshot.problems``, and the call that needs it is answered as Envoy would (404 NR, 503 NC, 503 UH)."""
    return Compiler(workload, domain).compile(resources, version)


def compile_gateway(
    resources: Sequence[Resource], workload: Workload, port: int, *, domain: str = "cluster.local"
) -> Snapshot:
    """The routes of one port of the Gateways whose selector fits ``workload``'s labels. A host that no VirtualService
    serves there is answered 404."""
    registry = build_registry(resources, domain)
    return _Compilation(resources, registry, workload, domain, port).snapshot(Version().take(everything(resources)))


@dataclass(slots=True)
class _Made:
    """A compilation and what it was made of."""

    policies: tuple[Resource, ...]
    services: list[Service]
    compilation: _Compilation
    snapshot: Snapshot


class Compiler:
    """Compiles for one workload, again and again. Not for several threads at once."""

    def __init__(self, workload: Workload, domain: str = "cluster.local") -> None:
        self._workload = workload
        self._domain = domain
        self._registry = RegistryBuilder(domain)
        self._follower: ListFollower[Resource] = ListFollower()
        self._version = Version()
        self._last: _Made | None = None

    def compile(self, resources: Sequence[Resource], version: str | None = None) -> Snapshot:
        """The snapshot of these resources. When only endpoints differ from the last time, virtual hosts and the clusters
        of other services stay the same objects."""
        with much_is_made():
            try:
                return self._compile(resources, version)
            except BaseException:
                self._follower = ListFollower()  # what is half done is begun anew the next time
                raise

    def _compile(self, resources: Sequence[Resource], version: str | None) -> Snapshot:
        change = self._follower.turn(resources)
        if change.whole:
            self._version = Version()
            self._registry = RegistryBuilder(self._domain)
        registry = self._registry.take(change)
        policies = tuple(r for r in in_turns(resources) if r.kind not in WHERE_ENDPOINTS_ARE)
        hashed = self._version.take(change)
        version = version or hashed
        services = registry.all()
        last = self._last
        if last is not None and _same_objects(policies, last.policies) and _same_shapes(services, last.services):
            snapshot = last.compilation.with_endpoints(last.snapshot, registry, version, resources)
            self._last = _Made(policies, services, last.compilation, snapshot)
        else:
            compilation = _Compilation(resources, registry, self._workload, self._domain, 0)
            snapshot = compilation.snapshot(version)
            if last is not None:
                _keep_equal(compilation.destinations.clusters, last.snapshot.clusters)
                last.compilation.delegates.forget()
            self._last = _Made(policies, services, compilation, snapshot)
            if last is not None and is_watched():
                old = last.snapshot.parts()
                del last
                let_go(old)
        return snapshot


def _keep_equal(clusters: dict[str, Cluster], before: Mapping[str, Cluster]) -> None:
    """Clusters about which nothing has changed stay the same objects: what is bound to them need not be bound anew."""
    for key, cluster in clusters.items():
        take_turns()
        old = before.get(key)
        if old is not None and old is not cluster and old == cluster:
            clusters[key] = old


def _same_objects(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _same_shapes(one: Sequence[Service], other: Sequence[Service]) -> bool:
    return len(one) == len(other) and all(a is b or a.same_but_endpoints(b) for a, b in zip(one, other, strict=True))


class _Compilation:
    """One run from resources to a snapshot. ``gateway_port`` 0: for the client of a workload; else for that port of the
    gateways it runs."""

    def __init__(
        self, resources: Sequence[Resource], registry: Registry, workload: Workload, domain: str, gateway_port: int
    ) -> None:
        self.resources = resources
        self.workload = workload
        self.domain = domain
        self.gateway_port = gateway_port
        self.registry = registry
        kinds: dict[str, list[Any]] = {}
        for resource in resources:
            take_turns()
            kinds.setdefault(resource.kind, []).append(resource)
        self.kinds = kinds
        services = kinds.get("VirtualService", [])
        self.delegates = Delegates(services, domain)
        self.destination_rules = DestinationRules(kinds.get("DestinationRule", []), workload, domain)
        self.scope: SidecarScope = sidecar_scope([] if gateway_port else kinds.get("Sidecar", []), workload)
        self.destinations = Destinations(self._lookup, self.destination_rules, workload, domain)
        self.claims, self.wildcard_claims = self._claims(services)
        self._routed_to = self._hosts_of_routes() if self.scope.hosts is not None else frozenset()
        self.l4: dict[tuple[str, int], L4Host] = {}
        self.policies = ResiliencePolicies(
            kinds.get("ResiliencePolicy", []), workload, domain, self.destinations.of_model
        )
        self.destinations.resilience = self.policies.find

    # -- what is seen -----------------------------------------------------------------------------------------------

    def _lookup(self, host: str) -> Service | None:
        found = self.registry.lookup(host, self.workload.namespace)
        if found is None or self.scope.hosts is None or found.host in self._routed_to:
            return found
        return found if self.scope.ports_of(found.namespace, found.host, [p.number for p in found.ports]) else None

    def _hosts_of_routes(self) -> frozenset[str]:
        """Hosts that VirtualServices in sight send to: seen, though the Sidecar does not list them."""
        seen = {id(s): s for claimed in (self.claims, self.wildcard_claims) for ss in claimed.values() for s in ss}
        found: set[str] = set()
        for service in seen.values():
            for route in self.delegates.routes(service):
                take_turns()
                models = [d.destination for d in route.model.route or ()]
                models += [m.destination for m in route.model.mirrors or ()]
                models += [route.model.mirror] if route.model.mirror is not None else []
                found.update(resolve(m.host, route.namespace, self.domain) for m in models)
            for rule in (*(service.spec.tls or ()), *(service.spec.tcp or ())):
                found.update(resolve(d.destination.host, service.namespace, self.domain) for d in rule.route)
        return frozenset(found)

    def _claims(self, services: Sequence[Any]) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        client = self.workload.namespace
        exact: dict[str, list[Any]] = {}
        wildcard: dict[str, list[Any]] = {}
        visible = []
        for s in services:
            take_turns()
            if s.spec.hosts and names_gateway(s.spec.gateways) and exported_to(s.spec.export_to, s.namespace, client):
                visible.append(s)
        for service in sort_claims(visible, lambda v: export_rank(v.spec.export_to, v.namespace, client)):
            take_turns()
            names = [resolve(host, service.namespace, self.domain) for host in service.spec.hosts or ()]
            if not self.scope.sees(service.namespace, names):
                continue
            for name in names:
                (wildcard if name.startswith("*") else exact).setdefault(name, []).append(service)
        return exact, wildcard

    def _claimants(self, host: str) -> list[Any]:
        found = self.claims.get(host)
        if found is None and self.wildcard_claims:
            pattern = most_specific(list(self.wildcard_claims), host)
            found = self.wildcard_claims.get(pattern) if pattern is not None else None
        return found or []

    # -- virtual hosts ----------------------------------------------------------------------------------------------

    def _virtual_host(self, host: str, port: int, service: Service | None) -> VirtualHost | None:
        """First VirtualService that yields a rule for this client and port; else the service's default route."""
        skipped: list[SkippedRule] = []
        claimants = self._claimants(host)
        for resource in claimants:
            if (host, port) not in self.l4 and (resource.spec.tls or resource.spec.tcp):
                found = compile_l4(resource, host, port, self.workload, self.destinations.of_model)
                if found is not None:
                    self.l4[host, port] = found
            rules, left_out = compile_rules(
                self.delegates.routes(resource), self.workload, port, self.destinations.of_model
            )
            if rules:
                return _make_virtual_host(host, port, resource.id, rules, left_out)
            skipped = skipped or left_out
        if service is None:
            return None
        destination = self.destinations.of_service(service, "", port, "")
        note = "no rule of its VirtualService is for this client" if skipped else "no VirtualService claims this host"
        return _make_virtual_host(host, port, "", [default_rule(destination)], skipped, note)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def snapshot(self, version: str) -> Snapshot:
        """All of it."""
        hosts: dict[str, HostRoutes] = {}
        wildcards: dict[str, HostRoutes] = {}
        if self.gateway_port:
            self._gateway_hosts(hosts, wildcards)
        else:
            self._mesh_hosts(hosts, wildcards)
        clusters = self.destinations.clusters
        hosts_called = dict.fromkeys(cluster.host for cluster in list(clusters.values()))
        resilience = {host: found for host in hosts_called if (found := self.policies.find(host)) is not None}
        problems = self._problems(hosts, wildcards)
        inbound, not_acted_on = compile_inbound(
            self.kinds.get("EnvoyFilter", []), self.kinds.get("Service", []), self.workload, self.domain
        )
        passthrough = self._passthrough()
        return Snapshot(
            version=version,
            workload=self.workload,
            hosts=hosts,
            wildcards=wildcards,
            clusters=clusters,
            passthrough=passthrough,
            blocked=_make_virtual_host(
                "*",
                0,
                "",
                [],
                [],
                "the host is not in the registry: blocked (REGISTRY_ONLY"
                + (f" of {self.scope.resource})" if self.scope.resource else ")"),
            ),
            allow_any=self.scope.allow_any,
            problems=(*self.registry.problems, *problems, *not_acted_on),
            resource_count=len(self.resources),
            l4=self.l4,
            resilience=resilience,
            fallbacks=any(policy.fallback is not None for policy in resilience.values()),
            sidecar=self.scope.resource,
            inbound=inbound,
            dialled=self._dialled(),
        )

    def with_endpoints(
        self, last: Snapshot, registry: Registry, version: str, resources: Sequence[Resource]
    ) -> Snapshot:
        """``last`` with the endpoints of ``registry``, whose services have not changed otherwise."""
        old = self.registry.problems
        self.registry = registry
        clusters = dict(last.clusters)
        for key, service in self.destinations.services.items():
            now = self._lookup(service.host)
            if now is not None and now is not service:
                clusters[key] = self.destinations.recompile(key, clusters[key], now)
                self.destinations.services[key] = now
        problems = (*registry.problems, *last.problems[len(old) :])
        inbound = last.inbound
        host = own_service([r for r in resources if r.kind == "Service"], self.workload, self.domain)
        if host != inbound.service:
            inbound = replace(inbound, service=host)
        return replace(
            last,
            version=version,
            clusters=clusters,
            problems=problems,
            resource_count=len(resources),
            inbound=inbound,
            dialled=self._dialled(),
            seen=last.seen,
        )

    def _dialled(self) -> Mapping[str, tuple[str, ...]]:
        return original_destinations(self.registry.all(), self.workload.namespace, self.domain)

    def _mesh_hosts(self, hosts: dict[str, HostRoutes], wildcards: dict[str, HostRoutes]) -> None:
        for service in self.registry.visible(self.workload.namespace):
            take_turns()
            numbers = self.scope.ports_of(service.namespace, service.host, [p.number for p in service.ports])
            if not numbers and service.host in self._routed_to:
                numbers = [p.number for p in service.ports]
            if not numbers:
                continue
            routes = _host_routes({n: self._virtual_host(service.host, n, service) for n in numbers})
            for name in self._names(service):
                _register(name, routes, hosts, wildcards)
        for host in (*self.claims, *self.wildcard_claims):
            take_turns()
            if host in hosts or (host.startswith("*") and host.removeprefix("*").removeprefix(".") in wildcards):
                continue
            if host == "*":
                continue
            # Istio gives hosts outside the registry a virtual host on port 80 only
            routes = _host_routes({HTTP_DEFAULT_PORT: self._virtual_host(host, HTTP_DEFAULT_PORT, None)})
            if routes.ports:
                for name in self._outside_names(host):
                    _register(name, routes, hosts, wildcards)

    def _gateway_hosts(self, hosts: dict[str, HostRoutes], wildcards: dict[str, HostRoutes]) -> None:
        port = self.gateway_port
        gateways = GatewayRoutes(
            self.kinds.get("Gateway", []),
            self.kinds.get("VirtualService", []),
            self.delegates,
            self.workload,
            port,
            self.domain,
        )
        for host in gateways.hosts():
            resource, rules, skipped = gateways.rules(host, self.destinations.of_model)
            vhost = _make_virtual_host(host, port, resource, rules, skipped)
            _register(host, HostRoutes({port: vhost}, vhost), hosts, wildcards)

    def _passthrough(self) -> VirtualHost:
        if self.gateway_port:
            return _make_virtual_host("*", 0, "", [], [], "no VirtualService serves this host at the gateway")
        proxy = self.scope.egress_proxy
        if proxy is not None:
            target = self.destinations.of_model(proxy, self.workload.namespace, HTTP_DEFAULT_PORT)
            note = f"the host is not in the registry: sent to the egress proxy of {self.scope.resource}"
            return _make_virtual_host("*", 0, "", [passthrough_rule(target)], [], note)
        self.destinations.clusters[PASSTHROUGH] = Cluster(
            PASSTHROUGH, PASSTHROUGH, "", 0, (), DEFAULT_LIMITS, resolution="passthrough"
        )
        destination = Destination(PASSTHROUGH, "", 0, 1, PASSTHROUGH)
        note = "the host is not in the registry: passed through (ALLOW_ANY)"
        return _make_virtual_host("*", 0, "", [passthrough_rule(destination)], [], note)

    def _problems(self, hosts: dict[str, HostRoutes], wildcards: dict[str, HostRoutes]) -> list[Problem]:
        by_id = {}
        for resource in self.resources:
            take_turns()
            by_id[resource.id] = resource
        virtual_hosts = {id(v): v for t in (hosts, wildcards) for routes in t.values() for v in routes.ports.values()}
        return [
            *self.destination_rules.problems,
            *self.delegates.problems,
            *self.policies.problems,
            *inert_fields(self.resources),
            *reports.overlaps(self.claims, self.wildcard_claims),
            *reports.missing_destinations(virtual_hosts.values(), self.l4.values(), by_id),
            *reports.mirrors_to_themselves(virtual_hosts.values(), by_id),
            *reports.refusals(self.destinations.clusters.values(), by_id),
        ]

    def _names(self, service: Service) -> Iterable[str]:
        if service.kind == "kubernetes":
            client = self.workload.namespace
            yield from dial_names(service.host, service.namespace, client, self.domain, headless=service.headless)
        else:
            yield service.host
        for address in service.addresses:
            if _is_ip(address):
                yield address

    def _outside_names(self, host: str) -> Iterable[str]:
        suffix = f".svc.{self.domain}"
        if host.endswith(suffix) and host.count(".") == suffix.count(".") + 1:
            namespace = host.removesuffix(suffix).split(".")[1]
            yield from dial_names(host, namespace, self.workload.namespace, self.domain)
        else:
            yield host


def _make_virtual_host(
    host: str,
    port: int,
    resource: str,
    rules: Sequence[Rule],
    skipped: Sequence[SkippedRule],
    note: str = "",
) -> VirtualHost:
    single = rules[0] if rules and not rules[0].matches else None
    index = RuleIndex([rule.matches for rule in rules], take_turns)
    return VirtualHost(host, port, resource, tuple(rules), index, tuple(skipped), note, single)


def _host_routes(ports: dict[int, VirtualHost | None]) -> HostRoutes:
    there = {number: vhost for number, vhost in ports.items() if vhost is not None}
    return HostRoutes(there, next(iter(there.values())) if len(there) == 1 else None)


def _register(name: str, routes: HostRoutes, hosts: dict[str, HostRoutes], wildcards: dict[str, HostRoutes]) -> None:
    if name.startswith("*"):
        wildcards.setdefault(name.removeprefix("*").removeprefix("."), routes)
    else:
        hosts.setdefault(name, routes)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
