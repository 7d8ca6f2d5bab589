"""Services and endpoints, whatever resource they come from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass, field

NO_LABELS: Mapping[str, str] = {}
NO_PORTS: Set[int] = frozenset()
SNIFFED = "sniffed"
"""The protocol of a port that declares none: Istio looks at what is sent."""
LOCAL = "local"
"""The resolution of a service whose endpoints a LocalEndpoints gives; and the kind of one that nothing else defines."""
CLUSTER_DNS = "cluster_dns"
"""The resolution of a service that is called at its own name (``endpoints="dns"``)."""
ANY_PORT = 0
"""Among the endpoints of a service by port: those of ports without a name."""
HTTP_PROTOCOLS = frozenset(("http", "http2", "grpc", "grpc-web"))
TLS_PROTOCOLS = frozenset(("https", "tls"))
PROTOCOLS = HTTP_PROTOCOLS | TLS_PROTOCOLS | {"tcp", "mongo", "mysql", "redis", "udp"}


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One address of a service port. ``address`` is an IP, a DNS name (resolved when connecting) or ``unix:///path``.

    ``locality`` is region/zone/subzone; ``healthy`` is readiness; ``tls_mode`` "istio" when the workload takes mTLS;
    ``hostname`` a pod's own name, by which it is called before the name of its headless service; ``pod`` the Pod's name;
    ``subset`` the one that a LocalEndpoints puts it in: its labels are those of that subset in the client's DestinationRule.
    """

    address: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    locality: str = ""
    network: str = ""
    service_account: str = ""
    healthy: bool = True
    workload: str = ""
    tls_mode: str = ""
    hostname: str = ""
    pod: str = ""
    subset: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            if self.address.startswith("unix:"):
                key = self.address
            else:
                key = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
            object.__setattr__(self, "key", key)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A service port; ``protocol`` is http, http2, grpc, https, tls, tcp ... in lower case, ``SNIFFED`` when none is known."""

    number: int
    name: str = ""
    protocol: str = "http"
    target_port: int | str | None = None

    @property
    def takes_http(self) -> bool:
        """Whether http rules act on it in Istio: it is HTTP, or may turn out to be."""
        return self.protocol in HTTP_PROTOCOLS or self.protocol == SNIFFED


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A host that can be called. ``endpoints`` by service port number; ``resolution`` is static, dns, dns_round_robin,
    dynamic_dns, none, local, cluster_dns or alias; ``alias`` the name an ExternalName stands for, ``alias_ports`` the ports on
    which it does (None: all), ``aliases`` the ExternalNames that stand for this host. ``position`` is that among the hosts of
    its resource. ``cluster_ports`` are the ports that there are clusters of, None: all. ``alike`` is what two ServiceEntries
    must have in common for the ports of both to be one service's. One with endpoints of ``ANY_PORT`` may be called on every
    port: it is not known which it has. ``why_empty``: why it has no endpoints, if it has none; ``given_by`` the LocalEndpoints
    that gives them. ``automatic``: the addresses that Istio has allocated to it, none yet, or None: it gets none
    (``automatic.py``)."""

    host: str
    namespace: str
    kind: str  # "kubernetes" | "serviceentry" | "local"
    ports: tuple[ServicePort, ...]
    endpoints: Mapping[int, tuple[Endpoint, ...]]
    resource: str
    age_key: tuple[str, str, str, int]
    resolution: str = "static"
    addresses: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    external: bool = False
    headless: bool = False
    alias: str = ""
    subject_alt_names: tuple[str, ...] = ()
    position: int = 0
    aliases: tuple[str, ...] = ()
    cluster_ports: tuple[ServicePort, ...] | None = None
    alike: Hashable = None
    alias_ports: frozenset[int] | None = None
    why_empty: str = ""
    given_by: str = ""
    automatic: tuple[str, ...] | None = None

    def is_alias_on(self, port: int) -> bool:
        """Whether calls to a port are for the host that it stands for (a ServiceEntry of an ExternalName's host may add other
        ports, of which there are no clusters)."""
        return bool(self.alias) and (self.alias_ports is None or port in self.alias_ports)

    @property
    def is_public(self) -> bool:
        """Whether every namespace sees it."""
        return not self.export_to or "*" in self.export_to

    @property
    def order(self) -> tuple[bool, tuple[str, str, str, int], int]:
        """Sorts services: Kubernetes' before others, then the oldest."""
        return self.kind != "kubernetes", self.age_key, self.position

    @property
    def age(self) -> tuple[str, bool, str, tuple[str, str, str, int], int]:
        """Sorts definitions of one host, the oldest first; of the same age a Kubernetes Service is before others, then the
        namespaces' names decide."""
        return self.age_key[0], self.kind != "kubernetes", self.namespace, self.age_key, self.position

    def visible_from(self, client_namespace: str) -> bool:
        """Whether exportTo shows the service to clients of a namespace."""
        if self.is_public:
            return True
        if "~" in self.export_to:
            return False
        return client_namespace in self.export_to or ("." in self.export_to and client_namespace == self.namespace)

    @property
    def by_name(self) -> bool:
        """Whether endpoints are names, or addresses written beside them (resolution DNS and DNS_ROUND_ROBIN)."""
        return self.resolution in ("dns", "dns_round_robin")

    @property
    def any_port(self) -> bool:
        """Whether it may be called on ports that are not in ``ports``."""
        return ANY_PORT in self.endpoints

    def cluster_port(self, number: int) -> ServicePort | None:
        """The port of that number if there is a cluster of it."""
        ports = self.ports if self.cluster_ports is None else self.cluster_ports
        found = next((port for port in ports if port.number == number), None)
        return ServicePort(number) if found is None and self.any_port else found

    def endpoints_on(self, port: int) -> tuple[Endpoint, ...]:
        """The endpoints of a port."""
        found = self.endpoints.get(port)
        return self.endpoints.get(ANY_PORT, ()) if found is None else found

    def same_but_endpoints(self, other: Service, as_bytes: Set[int] = NO_PORTS) -> bool:
        """Whether whatever is decided from a service, except where its endpoints are, stays as it is. ``as_bytes``: ports that
        the client does not take for HTTP, whatever the service declares (a Sidecar's egress listeners)."""
        same = all(getattr(self, name) == getattr(other, name) for name in _SHAPE) and not self.any_port
        if same and self.headless and self._reachable(as_bytes) != other._reachable(as_bytes):
            return False
        return same and (not self.by_name or self._labels() == other._labels())

    def _reachable(self, as_bytes: Set[int]) -> dict[int, frozenset[str]]:
        """The ports with an endpoint: whether anything listens for a headless service hangs on them; of ports that are not HTTP
        also at which addresses."""
        http = {port.number for port in self.ports if port.protocol in HTTP_PROTOCOLS} - as_bytes
        return {
            port: frozenset() if port in http else frozenset(each.address for each in found if each.healthy)
            for port, found in self.endpoints.items()
            if found
        }

    def _labels(self) -> dict[int, list[Mapping[str, str]]]:
        """Of the endpoints of each port: whether a subset of names exists hangs on them."""
        return {port: [endpoint.labels for endpoint in found] for port, found in self.endpoints.items()}


_SHAPE = (
    "host",
    "namespace",
    "kind",
    "resource",
    "age_key",
    "resolution",
    "addresses",
    "export_to",
    "external",
    "headless",
    "alias",
    "subject_alt_names",
    "ports",
    "position",
    "aliases",
    "cluster_ports",
    "alike",
    "alias_ports",
)
