"""One port before all ports of an application as Envoy's listener (Istio's virtualInbound): the kernel has led connections
here, and each is served for the port that it was meant for and goes on to the address that it was meant for.

What tells connections apart is filter chains, as istiod lays them out: for each port that Services declare or of which
PeerAuthentication speaks, by its mode and protocol; and for all others. A port whose chains cannot be had, for want of a
certificate, has one that closes: else the chains for all others would be for it, too. What of security has no translation is
``Untranslatable``, as at other inbound ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from meshlib.compiler.routes import Cluster
from meshlib.envoy.clusters import HTTP_OPTIONS, ORIGINAL_DST, cluster_of
from meshlib.envoy.inbound import ALPN, checks, inbound_manager, mutual_tls
from meshlib.envoy.inspectors import HTTP_INSPECTOR, KEEPS_SOURCE, TLS_INSPECTOR, WAS_MEANT, patience, where
from meshlib.envoy.rbac import NETWORK_RBAC, Untranslatable, network_filters, nobody
from meshlib.envoy.routes import MISSING
from meshlib.envoy.tcp import TCP
from meshlib.envoy.tls import Files
from meshlib.envoy.values import Json, address, listen_address, typed
from meshlib.policy.circuit_limits import CircuitLimits
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.proxy.inbound_transparent import SOURCES
from meshlib.registry.service import HTTP_PROTOCOLS, SNIFFED

if TYPE_CHECKING:
    from meshlib.compiler.inbound import Inbound
    from meshlib.compiler.snapshot import Snapshot

NO_CERTIFICATE = "PeerAuthentication is STRICT, and this process has no certificate yet"
OF_REQUESTS = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
OF_BYTES = ("istio-peer-exchange", "istio")
"""What clients of the mesh offer over mTLS (ALPN), by what is in it."""
PLAIN_HTTP = ("http/1.0", "http/1.1", "h2c")
"""What Envoy's inspector of first bytes says of requests."""
_HTTP2 = frozenset(("http2", "grpc", "grpc-web"))


@dataclass(frozen=True, slots=True)
class EveryPort:
    """Where it listens. ``keeps_source``: connections come with their addresses as they were, and go on from those (TPROXY)."""

    host: str
    port: int
    keeps_source: bool = False

    known_as = 0
    """Policies know the application by the port that a connection was meant for."""

    @property
    def name(self) -> str:
        """Of the listener."""
        return f"inbound_{self.port}"


class Spoken(Enum):
    """At a port of the application."""

    HTTP = "http"
    BYTES = "tcp"
    EITHER = "whatever its first bytes are"


@dataclass(frozen=True, slots=True)
class Way:
    """What connections a chain is for, and what it makes of them. ``mutual``: mTLS of the mesh ends in it. ``transport`` "":
    nobody has looked whether it is TLS."""

    http: bool
    mutual: bool
    transport: str
    alpn: Sequence[str] = ()


_TLS, _PLAIN = "tls", "raw_buffer"
WAYS: Mapping[tuple[Spoken, MtlsMode], Sequence[Way]] = {
    (Spoken.HTTP, MtlsMode.STRICT): (Way(True, True, _TLS),),
    (Spoken.HTTP, MtlsMode.PERMISSIVE): (Way(True, True, _TLS), Way(True, False, _PLAIN)),
    (Spoken.HTTP, MtlsMode.DISABLE): (Way(True, False, ""),),
    (Spoken.BYTES, MtlsMode.STRICT): (Way(False, True, _TLS),),
    (Spoken.BYTES, MtlsMode.PERMISSIVE): (
        Way(False, True, _TLS, (*OF_REQUESTS, *OF_BYTES)),
        Way(False, False, _TLS),
        Way(False, False, _PLAIN),
    ),
    (Spoken.BYTES, MtlsMode.DISABLE): (Way(False, False, ""),),
    (Spoken.EITHER, MtlsMode.STRICT): (Way(True, True, _TLS, (*OF_REQUESTS, *ALPN)), Way(False, True, _TLS)),
    (Spoken.EITHER, MtlsMode.PERMISSIVE): (
        Way(True, True, _TLS, OF_REQUESTS),
        Way(False, True, _TLS, OF_BYTES),
        Way(False, False, _TLS),
        Way(True, False, _PLAIN, PLAIN_HTTP),
        Way(False, False, _PLAIN),
    ),
    (Spoken.EITHER, MtlsMode.DISABLE): (Way(True, False, "", PLAIN_HTTP), Way(False, False, "")),
}
"""As istiod has them, but that TLS at a port of HTTP always ends here (Istio refuses what offers none of its own)."""


@dataclass(slots=True)
class Served:
    """``listener`` None: nobody could be served. ``why``: why nobody is let in somewhere, "" where somebody may be."""

    listener: Json | None
    clusters: dict[str, Json]
    why: str


def every_port(place: EveryPort, snapshot: Snapshot, has_identity: bool) -> Served:
    """The port, and the clusters behind it."""
    made = _Making(place, snapshot, has_identity)
    chains = [made.circle(), *(chain for port in made.ports() for chain in made.chains(port)), *made.chains(0)]
    clusters = {}
    for protocol in ("http", "http2", SNIFFED):
        clusters[_key(protocol)] = _cluster(protocol, keeps_source=place.keeps_source)
    if not made.open:
        return Served(None, clusters, made.why or NO_CERTIFICATE)
    listener: Json = {
        "name": place.name,
        "traffic_direction": "INBOUND",
        "address": listen_address(place.host, place.port),
        "listener_filters": [
            WAS_MEANT,
            *([KEEPS_SOURCE] if place.keeps_source else []),
            *where(TLS_INSPECTOR, made.looks_at_tls),
            *where(HTTP_INSPECTOR, made.looks_at_requests),
        ],
        **patience(snapshot),
        "filter_chains": chains,
    }
    if place.keeps_source:
        listener["transparent"] = True
    return Served(listener, clusters, made.why)


