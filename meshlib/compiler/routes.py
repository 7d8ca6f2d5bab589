"""What a request meets on its way: virtual host -> rule -> destination (host, subset, port) -> cluster -> endpoint.
Immutable, as all that a ``Snapshot`` has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from meshlib.policy.l4_match import sni_rank

if TYPE_CHECKING:
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
    from meshlib.registry.lack import Lack
    from meshlib.registry.service import Endpoint
    from meshlib.resources.resilience import FallbackDestination
    from meshlib.resources.sidecar import EgressProxy
    from meshlib.resources.virtual_service import Destination as RouteDestination

    Target = RouteDestination | FallbackDestination | EgressProxy

PASSTHROUGH = "PassthroughCluster"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to speak TLS to the endpoints of a cluster (DestinationRule ``tls``)."""

    mode: str  # "SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL": our SVID and roots; the allowed identities are in ``subject_alt_names``
    sni: str = ""
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    subject_alt_names: tuple[str, ...] = ()
    insecure_skip_verify: bool = False
    ca_crl: str = ""
    named_too: bool = False
    """Whether the certificate must also be of the name that is asked for, beside one of ``subject_alt_names``."""
    credential: str = ""
    """The Secret that the following are of (PEM), for messages: ``Secret namespace/name``, "" when files are named."""
    ca_pem: bytes = field(default=b"", repr=False)
    crl_pem: bytes = field(default=b"", repr=False)
    certificate_pem: bytes = field(default=b"", repr=False)
    key_pem: bytes = field(default=b"", repr=False)


class Source(NamedTuple):
    """Where connections to a cluster come from. ``transparent``: from an ``address`` that is not this machine's
    (IP_TRANSPARENT), with the mark by which the kernel brings back what is for it."""

    address: str
    transparent: bool = False


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
    as_client: bool = False  # what is spoken to them is what the client of a proxy speaks (useClientProtocol)
    resolution: str = "static"
    destination_rule: str = ""
    panic_percent: int = 0
    hash_policy: HashPolicy | None = None  # the table; what is hashed is the route's to say
    slow_start: SlowStart | None = None
    retry_budget: RetryBudget | None = None
    placement: Placement | None = None  # None: one priority, one locality
    identities: tuple[str, ...] = ()  # allowed identities (ServiceEntry subjectAltNames)
    dial_port: int = 0  # of passthrough: the port that is dialled, whatever the URL says (0: the URL's)
    dial_host: str = ""  # of passthrough: the host that is dialled ("": the URL's)
    auto_mtls: TlsSettings | None = None
    """For the endpoints of ``mutual`` alone, if this process has an SVID; without one they are called in plain text."""
    mutual: frozenset[str] = frozenset()
    """Keys of endpoints that take mTLS of the mesh; of "passthrough" those of addresses that calls may name."""
    why_plain: str = ""  # why none takes it, for people, where that is decided for all endpoints
    mtls_disabled: Mapping[str, str] = field(
        default_factory=dict
    )  # by endpoint, the PeerAuthentication that says DISABLE
    refusal: str = ""
    """Why no call may be made: the TLS that the policy requires cannot be established, and plaintext is not allowed."""
    lack: Lack | None = None  # why it has no endpoints, if it has none
    given_by: str = ""  # the LocalEndpoints that gives them
    namespace: str = ""  # of the service
    source: Source | None = None  # of its connections; None: as the system has it
    proxy_protocol: str = ""  # "V1" or "V2": the header that connections of a proxy begin with, "": none

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
    lack: Lack | None = None  # of one that is missing: what would give it endpoints


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
    plain: bool = field(init=False, default=False)
    """Nothing but a choice among destinations that exist: no fault, cors, rewrite, header operation, mirror or response of its
    own. Nearly all rules are, and a call is asked once instead of for each."""

    def __post_init__(self) -> None:
        if not self.destinations or self.fault or self.cors or self.rewrite or self.mirrors:
            return
        for to in self.destinations:
            if not to.cluster or to.request_ops or to.response_ops or to.authority:
                return
        object.__setattr__(self, "plain", True)


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
    neither rules nor Host are asked. ``any_host``: requests to the address are for it whatever their Host says. ``any_port``:
    nobody has said which ports the host has, and calls to those that belong to no virtual host are for this one.
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
    any_port: bool = False


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
