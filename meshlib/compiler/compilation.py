"""One run from resources to a snapshot."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from meshlib.compiler import reports
from meshlib.compiler.authorization import counting
from meshlib.compiler.clusters import DEFAULT_LIMITS
from meshlib.compiler.connection_authorization import for_connections
from meshlib.compiler.delegates import Delegates, Route
from meshlib.compiler.destination_rules import DestinationRules
from meshlib.compiler.destinations import Destinations
from meshlib.compiler.forwarding import Forwarding
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.gateway_ports import GatewayPorts, plain_tables
from meshlib.compiler.gateways import virtual_host
from meshlib.compiler.inbound import compile_inbound
from meshlib.compiler.inbound_filters import GATEWAY, SIDECAR
from meshlib.compiler.ingresses import Ingresses
from meshlib.compiler.kinds import Kinds
from meshlib.compiler.l4_rules import compile_l4
from meshlib.compiler.mesh_hosts import MeshHosts
from meshlib.compiler.mesh_settings import MeshSettings, mesh_settings
from meshlib.compiler.mesh_tls import MeshTls
from meshlib.compiler.peer_authentication import PeerAuthentications
from meshlib.compiler.port_tables import NamesOf
from meshlib.compiler.resilience import ResiliencePolicies, acting
from meshlib.compiler.routes import PASSTHROUGH, Cluster, Destination, L4Host, PortTable, Rule, SkippedRule, VirtualHost
from meshlib.compiler.rules import compile_rules, default_rule, passthrough_rule
from meshlib.compiler.semantics.fields import inert_fields
from meshlib.compiler.sidecars import WHOLE_MESH, SidecarScope, sidecar_scope
from meshlib.compiler.snapshot import Snapshot
from meshlib.compiler.splice import Leads, fallback_clusters
from meshlib.compiler.target_refs import targets
from meshlib.compiler.telemetry.compile import compile_telemetry
from meshlib.compiler.tls_secrets import Secrets
from meshlib.compiler.visible import Visible
from meshlib.compiler.visible_hosts import VisibleHosts
from meshlib.pace import take_turns
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.rule_index import RuleIndex
from meshlib.registry.original_destinations import original_destinations
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.compiler.routes import Target
    from meshlib.problems import Problem
    from meshlib.registry.registry import Registry
    from meshlib.registry.service import Service
    from meshlib.resources.base import Resource
    from meshlib.resources.virtual_service import Destination as WrittenDestination
    from meshlib.resources.virtual_service import VirtualService

HTTP_DEFAULT_PORT = 80

HttpsRules = Literal["mesh", "istio"]
"""What decides about https URLs: http rules, which act before the caller's TLS, or what a sidecar makes of TLS."""
HTTPS_RULES: tuple[HttpsRules, ...] = ("mesh", "istio")


class _Rules:
    """The rules of a VirtualService for this client on a port, and those left out."""

    __slots__ = ("index", "rules", "single", "skipped")

    def __init__(self, rules: Sequence[Rule], skipped: Sequence[SkippedRule], index: RuleIndex | None = None) -> None:
        self.rules = tuple(rules)
        self.skipped = tuple(skipped)
        self.single = rules[0] if rules and not rules[0].matches else None
        self.index = index or RuleIndex([rule.matches for rule in rules], take_turns)


CATCH_ALL = RuleIndex([()])


