"""The compiled configuration of one client (and server): virtual hosts, rules, destinations, clusters. Immutable.

virtual host -> rule -> destination (host, subset, port) -> cluster -> endpoint. A request takes one ``Snapshot`` when it
begins and keeps it to its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from meshlib.changes import changed_keys
from meshlib.compiler.inbound import NOTHING, Inbound
from meshlib.pace import in_turns
from meshlib.policy.l4_match import sni_rank
from meshlib.problems import Problem
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.compiler.resilience import Resilience
    from meshlib.policy.circuit_limits import CircuitLimits
    from meshlib.policy.consistent_hash import HashPolicy
    from meshlib.policy.cors import CorsPolicy
    from meshlib.policy.fault import FaultPolicy
    from meshlib.policy.header_ops import HeaderOps
    from meshlib.policy.http_match import CompiledMatch
    from meshlib.policy.l4_match import L4Match
    from meshlib.policy.locality import Placement
    from meshlib.policy.outlier import OutlierSettings
    from meshlib.policy.retry import RetryPolicy
    from meshlib.policy.retry_budget import RetryBudget
    from meshlib.policy.rewrite import Redirect, Rewrite
    from meshlib.policy.rule_index import RuleIndex
    from meshlib.policy.slow_start import SlowStart
    from meshlib.policy.weights import WeightedChoice
    from meshlib.registry.service import Endpoint
    from meshlib.resources.resilience import FallbackDestination
    from meshlib.resources.sidecar import EgressProxy
    from meshlib.resources.virtual_service import Destination as RouteDestination

    Target = RouteDestination | FallbackDestination | EgressProxy

PASSTHROUGH = "PassthroughCluster"
MAX_SEEN = 10_000


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to speak TLS to the endpoints of a cluster (DestinationRule ``tls``)."""

    mode: str  # "SIMPLE" | "MUTUAL"
    sni: str = ""
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    subject_alt_names: tuple[str, ...] = ()
    insecure_skip_verify: bool = False
    ca_crl: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """The endpoints of one (host, subset, port) and how to treat them. ``key`` is Envoy's cluster name.

    ``resolution`` is "static", "dns" (endpoint addresses are names, and every address a name has is an endpoint),
    "logical_dns" (a name is one endpoint, new connections go to the address it has then) or "passthrough" (the address is
    the one the caller dialled).
    """

    key: str
    host: str
    subset: str
    port: int
    endpoints: tuple[Endpoint, ...]
    limits: CircuitLimits
    balancer: str = "LEAST_REQUEST"
    outlier: OutlierSettings | None = None
    tls: TlsSettings | None = None
    protocol: str = "http"
    http2: bool = False  # spoken to the endpoints
    resolution: str = "static"
    destination_rule: str = ""
    panic_percent: int = 0
    hash_policy: HashPolicy | None = None  # the table; what is hashed is the route's to say
    slow_start: SlowStart | None = None
    retry_budget: RetryBudget | None = None
    placement: Placement | None = None  # None: one priority, one locality
    identities: tuple[str, ...] = ()  # who may answer (ServiceEntry subjectAltNames)
    dial_port: int = 0  # of passthrough: the port that is dialled, whatever the URL says (0: the URL's)
    refusal: str = (
        ""  # why no call may be made: the TLS that the policy asks for cannot be had, and plaintext is not it
    )

    def same_as(self, other: Cluster) -> bool:
        """Whether nothing about it is other than about ``other``, endpoints being the same objects."""
        return all(getattr(self, name) == getattr(other, name) for name in Cluster.__slots__)


@dataclass(frozen=True, slots=True, eq=False)
class Destination:
    """Where a rule sends a request. ``cluster`` is a key of ``Snapshot.clusters``, or "" when nothing is there:
    then ``missing`` says what (the call is answered 503, flag NC, as Envoy does)."""

    host: str
    subset: str
    port: int
    weight: int
    cluster: str
    missing: str = ""
    request_ops: tuple[HeaderOps, ...] = ()  # the rule's and the destination's own, in the order of application
    response_ops: tuple[HeaderOps, ...] = ()
    authority: str = ""  # a Host that the operations set
    tells_original_host: bool = True  # Envoy does not when one of several destinations sets the Host
    hash_policy: HashPolicy | None = None  # what a route to it hashes by, whether or not the cluster has a table


class Resolver(Protocol):
    """How those who compile rules find what their destinations mean."""

    def __call__(self, model: Target, namespace: str, dialled_port: int) -> Destination:
        """The destination, of weight 0, that a rule in a resource of ``namespace`` names; ``dialled_port`` counts when it
        names no port."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """Where a rule sends copies, and of which share of its calls, in millionths."""

    destination: Destination
    share: int


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One http rule of a VirtualService (or a service's default route), with everything decided."""

    index: int  # position in spec.http, -1 for a default route
    name: str
    matches: tuple[CompiledMatch, ...]  # OR; empty: matches everything
    destinations: tuple[Destination, ...]
    choice: WeightedChoice
    retry: RetryPolicy
    timeout: float | None = None  # seconds, for the whole call with its retries; None: none (Istio's default)
    fault: FaultPolicy | None = None
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    direct: tuple[int, bytes] | None = None  # status and body
    mirrors: tuple[Mirror, ...] = ()
    response_ops: tuple[HeaderOps, ...] = ()  # of a rule that answers itself (redirect, direct response)
    cors: CorsPolicy | None = None
    hash_policies: tuple[HashPolicy, ...] = ()  # what a request's hash is made of
    delegate: str = ""  # the rule of another VirtualService that it was taken from
    has_stat_prefix: bool = False  # whether one of the matches is to be counted by name


