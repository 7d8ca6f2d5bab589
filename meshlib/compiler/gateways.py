"""The routes of a gateway's servers: VirtualServices that are bound to their Gateways, by host, one after the other.

Unlike in the mesh, where the oldest VirtualService claims a host, at a gateway the rules of all of them count: oldest
first, and rules that match everything after all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.delegates import Delegates
from meshlib.compiler.gateway_model import Hosts
from meshlib.compiler.gateway_servers import OneServer, redirects
from meshlib.compiler.mesh_settings import MeshSettings
from meshlib.compiler.routes import PortTable, Resolver, Rule, SkippedRule, VirtualHost
from meshlib.compiler.rules import DEFAULT_RETRY, SOLE, catch_alls_last, compile_rules, sort_claims
from meshlib.compiler.scope import export_rank, exported_to
from meshlib.pace import take_turns
from meshlib.policy.rewrite import Redirect
from meshlib.policy.rule_index import RuleIndex
from meshlib.registry.names import is_within, overlap, resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService


class BoundServices:
    """The VirtualServices that a gateway's workload sees, by the Gateways (``namespace/name``) that they are bound to."""

    def __init__(self, services: Iterable[VirtualService], workload: Workload, domain: str) -> None:
        client = workload.namespace
        visible = [s for s in services if s.spec.hosts and exported_to(s.spec.export_to, s.namespace, client)]
        self._by_gateway: dict[str, list[VirtualService]] = {}
        self._hosts: dict[str, list[str]] = {}
        for service in sort_claims(visible, lambda s: export_rank(s.spec.export_to, s.namespace, client)):
            self._hosts[service.id] = [resolve(host, service.namespace, domain) for host in service.spec.hosts or ()]
            for name in dict.fromkeys(full_name(text, service.namespace) for text in service.spec.gateways or ()):
                self._by_gateway.setdefault(name, []).append(service)

    def of(self, gateway: str) -> Sequence[VirtualService]:
        """Those of one, in the order in which they count."""
        return self._by_gateway.get(gateway, ())

    def gateways(self) -> Iterable[tuple[str, Sequence[VirtualService]]]:
        """All that are named."""
        return self._by_gateway.items()

    def hosts(self, service: VirtualService) -> list[str]:
        """Its hosts in full."""
        return self._hosts[service.id]

    def shared(self, server: OneServer, service: VirtualService) -> list[str]:
        """Hosts of a VirtualService that the server lets in: of two that cover each other, the narrower."""
        found: dict[str, None] = {}
        for namespace, allowed in server.hosts:
            if namespace in ("*", service.namespace):
                for name in self._hosts[service.id]:
                    if is_within(allowed, name):
                        found[allowed] = None
                    elif is_within(name, allowed):
                        found[name] = None
        return list(found)

    def meets(self, server: OneServer, service: VirtualService) -> bool:
        """Whether the server lets any host of it in, as it is asked for connections."""
        return any(
            namespace in ("*", service.namespace) and any(overlap(name, allowed) for name in self._hosts[service.id])
            for namespace, allowed in server.hosts
        )


class GatewayRoutes:
    """Makes the virtual hosts of servers."""

    def __init__(
        self,
        services: BoundServices,
        delegates: Delegates,
        workload: Workload,
        settings: MeshSettings,
        destination: Resolver,
    ) -> None:
        self._services = services
        self._delegates = delegates
        self._workload = workload
        self._settings = settings
        self._destination = destination

    def hosts(self, servers: Sequence[OneServer], number: int) -> Hosts:
        """Those of servers that share their routes, on port ``number``."""
        found: dict[str, _Host] = {}
        for server in servers:
            sent_away = redirects(server.server)
            made: dict[str, tuple[list[Rule], list[SkippedRule]]] = {}
            for service in self._services.of(server.gateway_name):
                for host in self._services.shared(server, service):
                    if service.id not in made:
                        made[service.id] = self._rules(server, service)
                    there = found.setdefault(host, _Host())
                    there.sent_away |= sent_away
                    if service.id not in there.names:  # once, though several servers let it in
                        there.names.append(service.id)
                        there.rules += made[service.id][0]
                        there.skipped += made[service.id][1]
            for _, host in server.hosts if sent_away else ():
                there = found.setdefault(host, _Host())
                there.sent_away, there.gateway = True, server.gateway.id
        secure = {host: each.virtual_host(host, number) for host, each in found.items()}
        plain = {
            host: _sent_away(host, number, each.gateway) if each.sent_away else secure[host]
            for host, each in found.items()
        }
        table = _table(secure)
        return Hosts(_table(plain) if any(each.sent_away for each in found.values()) else table, table)

    def _rules(self, server: OneServer, service: VirtualService) -> tuple[list[Rule], list[SkippedRule]]:
        return compile_rules(
            self._delegates.routes(service),
            self._workload,
            server.server.port.number,
            self._destination,
            spellings(server, service),
            self._settings,
        )


class _Host:
    """What is gathered of one host."""

    __slots__ = ("gateway", "names", "rules", "sent_away", "skipped")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rules: list[Rule] = []
        self.skipped: list[SkippedRule] = []
        self.sent_away = False
        self.gateway = ""

    def virtual_host(self, host: str, number: int) -> VirtualHost:
        return virtual_host(host, number, ", ".join(self.names), catch_alls_last(self.rules), self.skipped)


def full_name(text: str, namespace: str) -> str:
    """``namespace/name`` of an entry of ``gateways`` in a VirtualService of ``namespace``; ``mesh`` stays."""
    if text == "mesh":
        return text
    where, slash, short = text.rpartition("/")
    if not slash or where == ".":
        where = namespace
    return f"{where}/{short}"


def spellings(server: OneServer, service: VirtualService) -> frozenset[str]:
    """How the VirtualService may write the server's Gateway."""
    gateway = server.gateway
    names = {server.gateway_name}
    if gateway.namespace == service.namespace:
        names |= {gateway.name, f"./{gateway.name}"}
    return frozenset(names)


def virtual_host(
    host: str, port: int, resource: str, rules: Sequence[Rule], skipped: Sequence[SkippedRule] = (), note: str = ""
) -> VirtualHost:
    """Of rules that are there already."""
    single = rules[0] if rules and not rules[0].matches else None
    index = RuleIndex([rule.matches for rule in rules], take_turns)
    return VirtualHost(host, port, resource, tuple(rules), index, tuple(skipped), note, single)


def _sent_away(host: str, number: int, gateway: str) -> VirtualHost:
    rule = Rule(
        index=-1,
        name="https-redirect",
        matches=(),
        destinations=(),
        choice=SOLE,
        retry=DEFAULT_RETRY,
        redirect=Redirect(code=301, scheme="https"),
    )
    return virtual_host(host, number, gateway, [rule], note="httpsRedirect")


def _table(hosts: dict[str, VirtualHost]) -> PortTable:
    return PortTable(
        {host: vhost for host, vhost in hosts.items() if not host.startswith("*")},
        {host[1:]: vhost for host, vhost in hosts.items() if host.startswith("*")},
    )
