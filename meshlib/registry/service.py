"""Services and endpoints, whatever resource they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from meshlib.errors import Problem
from meshlib.registry.names import most_specific

NO_LABELS: Mapping[str, str] = {}
SNIFFED = "sniffed"
"""The protocol of a port that declares none: Istio looks at what is sent."""
HTTP_PROTOCOLS = frozenset(("http", "http2", "grpc", "grpc-web"))
TLS_PROTOCOLS = frozenset(("https", "tls"))
PROTOCOLS = HTTP_PROTOCOLS | TLS_PROTOCOLS | {"tcp", "mongo", "mysql", "redis", "udp"}


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One address of a service port. ``address`` is an IP, a DNS name (resolved when connecting) or ``unix:///path``.

    ``locality`` is region/zone/subzone; ``healthy`` is readiness; ``tls_mode`` "istio" when the workload takes mTLS;
    ``hostname`` a pod's own name, by which it is called before the name of its headless service.
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
    dynamic_dns or none; ``alias`` the name an ExternalName stands for; ``position`` its place among the hosts of its
    resource."""

    host: str
    namespace: str
    kind: str  # "kubernetes" | "serviceentry"
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

    @property
    def order(self) -> tuple[bool, tuple[str, str, str, int], int]:
        """Sorts services: Kubernetes' before others, then the oldest."""
        return self.kind != "kubernetes", self.age_key, self.position

    def visible_from(self, client_namespace: str) -> bool:
        """Whether exportTo shows the service to clients of a namespace."""
        if not self.export_to or "*" in self.export_to:
            return True
        return client_namespace in self.export_to or ("." in self.export_to and client_namespace == self.namespace)

    @property
    def by_name(self) -> bool:
        """Whether endpoints are names, or addresses written beside them (resolution DNS and DNS_ROUND_ROBIN)."""
        return self.resolution in ("dns", "dns_round_robin") and not self.alias

    def same_but_endpoints(self, other: Service) -> bool:
        """Whether whatever is decided from a service, except where its endpoints are, stays as it is."""
        same = all(getattr(self, name) == getattr(other, name) for name in _SHAPE)
        return same and (not self.by_name or self._labels() == other._labels())

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
)


class Registry:
    """All services. One host may be defined in several namespaces: a client sees that of its own namespace, else the
    Kubernetes service, else the oldest."""

    __slots__ = ("_by_host", "_wildcards", "problems")

    def __init__(self, by_host: Mapping[str, tuple[Service, ...]], problems: list[Problem]) -> None:
        """``by_host`` in the order of each host's first service."""
        self.problems = problems
        self._by_host = by_host
        self._wildcards = [host for host in by_host if host.startswith("*")]

    def after(self, changed: Mapping[str, tuple[Service, ...]], problems: list[Problem]) -> Registry:
        """This registry with other services for some hosts (none: the host is gone)."""
        before = self._by_host
        made = Registry.__new__(Registry)
        made.problems = problems
        made._by_host = by_host = {**before, **changed}
        for host in [host for host, services in changed.items() if not services]:
            del by_host[host]
        if any(_first(services) != _first(before.get(host, ())) for host, services in changed.items() if services):
            made._by_host = dict(sorted(by_host.items(), key=lambda item: item[1][0].order))
        made._wildcards = self._wildcards
        if any(host.startswith("*") for host in changed):
            made._wildcards = [host for host in by_host if host.startswith("*")]
        return made

    def lookup(self, host: str, client_namespace: str) -> Service | None:
        """The service of this very host (or of the wildcard that covers it), as the client's namespace sees it."""
        found = self._by_host.get(host)
        if found is None and self._wildcards:
            pattern = most_specific(self._wildcards, host)
            found = self._by_host[pattern] if pattern is not None else None
        return self._choose(found or (), client_namespace)

    def of_namespace(self, host: str, namespace: str) -> Service | None:
        """The service of this very host that a namespace defines, whomever it is exported to."""
        return next((s for s in self._by_host.get(host, ()) if s.namespace == namespace), None)

    def visible(self, client_namespace: str, imported: Callable[[Service], bool] | None = None) -> list[Service]:
        """One service a host, those the namespace may see (and ``imported`` lets in), oldest first."""
        found = []
        for services in self._by_host.values():
            let_in = services if imported is None else [s for s in services if imported(s)]
            chosen = self._choose(let_in, client_namespace)
            if chosen is not None:
                found.append(chosen)
        return found

    def all(self) -> list[Service]:
        """Every definition."""
        return [service for services in self._by_host.values() for service in services]

    @staticmethod
    def _choose(services: Sequence[Service], client_namespace: str) -> Service | None:
        seen = [s for s in services if s.visible_from(client_namespace)]
        if len(seen) < 2:
            return seen[0] if seen else None
        return min(seen, key=lambda s: (s.namespace != client_namespace, s.kind != "kubernetes", s.age_key))


def _first(services: Sequence[Service]) -> object:
    return services[0].order if services else None
