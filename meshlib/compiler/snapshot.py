"""``Snapshot``: the compiled configuration of one client (and server), and how a request finds its virtual host in it.
Immutable; a request takes one when it begins and keeps it to its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshlib.changes import changed_keys
from meshlib.compiler.gateway_model import GatewayPort, Place
from meshlib.compiler.inbound import NO_INBOUND, InboundPorts
from meshlib.compiler.resilience import Resilience
from meshlib.compiler.routes import NO_TABLE
from meshlib.compiler.routes import Cluster as Cluster
from meshlib.compiler.routes import Destination as Destination
from meshlib.compiler.routes import L4Host as L4Host
from meshlib.compiler.routes import PortTable as PortTable
from meshlib.compiler.routes import Rule as Rule
from meshlib.compiler.routes import VirtualHost as VirtualHost
from meshlib.compiler.rule_settings import DEFAULT_RETRY
from meshlib.compiler.visible_hosts import VisibleHosts
from meshlib.pace import in_turns
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.retry import RetryPolicy
from meshlib.policy.telemetry_settings import DEFAULT_TELEMETRY, WorkloadTelemetry
from meshlib.problems import Problem
from meshlib.workload import Workload

MAX_SEEN = 10_000
NO_HOSTS = VisibleHosts()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Snapshot:
    """Everything a client needs to route; made by ``compile_snapshot``, never changed."""

    version: str
    workload: Workload
    ports: Mapping[int, PortTable]  # of plaintext URLs
    tls_ports: Mapping[int, PortTable]  # of https URLs; the same table where the two do not differ
    clusters: Mapping[str, Cluster]
    passthrough: VirtualHost
    blocked: VirtualHost
    allow_any: bool = True
    problems: tuple[Problem, ...] = ()
    resource_count: int = 0
    l4: Mapping[tuple[str, int], L4Host] = field(default_factory=dict)  # tls and tcp rules, by full host name and port
    resilience: Mapping[str, Resilience] = field(default_factory=dict)  # by full host name
    fallbacks: bool = False  # whether one of them has a fallback
    # addresses of names that are dialled as they are: headless services and their pods, as the registry knows them
    dialled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sidecar: str = ""  # the Sidecar that bounds what this client sees
    named: frozenset[str] = frozenset()  # the hosts that VirtualServices and DestinationRules name
    retry: RetryPolicy = DEFAULT_RETRY  # of routes that say nothing of retries
    inbound: InboundPorts = NO_INBOUND  # what happens to the requests that this workload serves
    telemetry: WorkloadTelemetry = DEFAULT_TELEMETRY  # what is told of calls made and served
    gateway: Mapping[Place, GatewayPort] = field(default_factory=dict)  # what is listened on by a gateway
    connections: Authorization | None = None  # what policies say of connections to it of which no requests are seen
    hosts: VisibleHosts = NO_HOSTS  # the services that this client sees, for whoever tells their addresses
    # of one that was made out of another: the ``mark`` of that, and the keys of clusters that are other ones, new or gone
    since: tuple[object, frozenset[str]] | None = None
    mark: object = field(default_factory=object)
    # memo of virtual_host(), by what the URL names, Host and scheme: splitting and comparing an authority costs more than
    # the rest of a look-up
    seen: dict[tuple[str, str, str], VirtualHost] = field(default_factory=dict)
    # memo of the proxy, by port: whether requests, and connections over TLS, are told apart there whatever their address
    told_apart: dict[int, tuple[bool, bool]] = field(default_factory=dict)

    def virtual_host(self, dialled: str, scheme: str, host: str | None = None) -> VirtualHost:
        """The virtual host of a request: ``dialled`` is the host and (optional) port that its URL names, ``host`` its Host
        header if that is another.

        A URL outside the mesh gets the pass-through host (the blocking one under REGISTRY_ONLY) whatever Host says. For a
        URL of the mesh, Host chooses among the hosts of the port, its own port ignored, as it does at a sidecar
        (``ignore_port_in_host_matching``); a Host that is not one of them is unknown, and gets the pass-through host too."""
        if host is None:
            host = dialled
        found = self.seen.get((dialled, host, scheme))
        if found is None:
            found = self._find_virtual_host(dialled, scheme)
            if host != dialled and not (found.tcp or found.any_host or self.is_unknown(found)):
                found = self._named_by_host(host, scheme, found.port)
            if len(self.seen) < MAX_SEEN:
                self.seen[dialled, host, scheme] = found
        return found

    def changed_clusters(self, before: Snapshot) -> Collection[str]:
        """The keys of clusters that are not the same objects in ``before``, those that are gone among them."""
        if self.since is not None and self.since[0] is before.mark:
            return self.since[1]
        other, gone = changed_keys(before.clusters, self.clusters)
        return [*other, *gone]

    def is_unknown(self, virtual_host: VirtualHost) -> bool:
        """Whether this is what requests to hosts outside the mesh get."""
        return virtual_host is self.passthrough or virtual_host is self.blocked

    def _find_virtual_host(self, dialled: str, scheme: str) -> VirtualHost:
        name, port = split_authority(dialled)
        tables = self._tables(scheme)
        table = tables.get(port or (443 if scheme == "https" else 80))
        found = table.find(name) if table is not None else None
        if found is None and not port:
            found = _sole(tables.values(), name)
        found = found or _on_any_port(tables.values(), name)
        if found is None and table is not None:
            found = table.rest
        return found or self._unknown()

    def _named_by_host(self, host: str, scheme: str, port: int) -> VirtualHost:
        tables = self._tables(scheme)
        table, name = tables.get(port), split_authority(host.strip(" \t"))[0]
        found = (table.find(name) if table is not None else None) or _on_any_port(tables.values(), name)
        return self._unknown() if found is None or found.tcp else found

    def _tables(self, scheme: str) -> Mapping[int, PortTable]:
        return self.tls_ports if scheme == "https" else self.ports

    def _unknown(self) -> VirtualHost:
        return self.passthrough if self.allow_any else self.blocked

    def not_in(self, other: Snapshot) -> list[Rule | VirtualHost]:
        """The rules and virtual hosts that are not in ``other``, to be let go one by one by who holds them last."""
        hosts: dict[int, VirtualHost] = {}
        for mine, its in ((self.ports, other.ports), (self.tls_ports, other.tls_ports)):
            for port in changed_keys(its, mine)[0]:
                there = its.get(port, NO_TABLE)
                for names, known in ((mine[port].names, there.names), (mine[port].wildcards, there.wildcards)):
                    hosts.update((id(names[name]), names[name]) for name in changed_keys(known, names)[0])
        return [*(rule for host in hosts.values() for rule in in_turns(host.rules)), *hosts.values()]

    def virtual_hosts(self) -> Iterator[VirtualHost]:
        """Every virtual host once, by port."""
        seen: set[int] = set()
        for tables in (self.ports, self.tls_ports):
            for table in tables.values():
                for vhost in table.virtual_hosts():
                    if id(vhost) not in seen and not self.is_unknown(vhost):
                        seen.add(id(vhost))
                        yield vhost


def _sole(tables: Iterable[PortTable], name: str) -> VirtualHost | None:
    """What a URL without a port means when the service it names has just one: kinder than Istio, which would dial 80 (443).
    A service of this very name goes before those that a wildcard names."""
    there = list(tables)
    for found in ([t.names.get(name) for t in there], [t.by_wildcard(name) for t in there]):
        services = [vhost for vhost in found if vhost is not None and vhost.registered]
        if services:
            return services[0] if len(services) == 1 else None
    return None


def _on_any_port(tables: Iterable[PortTable], name: str) -> VirtualHost | None:
    """What serves a host on every port: one that only a LocalEndpoints defines. Of its virtual hosts the lowest port's."""
    there = [vhost for table in tables if (vhost := table.names.get(name)) is not None and vhost.any_port]
    return min(there, key=lambda vhost: vhost.port, default=None)


def split_authority(authority: str) -> tuple[str, int]:
    """``("reviews", 9080)`` of ``Reviews.:9080``: lower-case, one final dot dropped, 0 when no (valid) port is there.

    IPv6 literals keep their brackets off: ``[::1]:80`` gives ``("::1", 80)``.
    """
    host, port = authority, ""
    if authority.startswith("["):
        end = authority.find("]")
        if end > 0:
            host, port = authority[1:end], authority[end + 1 :].removeprefix(":")
    elif authority.count(":") == 1:
        host, _, port = authority.partition(":")
    host = host.lower().removesuffix(".")
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
