"""From Gateways and what is bound to them to the ports that are listened on, and what is to be said of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.gateway_auto import ALPN as AUTO_ALPN
from meshlib.compiler.gateway_auto import passed_through
from meshlib.compiler.gateway_certificates import Unusable, compile_tls
from meshlib.compiler.gateway_model import GatewayChain, GatewayChoice, GatewayPort, GatewayTls
from meshlib.compiler.gateway_selection import without_labels
from meshlib.compiler.gateway_servers import HTTP, TCP, MergedPort, OneServer, chosen, ends_tls, merged
from meshlib.compiler.gateways import BoundServices, GatewayRoutes, spellings
from meshlib.compiler.l4_rules import SOLE, compile_l4
from meshlib.compiler.routes import L4Host, L4Rule, PortTable, Rule, VirtualHost
from meshlib.policy.retry import NO_RETRY
from meshlib.policy.rule_index import RuleIndex
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.compiler.delegates import Delegates
    from meshlib.compiler.destinations import Destinations
    from meshlib.compiler.gateway_model import Place
    from meshlib.compiler.kinds import Kinds
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.compiler.tls_secrets import Secrets
    from meshlib.registry.service import Service, ServicePort
    from meshlib.resources.gateway import Gateway
    from meshlib.resources.virtual_service import VirtualService
    from meshlib.workload import Workload

CATCH_ALL = RuleIndex([()])


class GatewayPorts:
    """Compiles once. ``ports`` by address and number, ``l4`` the rules of connections by the chain that has them,
    ``problems`` what is to be said."""

    def __init__(
        self,
        choice: GatewayChoice,
        kinds: Kinds,
        delegates: Delegates,
        workload: Workload,
        domain: str,
        settings: MeshSettings,
        secrets: Secrets,
        destinations: Destinations,
        visible: Iterable[tuple[Service, Sequence[ServicePort]]],
    ) -> None:
        self._destinations, self._visible = destinations, list(visible)
        destination = destinations.of_model
        self._workload = workload
        self._secrets = secrets
        self._destination = destination
        self.gateways = chosen(kinds.gateways, choice, workload)
        self._services = BoundServices(kinds.virtual_services, workload, domain)
        self._routes = GatewayRoutes(self._services, delegates, workload, settings, destination)
        self.l4: dict[tuple[str, int], L4Host] = {}
        ports, self.problems = merged(self.gateways, kinds.services, workload)
        self.problems += _not_there(choice, self.gateways)
        self.ports: dict[Place, GatewayPort] = {}
        for port in ports:
            self.ports[port.bind, port.number] = self._port(port)
        self.problems += self._strangers(ports)
        for policies in (kinds.authorization_policies, kinds.request_authentications):
            self.problems += without_labels(policies, self.gateways, workload, settings.root_namespace)

    def tables(self) -> Iterator[PortTable]:
        """All virtual hosts."""
        for port in self.ports.values():
            for chain in port.chains:
                if chain.http is not None:
                    yield chain.http.secure
                    if chain.http.plain is not chain.http.secure:
                        yield chain.http.plain

    def _port(self, port: MergedPort) -> GatewayPort:
        first = port.servers[0]
        chains: list[GatewayChain]
        if port.kind == HTTP:
            hosts = self._routes.hosts(port.servers, port.number)
            chains = [GatewayChain(first.route_name, first.name, http=hosts)]
        elif port.kind == TCP:
            chains = list(self._forwarded(first, (), None, ""))
        else:
            chains = []
            for server in port.servers:
                chains += self._over_tls(server, port.number)
        file, line, _, _ = first.place()
        tls = port.kind not in (HTTP, TCP)
        number = first.server.port.number
        return GatewayPort(port.number, number, port.bind, chains, tls=tls, place=f"{first.name} ({file}:{line})")

    # -- TLS ----------------------------------------------------------------------------------------------------------

    def _over_tls(self, server: OneServer, number: int) -> Iterator[GatewayChain]:
        written = server.server.tls
        if written is None:  # validation has refused it
            return
        if not ends_tls(server.server):
            if written.mode == "AUTO_PASSTHROUGH":
                yield from self._of_services(server)
                return
            yield from self._passed_through(server)
            return
        tls, refusal = None, ""
        try:
            tls = compile_tls(written, self._secrets)
        except Unusable as error:
            refusal = str(error)
            self.problems.append(
                server.problem(
                    "certificate-missing", f"{server.name} is not served: {error}", error.hint, "tls", error.field
                )
            )
        if server.server.port.protocol.lower() == "https":
            hosts = self._routes.hosts([server], number)
            yield GatewayChain(server.route_name, server.name, server.snis, tls=tls, http=hosts, refusal=refusal)
        else:
            yield from self._forwarded(server, server.snis, tls, refusal)

    def _forwarded(
        self, server: OneServer, snis: tuple[str, ...], tls: GatewayTls | None, refusal: str
    ) -> Iterator[GatewayChain]:
        """Bytes of TCP, or of TLS that has ended here: the first tcp rule that is for this server."""
        for service in self._services.of(server.gateway_name):
            if not self._services.meets(server, service) or not service.spec.tcp:
                continue
            found = self._l4(server, service)
            for rule in found.tcp if found is not None else ():
                if rule.destinations:
                    self._keep(server, service, (), (rule,))
                    path = _path(server, service.id, rule)
                    yield GatewayChain(server.route_name, server.name, snis, tls=tls, path=path, refusal=refusal)
                    return
        self.problems.append(
            server.problem(
                "no-routes",
                f"{server.name} is not served: no tcp rule of a VirtualService that is bound to {server.gateway_name} is for "
                f"port {server.server.port.number} and its hosts",
                "tcp: [{route: [{destination: {host: ...}}]}] in a VirtualService with this gateway",
            )
        )

    def _passed_through(self, server: OneServer) -> Iterator[GatewayChain]:
        """TLS that ends elsewhere: each match of tls rules, by its server names."""
        taken: dict[str, str] = {}
        some = False
        for service in self._services.of(server.gateway_name):
            if not self._services.meets(server, service) or not service.spec.tls:
                continue
            found = self._l4(server, service)
            for rule in found.tls if found is not None else ():
                if not rule.destinations:
                    continue
                names = tuple(dict.fromkeys(name for match in rule.matches for name in match.sni))
                twice = [name for name in names if name in taken]
                if twice:
                    self.problems.append(_sni_twice(service, rule, twice[0], taken[twice[0]], server))
                names = tuple(name for name in names if name not in taken)
                if not names:
                    continue
                taken.update(dict.fromkeys(names, service.id))
                some = True
                self._keep(server, service, (rule,), ())
                name = f"{server.route_name}|{service.id}|{rule.index}"
                yield GatewayChain(name, server.name, names, path=_path(server, service.id, rule))
        if not some:
            self.problems.append(
                server.problem(
                    "no-routes",
                    f"{server.name} is not served: no tls rule of a VirtualService that is bound to {server.gateway_name} is "
                    f"for port {server.server.port.number} and its hosts",
                    "tls: [{match: [{sniHosts: [...]}], route: [...]}] in a VirtualService with this gateway",
                )
            )

    def _of_services(self, server: OneServer) -> Iterator[GatewayChain]:
        """Mutual TLS of the mesh, by the names that its clients ask for."""
        for name, destination in passed_through(server, self._visible, self._destinations):
            rule = L4Rule("tls", -1, (), (destination,), SOLE)
            self.l4[name, server.port] = L4Host(name, server.port, "", (rule,), ())
            path = _path(server, "", rule)
            chain = f"{server.route_name}|{name}"
            yield GatewayChain(chain, server.name, (name,), AUTO_ALPN, path=path, judged=False)

    def _l4(self, server: OneServer, service: VirtualService) -> L4Host | None:
        return compile_l4(
            service,
            server.name,
            server.server.port.number,
            self._workload,
            self._destination,
            spellings(server, service),
        )

    def _keep(
        self, server: OneServer, service: VirtualService, tls: tuple[L4Rule, ...], tcp: tuple[L4Rule, ...]
    ) -> None:
        key = (f"{server.name} {service.id} {len(self.l4)}", server.port)
        self.l4[key] = L4Host(server.name, server.port, service.id, tls, tcp)

    # -- what is to be said ---------------------------------------------------------------------------------------------

    def _strangers(self, ports: Sequence[MergedPort]) -> Iterator[Problem]:
        """VirtualServices that are bound to one of the gateways, none of whose servers lets a host of theirs in."""
        servers: dict[str, list[OneServer]] = {}
        for port in ports:
            for server in port.servers:
                servers.setdefault(server.gateway_name, []).append(server)
        known = {f"{g.namespace}/{g.name}": g for g in self.gateways}
        for name, services in self._services.gateways():
            gateway = known.get(name)
            if gateway is None:
                continue
            for service in services:
                if any(self._services.meets(server, service) for server in servers.get(name, ())):
                    continue
                line, column = service.place_of(("spec", "hosts"))
                listed = sorted({text for each in gateway.spec.servers or () for text in each.hosts})
                yield Problem(
                    "host-not-in-gateway",
                    Severity.WARNING,
                    service.origin.file,
                    line,
                    column,
                    f"{service.id} spec.hosts",
                    f"it is bound to {gateway.id}, which lists none of its hosts ({', '.join(service.spec.hosts or ())}): "
                    f"nobody gets there by it",
                    f"the Gateway has {', '.join(listed[:5]) or 'no hosts'}{', ...' if len(listed) > 5 else ''}: add the host, "
                    "or bind it to another one",
                )


def _path(server: OneServer, resource: str, rule: L4Rule) -> VirtualHost:
    """Where a rule of connections leads, as what requests take."""
    made = Rule(rule.index, "", (), rule.destinations, rule.choice, NO_RETRY)
    note = (
        f"{rule.kind}[{rule.index}] of {resource} decides" if resource else "the name that is asked for is a service's"
    )
    return VirtualHost(server.name, server.port, resource, (made,), CATCH_ALL, note=note, single=made, tcp=True)


def _not_there(choice: GatewayChoice, gateways: Sequence[Gateway]) -> Iterator[Problem]:
    have = {f"{g.namespace}/{g.name}" for g in gateways}
    for name in choice.names:
        if name not in have:
            yield Problem(
                "gateway-missing",
                Severity.WARNING,
                "",
                0,
                0,
                f"Gateway/{name}",
                f"there is no Gateway {name} among the resources: nothing is listened on for it",
                "check --config and --gateway; it takes effect as soon as it is there",
            )


def _sni_twice(service: VirtualService, rule: L4Rule, name: str, other: str, server: OneServer) -> Problem:
    line, column = service.place_of(("spec", "tls", rule.index))
    return Problem(
        "duplicate-host",
        Severity.WARNING,
        service.origin.file,
        line,
        column,
        f"{service.id} spec.tls[{rule.index}]",
        f"{name} at {server.name} is taken by {other}, whose rule is used",
        "leave each server name to one rule",
    )


def plain_tables(ports: Iterable[GatewayPort]) -> dict[int, PortTable]:
    """The virtual hosts of ports in plain text, as clients of HTTP see them: for explanations."""
    found: dict[int, PortTable] = {}
    for port in ports:
        if port.plain is not None and port.plain.http is not None:
            found.setdefault(port.server_port, port.plain.http.plain)
    return found