class _Making:
    """``looks_at_*``: by port (0: all others), whether first bytes are looked at there."""

    def __init__(self, place: EveryPort, snapshot: Snapshot, has_identity: bool) -> None:
        self._place = place
        self._snapshot = snapshot
        self._has_identity = has_identity
        self.looks_at_tls: dict[int, bool] = {place.port: False}
        self.looks_at_requests: dict[int, bool] = {place.port: False}
        self.open = False
        self.why = ""

    def ports(self) -> list[int]:
        """Those of which something is said."""
        snapshot = self._snapshot
        declared = snapshot.inbound.declared
        named = {(each.service, each.number) for each in declared.named}
        found = {*declared.numbers, *snapshot.inbound.ports}
        for cluster in snapshot.clusters.values() if named else ():
            if not cluster.subset and (cluster.host, cluster.port) in named:
                found.update(endpoint.port for endpoint in cluster.endpoints)
        return sorted(found - {0, self._place.port})

    def circle(self) -> Json:
        """What is meant for the port itself would lead to itself."""
        closed = {"name": TCP, "typed_config": _bytes_to(MISSING, "itself")}
        return {"name": "itself", "filter_chain_match": {"destination_port": self._place.port}, "filters": [closed]}

    def chains(self, port: int) -> Iterator[Json]:
        """Those of one port of the application; 0: of all others."""
        snapshot = self._snapshot
        declared = snapshot.inbound.declared.of(port, snapshot.clusters.values()) if port else None
        protocol = SNIFFED if declared is None else declared.protocol
        spoken = Spoken.EITHER if protocol == SNIFFED else Spoken.HTTP if protocol in HTTP_PROTOCOLS else Spoken.BYTES
        inbound = snapshot.inbound.of(port) if port else snapshot.inbound.default
        ways = [way for way in WAYS[spoken, inbound.mtls] if self._has_identity or not way.mutual]
        self.looks_at_tls[port] = any(way.transport for way in ways)
        self.looks_at_requests[port] = any(way.alpn == PLAIN_HTTP for way in ways)
        if not ways and port:
            yield {"name": _name(port, 0), "filter_chain_match": {"destination_port": port}, "filters": _closing(port)}
        for number, way in enumerate(ways):
            self.open = True
            yield self._chain(_name(port, number), port, way, inbound, protocol)

    def _chain(self, name: str, port: int, way: Way, inbound: Inbound, protocol: str) -> Json:
        match: Json = {}
        if port:
            match["destination_port"] = port
        if way.transport:
            match["transport_protocol"] = way.transport
        if way.alpn:
            match["application_protocols"] = list(way.alpn)
        made: Json = {"name": name, "filters": self._filters(name, port, way, inbound, protocol)}
        if match:
            made["filter_chain_match"] = match
        if way.mutual:
            made["transport_socket"] = mutual_tls(inbound.mesh, ALPN if way.http else ())
        return made

    def _filters(self, name: str, port: int, way: Way, inbound: Inbound, protocol: str) -> list[Json]:
        cluster = _key("http2" if protocol in _HTTP2 else "http" if protocol in HTTP_PROTOCOLS else SNIFFED)
        try:
            judged = checks(inbound, 0)
            if way.http:
                return [inbound_manager(name, cluster, inbound.mesh, judged)]
            before = network_filters(self._snapshot.connections, 0, name)
        except Untranslatable as error:
            self.why = self.why or (f"port {port}: {error}" if port else str(error))
            return [inbound_manager(name, cluster, inbound.mesh, [nobody()])] if way.http else _closing(port)
        return [*before, {"name": TCP, "typed_config": _bytes_to(cluster, name)}]


def _name(port: int, number: int) -> str:
    return f"inbound_{port or 'any'}_{number}"


def _bytes_to(cluster: str, stat: str) -> Json:
    return typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=stat, cluster=cluster)


def _closing(port: int) -> list[Json]:
    """Whatever it says, the connection is closed."""
    rules = nobody()["typed_config"]["rules"]
    refuses = typed("filters.network.rbac.v3.RBAC", rules=rules, stat_prefix=_name(port, 0))
    closed = {"name": TCP, "typed_config": _bytes_to(MISSING, _name(port, 0))}
    return [{"name": NETWORK_RBAC, "typed_config": refuses}, closed]


def _key(protocol: str) -> str:
    return f"inbound|{protocol}|{ORIGINAL_DST}|"


def _cluster(protocol: str, *, keeps_source: bool) -> Json:
    """The application, at the address that was meant, from the client's own or from the one that interception leaves alone."""
    spec = Cluster(
        key=_key(protocol),
        host="",
        subset="",
        port=0,
        endpoints=(),
        limits=CircuitLimits(),
        protocol=protocol,
        http2=protocol in _HTTP2,
        as_client=protocol == SNIFFED,
        resolution=ORIGINAL_DST,
    )
    made = cluster_of(spec, False, Files())
    if protocol == "http":
        options = made["typed_extension_protocol_options"][HTTP_OPTIONS]
        options.pop("use_downstream_protocol_config")
        options["explicit_http_config"] = {"http_protocol_options": {}}
    if keeps_source:
        return made
    four, six = (address(SOURCES[version].address, 0)["socket_address"] for version in (False, True))
    made["upstream_bind_config"] = {"source_address": four, "extra_source_addresses": [{"address": six}]}
    return made