class Compilation:
    """One run from resources to a snapshot: for the client of a workload, or (``gateways``) for the gateway that it is."""

    def __init__(
        self,
        resources: Sequence[Resource],
        registry: Registry,
        workload: Workload,
        domain: str,
        https_rules: HttpsRules,
        gateways: GatewayChoice | None = None,
        settings: MeshSettings | None = None,
        mesh_tls: MeshTls | None = None,
    ) -> None:
        self.resources = resources
        self.kinds = kinds = Kinds(resources)
        self.about_settings: list[Problem] = []
        self.about_ingresses: list[Problem] = []
        if settings is None:
            ours = [r for r in kinds.annotated if (r.namespace, r.name) == (workload.namespace, workload.name)]
            settings, self.about_settings = mesh_settings(
                kinds.mesh_configs, kinds.mesh_config_maps, workload, ours, domain
            )
        self.settings = settings
        if mesh_tls is None:
            peers = PeerAuthentications(kinds.peer_authentications, settings.root_namespace)
            mesh_tls = MeshTls(peers, settings, Secrets(kinds.secrets, workload.namespace))
        self.mesh_tls = mesh_tls
        self.workload = workload = workload.in_trust_domain(settings.trust_domain)
        self.domain = domain
        self.https_rules = https_rules
        self.gateways = gateways
        if gateways is not None:
            served = Ingresses(kinds.ingresses, kinds.ingress_classes, kinds.services, settings.ingress, domain)
            kinds.gateways += served.gateways
            kinds.virtual_services += served.virtual_services
            self.about_ingresses = served.problems
        self.registry = registry
        services = kinds.virtual_services
        self.delegates = Delegates(services, domain)
        self.destination_rules = DestinationRules(kinds.destination_rules, workload, domain, settings.root_namespace)
        self.scope: SidecarScope = sidecar_scope([] if gateways else kinds.sidecars, workload, settings)
        self.visible = Visible(registry, self.scope, services, self.delegates, workload, domain)
        self.destinations = Destinations(
            self.visible.find,
            self.destination_rules,
            workload,
            domain,
            mesh_tls,
            settings.peer_metadata,
            of_gateway=gateways is not None,
        )
        self.l4: dict[tuple[str, int], L4Host] = {}
        self.contested: set[str] = set()
        self._virtual_hosts: dict[tuple[str, int, str], VirtualHost | None] = {}
        self._made_rules: dict[str, dict[int, _Rules]] = {}
        # the two ask each other: by a weak link one way, or each compilation would leave a cycle, and a reload its garbage
        of_model = weakref.WeakMethod(self.destinations.of_model)

        def destination(model: Target, namespace: str, dialled_port: int) -> Destination:
            asked = of_model()
            assert asked is not None  # this compilation has it
            return asked(model, namespace, dialled_port)

        self.policies = ResiliencePolicies(
            kinds.resilience_policies, workload, domain, destination, settings.root_namespace
        )
        self.destinations.resilience = self.policies.find

    # -- virtual hosts ----------------------------------------------------------------------------------------------

    def _virtual_host(
        self, host: str, port: int, service: Service | None, claimants: Sequence[VirtualService]
    ) -> VirtualHost | None:
        """The first VirtualService that yields a rule for this client and port; else the service's default route."""
        key = (host, port, "" if service is not None else ",".join(c.id for c in claimants))
        if key in self._virtual_hosts:
            return self._virtual_hosts[key]
        skipped: Sequence[SkippedRule] = ()
        found: VirtualHost | None = None
        for resource in claimants:
            if (host, port) not in self.l4 and (resource.spec.tls or resource.spec.tcp):
                l4 = compile_l4(resource, host, port, self.workload, self.destinations.of_model)
                if l4 is not None:
                    self.l4[host, port] = l4
            made = self._rules(resource, port)
            if made.rules:
                note = "" if service is not None else f"the registry does not have this host on port {port}"
                found = VirtualHost(
                    host,
                    port,
                    resource.id,
                    made.rules,
                    made.index,
                    made.skipped,
                    note,
                    made.single,
                    service is not None,
                    any_port=service is not None and service.any_port,
                )
                break
            skipped = skipped or made.skipped
        if found is None and service is not None and not service.is_alias_on(port):
            destination = self.destinations.of_service(service, "", port, "")
            note = (
                "no rule of its VirtualService is for this client" if skipped else "no VirtualService claims this host"
            )
            rule = default_rule(destination, self.settings.retry)
            any_port = service.any_port
            found = VirtualHost(host, port, "", (rule,), CATCH_ALL, tuple(skipped), note, rule, any_port=any_port)
        self._virtual_hosts[key] = found
        return found

    def _rules(self, resource: VirtualService, port: int) -> _Rules:
        """The rules of a VirtualService on a port. Most are the same on every port; such are made once."""
        there = self._made_rules.setdefault(resource.id, {})
        found = there.get(port)
        if found is None:
            routes = self.delegates.routes(resource)
            first = next(iter(there), 0)
            if first and self._same_on(routes, first, port):
                found = there[first]
            else:
                found = _Rules(
                    *compile_rules(routes, self.workload, port, self.destinations.of_model, settings=self.settings)
                )
            there[port] = found
        return found

    def _same_on(self, routes: Sequence[Route], one: int, other: int) -> bool:
        """Whether nothing about the rules depends on which of two ports is called."""
        of_model = self.destinations.of_model
        before: tuple[WrittenDestination | None, str] = (None, "")
        for route in routes:
            take_turns()
            model = route.model
            for match in model.match or ():
                if match.port:
                    return False
            if model.redirect is not None and model.redirect.derive_port == "FROM_REQUEST_PORT":
                return False
            for target in model.destinations():
                if target is before[0] and route.namespace == before[1]:
                    continue
                before = target, route.namespace
                a, b = of_model(target, route.namespace, one), of_model(target, route.namespace, other)
                if a is not b and (a.cluster, a.missing) != (b.cluster, b.missing):
                    return False
        return True

    def take_rules(self, last: Snapshot, hosts: Collection[str]) -> None:
        """Before ``snapshot``: the rules that VirtualServices have for these hosts are those of a snapshot that was made of
        the same resources, and are not made again."""
        for tables in (last.ports, last.tls_ports):
            for port, table in tables.items():
                for host in hosts:
                    vhost = table.names.get(host)
                    if vhost is None or vhost.host != host or not vhost.resource or vhost.tcp:
                        continue
                    there = self._made_rules.setdefault(vhost.resource, {})
                    if port not in there:
                        there[port] = _Rules(vhost.rules, vhost.skipped, vhost.index)
                        self._take_clusters(last, vhost.rules)

    def _take_clusters(self, last: Snapshot, rules: Iterable[Rule]) -> None:
        clusters = self.destinations.clusters
        for rule in rules:
            take_turns()
            for target in (*rule.destinations, *(mirror.destination for mirror in rule.mirrors)):
                if target.cluster and target.cluster not in clusters:
                    clusters[target.cluster] = last.clusters[target.cluster]

    # -- hosts ------------------------------------------------------------------------------------------------------

    def snapshot(self, version: str, before: Mapping[str, Cluster] | None = None) -> Snapshot:
        """All of it. What ``Incremental`` asks of a compilation is known then. Clusters that are as ``before`` stay the same
        objects: what is bound to them need not be bound anew."""
        passthrough, blocked = self._passthrough(), self._blocked()
        served = self._served()
        if served is not None:
            ports = tls_ports = plain_tables(served.ports.values())
        else:
            ports, tls_ports = self._mesh_hosts(passthrough if self.scope.allow_any else blocked)
        inbound, self.about_inbound = compile_inbound(
            self.kinds,
            self.workload,
            self.domain,
            self.settings,
            self.visible.find,
            self.destinations,
            self.mesh_tls.peers,
            SIDECAR if self.gateways is None else GATEWAY,
        )
        telemetry, about_telemetry = compile_telemetry(self.kinds, self.workload, self.settings.root_namespace)
        self.about_inbound += about_telemetry
        self.leads = Leads()
        if served is None:
            tables, secure = ports, tls_ports
        else:
            tables = secure = dict(enumerate(served.tables()))
        self.leads.add(tables, secure, self.l4)
        self.leads.uses.update(custom.cluster for custom in inbound.custom if custom.cluster)
        clusters = self.destinations.clusters
        resilience = acting({clusters[key].host for key in self.leads.uses}, self.policies.find)
        led_to = {*self.leads.uses, *fallback_clusters(resilience), PASSTHROUGH}
        if len(led_to) < len(clusters):
            clusters = {key: cluster for key, cluster in clusters.items() if key in led_to}
        for key, cluster in clusters.items() if before else ():
            take_turns()
            old = before.get(key) if before else None
            if old is not None and old.same_as(cluster):
                clusters[key] = old
        self.said = Counter(self._problems(tables, secure))
        if served is not None:
            self.said.update((*served.problems, *self.about_ingresses))
        self.refusals = list(reports.refusals(clusters.values(), self.kinds.destination_rules))
        partial = reports.partial_hosts(self.kinds.virtual_services, self.registry, self.domain)
        local = reports.local_endpoints(
            self.kinds.local_endpoints, self.registry, self.destinations.rule_of, clusters.values(), self.domain
        )
        self.made = Snapshot(
            version=version,
            workload=self.workload,
            ports=ports,
            tls_ports=tls_ports,
            clusters=clusters,
            passthrough=passthrough,
            blocked=blocked,
            allow_any=self.scope.allow_any,
            problems=(*self.registry.problems, *self.said, *self.refusals, *partial, *local, *self.about_inbound),
            resource_count=len(self.resources),
            l4=self.l4,
            resilience=resilience,
            fallbacks=any(policy.fallback is not None for policy in resilience.values()),
            sidecar=self.scope.resource,
            named=self.registry.named,
            retry=self.settings.retry,
            inbound=inbound,
            telemetry=telemetry,
            dialled=original_destinations(self.registry.all(), self.workload.namespace, self.domain),
            gateway={} if served is None else served.ports,
            connections=self._about_connections(),
            hosts=VisibleHosts(self.registry, self.scope.listeners, self.workload.namespace, self.domain),
        )
        return self.made

    def _mesh_hosts(self, unknown: VirtualHost) -> tuple[dict[int, PortTable], dict[int, PortTable]]:
        destinations = self.destinations
        forwarding = Forwarding(
            self.workload,
            lambda host, port: seen.claims.touching(host) if (seen := self.visible.on_port(port)) is not None else [],
            destinations.of_model,
            lambda service, port: destinations.of_service(service, "", port, f"host {service.host}"),
            self.l4,
        )
        names_of = NamesOf(self.workload.namespace, self.domain)
        whole_mesh = self.scope.listeners is WHOLE_MESH
        hosts = MeshHosts(
            self.visible,
            self._virtual_host,
            forwarding,
            names_of,
            unknown,
            self.contested,
            whole_mesh=whole_mesh,
            address=self.workload.address,
        )
        ports, tls_ports = {}, {}
        for port in sorted(hosts.ports()):
            ports[port] = hosts.plaintext(port)
            tls_ports[port] = hosts.tls(port) if self.https_rules == "istio" else hosts.as_http(port, ports[port])
        return ports, tls_ports

    def _served(self) -> GatewayPorts | None:
        """The ports of the gateway that the workload is; None: it is none."""
        if self.gateways is None:
            return None
        served = GatewayPorts(
            self.gateways,
            self.kinds,
            self.delegates,
            self.workload,
            self.domain,
            self.settings,
            self.mesh_tls.secrets,
            self.destinations,
            [pair for seen in self.visible.seen for pair in seen.services],
        )
        self.l4 = served.l4
        return served

    def about_gateways(self) -> list[Problem]:
        """What is to be said of the Gateways and Ingresses that the workload serves."""
        served = self._served()
        return [] if served is None else [*served.problems, *self.about_ingresses]

    def _not_of_gateways(self) -> list[Resource]:
        """The resources of which the same has no effect at a gateway as at clients and servers."""
        kinds, workload = self.kinds, self.workload
        named = {
            *(id(p) for p in kinds.authorization_policies if targets(p.spec, p.namespace, workload)),
            *(id(p) for p in kinds.request_authentications if targets(p.spec, p.namespace, workload)),
        }
        return [r for r in self.resources if r.kind != "Gateway" and id(r) not in named]

    def _about_connections(self) -> Authorization | None:
        """What AuthorizationPolicies say of connections to the workload."""
        policies = counting(self.kinds.authorization_policies, self.workload, self.settings)
        return Authorization(for_connections(policies), self.settings.path_normalization) or None

    def _blocked(self) -> VirtualHost:
        of = f" of {self.scope.resource})" if self.scope.resource else ")"
        return virtual_host("*", 0, "", [], [], f"the host is not in the registry: blocked (REGISTRY_ONLY{of}")

    def _passthrough(self) -> VirtualHost:
        if self.gateways is not None:
            return virtual_host("*", 0, "", [], [], "no VirtualService serves this host at the gateway")
        proxy = self.scope.egress_proxy
        if proxy is not None:
            target = self.destinations.of_model(proxy, self.workload.namespace, HTTP_DEFAULT_PORT)
            note = f"the host is not in the registry: sent to the egress proxy of {self.scope.resource}"
            return virtual_host("*", 0, "", [passthrough_rule(target)], [], note)
        self.destinations.clusters[PASSTHROUGH] = Cluster(
            PASSTHROUGH, PASSTHROUGH, "", 0, (), DEFAULT_LIMITS, resolution="passthrough", as_client=True
        )
        destination = Destination(PASSTHROUGH, "", 0, 1, PASSTHROUGH)
        note = "the host is not in the registry: passed through (ALLOW_ANY)"
        return virtual_host("*", 0, "", [passthrough_rule(destination)], [], note)

    def _problems(self, *tables: Mapping[int, PortTable]) -> list[Problem]:
        by_id = {}
        for resource in self.resources:
            take_turns()
            by_id[resource.id] = resource
        virtual_hosts = {id(v): v for ports in tables for table in ports.values() for v in table.virtual_hosts()}
        for claims in self.visible.claims():
            for service in claims.services:
                if any(rule.delegate is not None for rule in service.spec.http or ()):
                    self.delegates.routes(service)  # what is wrong with them is told whoever serves their hosts
        return [
            *self.about_settings,
            *self.destination_rules.problems,
            *self.delegates.problems,
            *self.policies.problems,
            *inert_fields(self.resources if self.gateways is None else self._not_of_gateways()),
            *reports.overlaps(*(table for claims in self.visible.claims() for table in claims.tables())),
            *reports.missing_destinations(virtual_hosts.values(), self.l4.values(), by_id),
            *reports.mirrors_to_themselves(virtual_hosts.values(), by_id),
        ]
