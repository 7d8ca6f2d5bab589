"""A snapshot as all that an Envoy is told over ADS: the same compiled mesh that meshlib's own engine acts by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.envoy.access_log import logged
from meshlib.envoy.clusters import by_eds, cluster_of, empty_cluster, endpoints_of
from meshlib.envoy.dialled import DialledNames
from meshlib.envoy.gateway import gateway_listeners
from meshlib.envoy.inbound import InboundPort, inbound_cluster, inbound_listener
from meshlib.envoy.inbound_transparent import EveryPort, every_port
from meshlib.envoy.listeners import outbound_listener
from meshlib.envoy.tls import Files, NoTls, secrets_of
from meshlib.envoy.tracing import CLUSTER as COLLECTOR
from meshlib.envoy.tracing import Collector, collector_cluster, traced
from meshlib.envoy.transparent import ORIGINAL, Led, leading, transparent_listeners
from meshlib.envoy.values import Json
from meshlib.envoy.virtual_hosts import route_configuration

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayPort
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.identity.credentials import Credentials

OUTBOUND = "outbound"
NOT_LED = Led({}, {}, {})


@dataclass(frozen=True, slots=True)
class Configuration:
    """By name, each kind. ``unreachable``: why no call is made to a cluster that something leads to, by its name; ``by_pod``:
    those of these that are called all the same, where a call is for the address of one of their endpoints; ``closed``: why
    nobody is let in at a port of the application's or of the Gateways; ``refused``: why connections to a server of a Gateway
    are closed, by its name. ``files``: what was read, None where it could not be."""

    clusters: Mapping[str, Json]
    endpoints: Mapping[str, Json]
    listeners: Mapping[str, Json]
    routes: Mapping[str, Json]
    secrets: Mapping[str, Json]
    unreachable: Mapping[str, str] = field(default_factory=dict)
    by_pod: Set[str] = frozenset()
    closed: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes | None] = field(default_factory=dict)


def configuration(
    snapshot: Snapshot,
    outbound: Sequence[tuple[str, int]],
    credentials: Credentials | None = None,
    inbound: Sequence[InboundPort | EveryPort] = (),
    gateway: Callable[[GatewayPort], tuple[str, int]] | None = None,
    *,
    transparent: bool = False,
    logger: Json | None = None,
    collector: Collector | None = None,
) -> Configuration:
    """Of a proxy with these ports; ``credentials``: who it is, None without an identity; ``gateway``: where it listens for a
    port of the Gateways, None: it is none; ``transparent``: outbound ports take connections that were meant for others;
    ``logger``: the access log (``access_log.py``); ``collector``: of spans (``tracing.py``)."""
    files = Files()
    clusters: dict[str, Json] = {}
    endpoints: dict[str, Json] = {}
    unreachable: dict[str, str] = {}
    dialled = DialledNames(snapshot)
    routes = {OUTBOUND: route_configuration(snapshot, OUTBOUND, outbound, dialled)} if outbound else {}
    led = transparent_listeners(snapshot, outbound, dialled) if transparent and outbound else NOT_LED
    routes |= led.routes
    for spec in [*snapshot.clusters.values(), *dialled.clusters.values(), *led.clusters.values()]:
        try:
            made = cluster_of(spec, credentials is not None, files)
        except NoTls as error:
            unreachable[spec.key.removesuffix(ORIGINAL)] = str(error)
            made = empty_cluster(spec)
        clusters[spec.key] = made
        if by_eds(made):
            endpoints[spec.key] = endpoints_of(spec)
    settings = snapshot.inbound.default.mesh
    listeners = dict(led.listeners)
    for number, (host, port) in enumerate(outbound):
        name = f"{OUTBOUND}-{number + 1}" if number else OUTBOUND
        listener = outbound_listener(name, host, port, OUTBOUND, settings)
        listeners[name] = leading(listener, host, port, snapshot) if transparent else listener
    closed: dict[int, str] = {}
    for place in inbound:
        if isinstance(place, EveryPort):
            every = every_port(place, snapshot, credentials is not None)
            clusters |= every.clusters
            served_at, why, number = every.listener, every.why, place.port
        else:
            made, members = inbound_cluster(place)
            clusters[made["name"]] = made
            if members is not None:
                endpoints[made["name"]] = members
            (served_at, why), number = inbound_listener(place, snapshot, credentials is not None), place.known_as
        if served_at is not None:
            listeners[place.name] = served_at
        if why:
            closed[number] = why
    refused: dict[str, str] = {}
    secrets = {secret["name"]: secret for secret in secrets_of(credentials)}
    if gateway is not None:
        served = gateway_listeners(snapshot, gateway, credentials is not None, files)
        listeners |= served.listeners
        secrets |= served.secrets
        closed |= served.closed
        refused = served.refused
    logged(listeners, logger)
    traced(listeners, collector, snapshot.telemetry)
    if collector is not None:
        clusters[COLLECTOR] = collector_cluster(collector)
    led_to = _led_to(unreachable, routes, listeners, dialled) if unreachable else frozenset()
    unreachable = {key: why for key, why in unreachable.items() if key in led_to}
    by_pod = {spec.key.rpartition("|")[0] for spec in dialled.clusters.values()} & unreachable.keys()
    return Configuration(
        clusters, endpoints, listeners, routes, secrets, unreachable, by_pod, closed, refused, files.read
    )


def _led_to(
    keys: Mapping[str, str], routes: Mapping[str, Json], listeners: Mapping[str, Json], dialled: DialledNames
) -> Set[str]:
    """Those clusters of ``keys`` that routes and listeners name. A headless service may have one that nothing leads to but
    Hosts of pods that there are not, as each of its addresses has its own."""
    found: set[str] = set()
    hosts = [host for each in routes.values() for host in each["virtual_hosts"]]
    waiting: list[object] = [host for host in hosts if not all(map(dialled.is_of_pods, host["domains"]))]
    waiting += listeners.values()
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
        elif isinstance(each, str) and each.removesuffix(ORIGINAL) in keys:
            found.add(each.removesuffix(ORIGINAL))
    return found
