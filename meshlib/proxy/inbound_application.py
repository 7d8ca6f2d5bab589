"""The application behind the inbound side of the proxy, as a cluster of one endpoint: Istio's ``inbound|port||``, which speaks
plain text to the workload itself, without a timeout, and sends a request again only if the application cannot have seen it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.compiler.clusters import is_name
from meshlib.compiler.routes import Cluster, Destination, Rule, Source, VirtualHost
from meshlib.compiler.rules import SOLE
from meshlib.compiler.snapshot import Snapshot
from meshlib.engine.live import Live
from meshlib.policy.circuit_limits import CircuitLimits
from meshlib.policy.rule_index import RuleIndex
from meshlib.proxy.places import UnixPlace
from meshlib.registry.service import Endpoint

if TYPE_CHECKING:
    from meshlib.compiler.declared_ports import DeclaredPort
    from meshlib.proxy.options import InboundPair
    from meshlib.transport.core.mesh_core import MeshCore

CATCH_ALL = RuleIndex([()])
OVER_HTTP2 = frozenset(("http2", "grpc", "grpc-web"))
PASSTHROUGH = "InboundPassthroughCluster"
"""Istio's name of a port that no Service declares."""
UNKNOWN = frozenset(("", "sniffed", "tcp"))
"""Protocols of a port that leave it to the client which HTTP is spoken."""


@dataclass(frozen=True, slots=True)
class ApplicationAddress:
    """``host`` is an IP, a name, or ``unix:///path``; ``policy_port`` the one that policies know it by, 0: ``port``."""

    host: str
    port: int = 0
    policy_port: int = 0

    @property
    def known_as(self) -> int:
        """The port of policies."""
        return self.policy_port or self.port

    def __str__(self) -> str:
        if self.host.startswith("unix:"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(pair: InboundPair) -> ApplicationAddress | None:
    """The ``--app`` of a pair, with the port of policies; None: it has none."""
    app = pair.app
    if app is None:
        return None
    if isinstance(app, UnixPlace):
        return ApplicationAddress(f"unix://{app.path}", 0, pair.app_port)
    return ApplicationAddress(app.host, app.port, pair.app_port)


class Application:
    """``address`` of ``core``'s workload, by the configuration of this moment. ``listens``: the port at which others reach it
    through the proxy, 0: nobody knows. ``source``: where connections to it come from; with one it is where a connection was
    meant to go that the kernel has led to the proxy, and what is spoken there is what the workload's Services declare."""

    __slots__ = ("_address", "_core", "_led", "_listens", "_live", "_seen", "_source")

    def __init__(
        self, core: MeshCore, address: ApplicationAddress, listens: int = 0, source: Source | None = None
    ) -> None:
        self._core = core
        self._address = address
        self._listens = listens
        self._source = source
        self._seen: Snapshot | None = None
        self._live: Live | None = None
        self._led: tuple[tuple[Live, VirtualHost], tuple[Live, VirtualHost]]

    @property
    def address(self) -> ApplicationAddress:
        """Where it is."""
        return self._address

    @property
    def live(self) -> Live | None:
        """Its clusters, for whoever looks at them; None: there were no requests yet, or the mesh is closed."""
        return None if self._core.live is None else self._live

    def path(self, http2: bool) -> tuple[Live, VirtualHost]:
        """What is at work now, and the virtual host that leads to the application. ``http2``: the request came so. Raises
        ``LookupError`` of a mesh that is closed."""
        live = self._core.live
        if live is None:
            raise LookupError("the mesh is closed")
        if live.snapshot is not self._seen:
            made, paths = self._compiled(live.snapshot, live.inbound.of(self._address.known_as).tells)
            self._live, self._led = made, ((made, paths[0]), (made, paths[1]))
            self._seen = live.snapshot
        return self._led[http2]

    def _compiled(self, snapshot: Snapshot, tells: bool) -> tuple[Live, tuple[VirtualHost, VirtualHost]]:
        port = self._address.known_as
        key = f"inbound|{port}||"
        if self._source is None:
            mine = _own_cluster(snapshot, port, self._listens)
            protocol = "" if mine is None else mine.protocol
        else:
            declared = snapshot.inbound.declared.of(port, snapshot.clusters.values())
            mine = None if declared is None else _cluster_of(snapshot, declared)
            protocol = "" if declared is None else declared.protocol
            key = PASSTHROUGH if declared is None else key
        limits = CircuitLimits() if mine is None else mine.limits
        retry = snapshot.inbound.of(port).mesh.inbound_retry
        clusters: dict[str, Cluster] = {}
        paths = []
        for http2 in (False, True):
            over_http2 = protocol in OVER_HTTP2 or (http2 and protocol in UNKNOWN)
            name = f"{key}h2" if over_http2 and protocol in UNKNOWN else key
            if name not in clusters:
                clusters[name] = self._cluster(name, limits, over_http2)
            destination = Destination("", "", port, 1, name)
            rule = Rule(-1, "default", (), (destination,), SOLE, retry)
            paths.append(VirtualHost("", port, "", (rule,), CATCH_ALL, note="the application", single=rule))
        made = Snapshot(snapshot.version, snapshot.workload, {}, {}, clusters, paths[0], paths[0])
        before = self._live
        live = Live(made, self._core.clock.monotonic(), before, self._core.names.watch)
        live.tells = tells
        if before is not None:
            gone: list[object] = []
            for name, old in live.take_left_of(before).items():
                now = live.bound.get(name)
                old.retired = True
                kept = set(now.targets.values()) if now is not None else set()
                gone += [target for target in list(old.targets.values()) if target not in kept]
            self._core.forget_targets(gone)
        return live, (paths[0], paths[1])

    def _cluster(self, key: str, limits: CircuitLimits, http2: bool) -> Cluster:
        host = self._address.host
        endpoint = Endpoint(host, self._address.port)
        named = is_name(host)
        return Cluster(
            key=key,
            host="",
            subset="",
            port=self._address.known_as,
            endpoints=(endpoint,),
            limits=limits,
            balancer="ROUND_ROBIN",
            http2=http2,
            resolution="logical_dns" if named else "static",
            source=self._source,
        )

    def close(self) -> None:
        """Nobody is led to it any more: its connections close with what is under way on them."""
        live, self._live, self._seen = self._live, None, None
        if live is not None:
            self._core.forget_targets([target for each in live.bound.values() for target in each.targets.values()])


def _cluster_of(snapshot: Snapshot, declared: DeclaredPort) -> Cluster | None:
    """The port of the workload's Service, as clients here see it."""
    every = snapshot.clusters.values()
    return next(
        (each for each in every if each.host == declared.service and each.port == declared.number and not each.subset),
        None,
    )


def _own_cluster(snapshot: Snapshot, port: int, listens: int) -> Cluster | None:
    """The cluster of this workload's own service that has its endpoints on ``port``, as clients here see it: connectionPool of
    its DestinationRule counts for what comes in, too, as in Istio. Where nothing intercepts connections, endpoints (and a
    Service's targetPort) are at the proxy's port ``listens`` and none is at the application's: then the service's port of the
    application's number, and where there is none, the one that leads to the proxy's, the lowest of several."""
    service = snapshot.inbound.service
    if not service:
        return None
    numbered: Cluster | None = None
    led: Cluster | None = None
    for cluster in snapshot.clusters.values():
        if cluster.host == service and not cluster.subset:
            if any(e.port == port for e in cluster.endpoints):
                return cluster
            if cluster.port == port:
                numbered = cluster
            if any(e.port == listens for e in cluster.endpoints) and (led is None or cluster.port < led.port):
                led = cluster
    return numbered or led
