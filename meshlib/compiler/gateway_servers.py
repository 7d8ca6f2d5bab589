"""Which servers of which Gateways share a port, as istiod merges them: Gateways from the oldest to the youngest; of two servers
that cannot share one the earlier stays, and the other one is reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.compiler.inbound_protection import serves
from meshlib.problems import Problem, Severity
from meshlib.resources.validation.protocols import is_http, is_tls
from meshlib.resources.validation.server_tls import passes_through

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayChoice, Place
    from meshlib.resources.gateway import Gateway, Server
    from meshlib.resources.kubernetes import Service
    from meshlib.workload import Workload

HTTP, TLS, TCP = "http", "tls", "tcp"
NOT_TRANSLATED = "experimental.istio.io/disable-gateway-port-translation"
"""A label of Services that do not say which port is listened on."""


@dataclass(frozen=True, slots=True, eq=False)
class OneServer:
    """A server of a Gateway, ``index`` in its list. ``port`` is what is listened on."""

    gateway: Gateway
    index: int
    server: Server
    port: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.gateway.id} servers[{self.index}]"

    @property
    def gateway_name(self) -> str:
        """As VirtualServices write it."""
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def route_name(self) -> str:
        """istiod's name of its routes, which no other server over TLS has."""
        server = self.server
        bind = f".{server.bind}" if server.bind else ""
        if is_http(server.port.protocol):
            return f"http.{self.port}{bind}"
        kind = server.port.protocol.lower()
        return f"{kind}.{server.port.number}.{server.port.name}.{self.gateway.name}.{self.gateway.namespace}{bind}"

    @property
    def hosts(self) -> list[tuple[str, str]]:
        """(namespace, host) of each; namespace "*" for any, "." replaced by the Gateway's."""
        return [split_host(text, self.gateway.namespace) for text in self.server.hosts]

    @property
    def snis(self) -> tuple[str, ...]:
        """The server names that it is for."""
        return tuple(sorted({host for _, host in self.hosts}))

    def place(self, *loc: str | int) -> tuple[str, int, int, str]:
        """File, line, column and path of a field of it."""
        whole = ("spec", "servers", self.index, *loc)
        line, column = self.gateway.place_of(whole)
        written = self.gateway.as_written(whole)
        fields = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in written)
        return self.gateway.origin.file, line, column, f"{self.gateway.id} {fields.removeprefix('.')}"

    def problem(self, code: str, message: str, hint: str, *loc: str | int) -> Problem:
        """What is to be said of a field of it."""
        file, line, column, path = self.place(*loc)
        return Problem(code, Severity.WARNING, file, line, column, path, message, hint)


@dataclass(slots=True, eq=False)
class MergedPort:
    """The servers of one port, which are all of one ``kind``."""

    kind: str
    number: int
    bind: str
    servers: list[OneServer] = field(default_factory=list)


def split_host(text: str, namespace: str) -> tuple[str, str]:
    """(namespace, host) of ``ns/host``, ``./host``, ``*/host`` or ``host``, the host in lower case."""
    where, slash, host = text.partition("/")
    if not slash:
        return "*", text.lower()
    return (namespace if where == "." else where), host.lower()


def chosen(gateways: Iterable[Gateway], choice: GatewayChoice, workload: Workload) -> list[Gateway]:
    """Those that the process serves, the oldest first."""
    if choice.names:
        found = [g for g in gateways if f"{g.namespace}/{g.name}" in choice.names]
    else:
        found = [g for g in gateways if all(workload.labels.get(k) == v for k, v in (g.spec.selector or {}).items())]
    return sorted(found, key=lambda g: g.age_key)


def merged(
    gateways: Sequence[Gateway], services: Iterable[Service], workload: Workload
) -> tuple[list[MergedPort], list[Problem]]:
    """The ports of ``gateways``, by the targetPorts of the ``services`` that select the workload."""
    translated = _translated(services, workload)
    ports: dict[Place, MergedPort] = {}
    taken: dict[Place, dict[str, OneServer]] = {}
    problems: list[Problem] = []
    for gateway in gateways:
        for index, server in enumerate(gateway.spec.servers or ()):
            number = server.port.number
            each = OneServer(gateway, index, server, translated.get(number, number))
            problems += _merge(each, ports, taken)
    return list(ports.values()), problems


def _merge(
    each: OneServer, ports: dict[Place, MergedPort], taken: dict[Place, dict[str, OneServer]]
) -> Iterator[Problem]:
    server = each.server
    bind = server.bind or ""
    if bind.startswith("unix:"):
        yield each.problem(
            "no-effect",
            f"{each.name} is bound to {bind}: a gateway listens on IP addresses",
            "bind an IP, or none",
            "bind",
        )
        return
    place = (bind, each.port)
    kind = kind_of(server)
    there = ports.get(place)
    if there is not None and (there.kind != kind or kind == TCP):
        first = there.servers[0]
        yield each.problem(
            "conflicting-server",
            f"{each.name} ({server.port.protocol}) is not served: port {each.port} is {first.server.port.protocol} of "
            f"{first.name} ({_at(first)}), and the two cannot share one",
            "give one of them another port number",
            "port",
        )
        return
    if kind == TLS:
        known = taken.setdefault(place, {})
        names = [host if namespace == "*" else f"{namespace}/{host}" for namespace, host in each.hosts]
        twice = [name for name in names if name in known]
        if twice:
            other = known[twice[0]]
            yield each.problem(
                "duplicate-host",
                f"{each.name} is not served: {', '.join(twice)} on port {each.port} is taken by {other.name} ({_at(other)})",
                "leave each host to one server of a port over TLS",
                "hosts",
            )
            return
        known.update(dict.fromkeys(names, each))
    if there is None:
        there = ports[place] = MergedPort(kind, each.port, bind)
    there.servers.append(each)


def kind_of(server: Server) -> str:
    """What its connections begin with."""
    protocol = server.port.protocol
    if is_http(protocol):
        return HTTP
    return TLS if is_tls(protocol) else TCP


def ends_tls(server: Server) -> bool:
    """Whether TLS is ended here."""
    return server.tls is not None and not passes_through(server.tls)


def redirects(server: Server) -> bool:
    """Whether requests in plain text are sent to https."""
    return server.tls is not None and bool(server.tls.https_redirect)


def _at(server: OneServer) -> str:
    file, line, _, _ = server.place()
    return f"{file}:{line}"


def _translated(services: Iterable[Service], workload: Workload) -> dict[int, int]:
    """The ports of the workload's Services, and where their traffic arrives; the oldest counts."""
    found: dict[int, int] = {}
    mine = [service for service in services if serves(service, workload)]
    for service in sorted(mine, key=lambda s: s.age_key):
        if NOT_TRANSLATED in (service.metadata.labels or {}):
            continue
        for port in service.spec.ports or ():
            target = port.target_port
            if isinstance(target, int) and target:
                found.setdefault(port.port, target)
    return found
