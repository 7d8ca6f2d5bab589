"""The routes of a gateway port: VirtualServices that are bound to a Gateway, by host, one after the other.

Unlike in the mesh, where the oldest VirtualService claims a host, at a gateway the rules of all of them count: oldest
first, and rules that match everything after all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.delegates import Delegates
from meshlib.compiler.mesh_settings import MeshSettings
from meshlib.compiler.routes import Resolver, Rule, SkippedRule
from meshlib.compiler.rules import DEFAULT_RETRY, SOLE, catch_alls_last, compile_rules
from meshlib.policy.rewrite import Redirect
from meshlib.registry.names import resolve, wildcard_matches
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.gateway import Gateway, Server
    from meshlib.resources.virtual_service import VirtualService


class GatewayRoutes:
    """The hosts of one port of the gateways that run on ``workload``."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        services: Sequence[VirtualService],
        delegates: Delegates,
        workload: Workload,
        port: int,
        domain: str,
        settings: MeshSettings,
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._port = port
        self._delegates = delegates
        self._domain = domain
        self._services = sorted((s for s in services if s.spec.hosts), key=lambda s: s.age_key)
        self.servers = [
            (gateway, server)
            for gateway in sorted(gateways, key=lambda g: g.age_key)
            if all(workload.labels.get(k) == v for k, v in (gateway.spec.selector or {}).items())
            for server in gateway.spec.servers or ()
            if server.port.number == port
        ]

    def hosts(self) -> Iterator[str]:
        """Every host that a request may name, each once."""
        seen = set()
        for gateway, server in self.servers:
            if _redirects(server):
                names = [_split(text, gateway.namespace)[1] for text in server.hosts]
            else:
                names = [h for s in self._services for h in self._shared(gateway, server, s)]
            for name in names:
                if name not in seen:
                    seen.add(name)
                    yield name

    def rules(self, host: str, destination: Resolver) -> tuple[str, list[Rule], list[SkippedRule]]:
        """(the VirtualServices, the rules, those left out) of one host."""
        rules: list[Rule] = []
        skipped: list[SkippedRule] = []
        names: list[str] = []
        for gateway, server in self.servers:
            if _redirects(server) and any(
                wildcard_matches(_split(text, gateway.namespace)[1], host) for text in server.hosts
            ):
                return gateway.id, [_to_https()], []
        for service in self._services:
            for gateway, server in self.servers:
                if host not in self._shared(gateway, server, service):
                    continue
                name = f"{gateway.namespace}/{gateway.name}"
                made, left_out = compile_rules(
                    self._delegates.routes(service), self._workload, self._port, destination, name, self._settings
                )
                rules += made
                skipped += left_out
                names.append(service.id)
                break  # once, though several servers may let it in
        return ", ".join(names), catch_alls_last(rules), skipped

    def _shared(self, gateway: Gateway, server: Server, service: VirtualService) -> list[str]:
        """Hosts of a VirtualService that the server lets in: of two that cover each other, the narrower."""
        if not _bound(service, gateway):
            return []
        found = []
        for text in server.hosts:
            namespace, allowed = _split(text, gateway.namespace)
            if namespace not in ("*", service.namespace):
                continue
            for host in service.spec.hosts or ():
                name = resolve(host, service.namespace, self._domain)
                if wildcard_matches(allowed, name):
                    found.append(name)
                elif wildcard_matches(name, allowed):
                    found.append(allowed)
        return found


def _bound(service: VirtualService, gateway: Gateway) -> bool:
    wanted = f"{gateway.namespace}/{gateway.name}"
    for name in service.spec.gateways or ():
        namespace, slash, short = name.rpartition("/")
        if not slash or namespace == ".":
            namespace = service.namespace
        if f"{namespace}/{short}" == wanted:
            return True
    return False


def _split(text: str, namespace: str) -> tuple[str, str]:
    """(namespace, host) of ``ns/host``, ``./host``, ``*/host`` or ``host``."""
    where, slash, host = text.partition("/")
    if not slash:
        return "*", text.lower()
    return (namespace if where == "." else where), host.lower()


def _redirects(server: Server) -> bool:
    return server.tls is not None and bool(server.tls.https_redirect)


def _to_https() -> Rule:
    return Rule(
        index=-1,
        name="https-redirect",
        matches=(),
        destinations=(),
        choice=SOLE,
        retry=DEFAULT_RETRY,
        redirect=Redirect(code=301, scheme="https"),
    )