@dataclass(frozen=True, slots=True, eq=False)
class L4Rule:
    """One tls or tcp rule: where connections go. No match block means every connection."""

    kind: str  # "tls" | "tcp"
    index: int
    matches: tuple[L4Match, ...]
    destinations: tuple[Destination, ...]
    choice: WeightedChoice


@dataclass(frozen=True, slots=True, eq=False)
class L4Host:
    """The tls and tcp rules of one host and port. ``resource`` is their VirtualService."""

    host: str
    port: int
    resource: str
    tls: tuple[L4Rule, ...]
    tcp: tuple[L4Rule, ...]

    def route(self, server_name: str = "", destination: str = "", source: str = "") -> L4Rule | None:
        """The rule of a connection: with a server name the tls rule whose name fits best (the first of equals), else the
        first tcp rule that fits. None: no rule of the VirtualService is for it."""
        if server_name:
            best, rank = None, -1
            for rule in self.tls:
                for match in rule.matches:
                    how_well = sni_rank(match.sni, server_name)
                    if how_well > rank and match(server_name, destination, source):
                        best, rank = rule, how_well
            if best is not None:
                return best
        for rule in self.tcp:
            if not rule.matches or any(match("", destination, source) for match in rule.matches):
                return rule
        return None


@dataclass(frozen=True, slots=True, eq=False)
class SkippedRule:
    """A rule of the resource that does not exist for this client (sourceLabels, namespace, gateways, port, a delegate that
    is not there)."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class VirtualHost:
    """The rules of one host on one port. ``resource`` is "" when no VirtualService claims the host.

    ``single`` short-cuts the commonest table, a single rule that matches everything. ``registered``: the host is one of the
    registry's, not a VirtualService's alone. ``tcp``: a sidecar would forward the connection to the destination as it is;
    neither rules nor Host are asked. ``any_host``: requests to the address are for it whatever their Host says.
    """

    host: str
    port: int
    resource: str
    rules: tuple[Rule, ...]
    index: RuleIndex
    skipped: tuple[SkippedRule, ...] = ()
    note: str = ""
    single: Rule | None = None
    registered: bool = True
    tcp: bool = False
    any_host: bool = False


class PortTable:
    """The virtual hosts of one port by the names that requests give: exact ones, and wildcards by what follows their
    asterisk. ``rest`` is what every other name gets; None: they are outside the mesh. Filled once, then only read."""

    __slots__ = ("lengths", "names", "rest", "wildcards")

    def __init__(
        self, names: Mapping[str, VirtualHost], wildcards: Mapping[str, VirtualHost], rest: VirtualHost | None = None
    ) -> None:
        self.names = names
        self.wildcards = wildcards
        self.lengths = sorted({len(suffix) for suffix in wildcards}, reverse=True)
        self.rest = rest

    def find(self, name: str) -> VirtualHost | None:
        """The virtual host of an exact name, else of the longest wildcard (one character at least is the asterisk's)."""
        return self.names.get(name) or self.by_wildcard(name)

    def by_wildcard(self, name: str) -> VirtualHost | None:
        for length in self.lengths:
            if length < len(name):
                found = self.wildcards.get(name[len(name) - length :])
                if found is not None:
                    return found
        return None

    def virtual_hosts(self) -> Iterator[VirtualHost]:
        """All of them; one that has several names comes several times."""
        yield from self.names.values()
        yield from self.wildcards.values()
        if self.rest is not None:
            yield self.rest


NO_TABLE = PortTable({}, {})


@dataclass(frozen=True, slots=True, eq=False)
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
    inbound: Inbound = NOTHING  # what happens to the requests that this workload serves
    # of one that was made out of another: the ``mark`` of that, and the keys of clusters that are other ones, new or gone
    since: tuple[object, frozenset[str]] | None = None
    mark: object = field(default_factory=object)
    # memo of virtual_host(), by what the URL names, Host and scheme: splitting and comparing an authority costs more than
    # the rest of a look-up
    seen: dict[tuple[str, str, str], VirtualHost] = field(default_factory=dict)

    def virtual_host(self, dialled: str, scheme: str, host: str | None = None) -> VirtualHost:
        """The virtual host of a request: ``dialled`` is the host and (optional) port that its URL names, ``host`` its Host
        header if that is another.

        A URL outside the mesh gets the pass-through host (the blocking one under REGISTRY_ONLY) whatever Host says. For a
        URL of the mesh, Host chooses among the hosts of the port, its own port ignored, as it does at a sidecar
        (``ignore_port_in_host_matching``); a Host that is none of them is unknown, and gets the pass-through host too."""
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
        if found is None and table is not None:
            found = table.rest
        return found or self._unknown()

    def _named_by_host(self, host: str, scheme: str, port: int) -> VirtualHost:
        table = self._tables(scheme).get(port)
        found = table.find(split_authority(host.strip(" \t"))[0]) if table is not None else None
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
