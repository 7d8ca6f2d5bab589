"""From checked options to a proxy whose engine is Envoy: what it cannot do is said first, then ports, mesh, ADS server and
Envoy."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.admin.address import parse_address
from meshlib.admin.endpoint import AdminEndpoint
from meshlib.envoy.access_log import access_log, refused
from meshlib.envoy.ads import AdsServer
from meshlib.envoy.binary import find_envoy
from meshlib.envoy.bootstrap import Sockets, bootstrap
from meshlib.envoy.child import Child, EnvoyAdmin
from meshlib.envoy.configuration import Configuration, configuration
from meshlib.envoy.differences import differences
from meshlib.envoy.inbound import InboundPort
from meshlib.envoy.inbound_transparent import EveryPort
from meshlib.envoy.listeners import whole_seconds
from meshlib.envoy.messages import discovery
from meshlib.envoy.pages import envoy_pages
from meshlib.envoy.supervise import Supervisor, packed_configuration
from meshlib.envoy.tracing import Collector, collector_of, not_traced
from meshlib.problems import MeshError
from meshlib.proxy.descriptors import make_room
from meshlib.proxy.drain import ACCEPTING, Drain
from meshlib.proxy.gateway_listeners import GatewayPlaces
from meshlib.proxy.health import HealthPort
from meshlib.proxy.inbound_application import address_of as app_address
from meshlib.proxy.inbound_transparent import NO_ADMIN
from meshlib.proxy.iptables import InterceptionMode
from meshlib.proxy.launch import check
from meshlib.proxy.notify import notify
from meshlib.proxy.pages import CHANGING
from meshlib.proxy.places import TcpPlace
from meshlib.proxy.sockets import listening
from meshlib.transport.upstream.from_source import allow_any_address

if TYPE_CHECKING:
    from meshlib.admin.page import Page
    from meshlib.admin.request import AdminRequest
    from meshlib.compiler.gateway_model import GatewayPort
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.mesh import Mesh
    from meshlib.proxy.options import InboundPair, ProxyOptions

log = logging.getLogger("meshlib.proxy")

NO_PORT = [("127.0.0.1", 0)]
STANDING = (
    "Envoy's own metrics, not Istio's (istio_requests_total), are at /stats/prometheus",
    "CONNECT is not taken at outbound ports, and upgrades are taken to WebSocket alone",
)
"""What is other than with meshlib's own engine, whatever the resources say."""


def unsupported(options: ProxyOptions, otlp: str | None) -> list[str]:
    """A sentence for each option that this engine has no part in: nobody is to find out later."""
    given = (
        ("--dns-capture", options.dns is not None, "names are told by meshlib's own engine alone"),
        ("--max-requests", options.max_requests is not None, "use --max-connections, or connectionPool"),
        ("--max-lag", options.max_lag is not None, "it has no event loop of ours"),
    )
    found = [f"{name} is not for --engine envoy: {why}" for name, there, why in given if there]
    if otlp:
        try:
            collector_of(otlp, "")
        except ValueError as why:
            found.append(f"--otlp is not for --engine envoy: {why}")
    return [*found, *refused(os.environ)]


def check_envoy(
    options: ProxyOptions, make: Callable[[], Mesh], collector: Collector | None = None
) -> tuple[list[str], str]:
    """As ``check`` of meshlib's own engine, and what Envoy does not do of the resources. Raises ``MeshError``."""
    find_envoy()
    discovery()
    said, found = check(options, make)
    with make() as mesh:
        live = mesh._core.live
        assert live is not None
        identity = mesh._core.identity
        inbound = [_inbound(pair, pair.listen.port, options.interception) for pair in options.inbound]
        gateway = None if options.gateways is None else _where(GatewayPlaces(options.gateway_ports))
        outbound = NO_PORT if gateway is None else []
        credentials = None if identity is None else identity.latest
        made = configuration(
            live.snapshot,
            outbound,
            credentials,
            inbound,
            gateway,
            transparent=options.transparent,
            logger=access_log(os.environ),
            collector=collector,
        )
        _must_be_open(made, identity is not None)
        packed_configuration(made)
        said += [
            str(problem)
            for problem in differences(
                live.snapshot,
                mesh._configuration.resources,
                made.unreachable,
                [each.known_as for each in inbound],
                by_pod=made.by_pod,
                transparent=options.transparent,
                spans=collector is not None,
            )
        ]
        said += [] if collector is None else not_traced(live.snapshot.telemetry)
        said += [f"connections to {server} are closed: {why}" for server, why in made.refused.items()]
    return [*said, *STANDING], found


def launch_envoy(
    options: ProxyOptions,
    make: Callable[[bool], Mesh],
    log_level: str = "info",
    collector: Collector | None = None,
) -> int:
    """Forward until it is told to stop; the exit code. ``collector``: of spans. Raises ``MeshError`` for what it cannot begin
    with."""
    binary = find_envoy()
    discovery()
    space = make_room(options.max_connections)
    for note in filter(None, (*options.notes, space.note, *STANDING)):
        log.warning("%s", note)
    with contextlib.ExitStack() as undo:
        outbound = [undo.enter_context(_reserved(place)) for place in options.outbound]
        health = None
        if options.health is not None:
            health = listening(options.health, "--health")[0]
            undo.callback(health.close)
        if options.interception is InterceptionMode.TPROXY:
            _may_keep_sources()
        inbound = []
        for pair in options.inbound:
            _, port = undo.enter_context(_reserved(pair.listen, "--inbound"))
            inbound.append(_inbound(pair, port, options.interception))
        folder = Path(tempfile.mkdtemp(prefix="meshlib-envoy-"))  # of mode 0700
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        mesh = make(True)
        undo.callback(mesh.close)
        undo.callback(notify, "STOPPING=1")
        clock = mesh._core.clock.monotonic
        live, identity = mesh._core.live, mesh._core.identity
        assert live is not None
        gateway = _gateway(undo, options, live.snapshot)
        credentials = None if identity is None else identity.latest
        logger = access_log(os.environ)
        begun_with = configuration(
            live.snapshot,
            outbound,
            credentials,
            inbound,
            gateway,
            transparent=options.transparent,
            logger=logger,
            collector=collector,
        )
        for note in () if collector is None else not_traced(live.snapshot.telemetry):
            log.warning("%s", note)
        _must_be_open(begun_with, identity is not None)
        sockets = Sockets(str(folder / "admin.sock"), str(folder / "ads.sock"))
        envoy = EnvoyAdmin(sockets.admin)
        child = Child(
            binary,
            folder,
            bootstrap(mesh.workload, sockets, space.connections, options.max_memory),
            workers=options.workers,
            drain=whole_seconds(options.drain * ACCEPTING),
            log_level=log_level,
        )
        drain = Drain(options.drain, clock, on_zero=options.exit_on_zero)

        def ready(pid: int) -> None:
            notify("READY=1")
            for host, port in outbound:
                log.info("forwarding, listening on %s as process %d, Envoy", TcpPlace(host, port), pid)
            for pair, place in zip(options.inbound, inbound, strict=True):
                log.info(
                    "serving %s, listening on %s as process %d, Envoy",
                    *(pair.app or "each port of the application", TcpPlace(place.host, place.port), pid),
                )

            if gateway is not None:
                _say_gateway(mesh, gateway, pid)

        supervisor = Supervisor(
            mesh,
            child,
            envoy,
            outbound,
            drain,
            ready,
            inbound,
            gateway,
            transparent=options.transparent,
            logger=logger,
            collector=collector,
        )
        ads = AdsServer(sockets.ads, clock, supervisor.rejected, supervisor.taken)
        mesh._core.on_install = supervisor.changed
        if identity is not None:
            identity.subscribe(supervisor.changed)
        _show(undo, options, envoy_pages(supervisor, envoy), health)
        return supervisor.run(ads)


def _inbound(pair: InboundPair, port: int, interception: InterceptionMode) -> InboundPort | EveryPort:
    """A pair, listened on at ``port``."""
    app = app_address(pair)
    if app is None:
        return EveryPort(pair.listen.host, port, interception is InterceptionMode.TPROXY)
    return InboundPort(pair.listen.host, port, app.host, app.port, app.known_as)


def _may_keep_sources() -> None:
    """Raises ``MeshError`` where Envoy, which is what this process is, could not have addresses of others."""
    with socket.socket() as tried:
        try:
            allow_any_address(tried)
        except PermissionError as error:
            raise MeshError(f"{NO_ADMIN} ({error.strerror}): grant it, or use REDIRECT") from None


Where = Callable[["GatewayPort"], tuple[str, int]]
"""Where a port of the Gateways is listened on: address and port."""


def _where(places: GatewayPlaces) -> Where:
    def where(port: GatewayPort) -> tuple[str, int]:
        place = places.of(port)
        return place.host, place.port

    return where


def _gateway(undo: contextlib.ExitStack, options: ProxyOptions, snapshot: Snapshot) -> Where | None:
    """Where a gateway listens; its ports are tried, and port 0 is given a number. Raises ``MeshError`` that names the
    server."""
    if options.gateways is None:
        return None
    mapped = {
        number: place if place.port else TcpPlace(place.host, undo.enter_context(_reserved(_any_host(place)))[1])
        for number, place in options.gateway_ports.items()
    }
    places = GatewayPlaces(mapped)
    ports = [port for port in snapshot.gateway.values() if port.chains]
    for note in places.looked_at(ports):
        log.warning("%s", note)
    for port in ports:
        if options.gateway_ports.get(port.server_port, TcpPlace("", 1)).port:
            places.open(port, False).close()
    if not ports:
        log.warning("nothing is listened on: no Gateway that this process is to serve has a server with routes")
    return _where(places)


def _any_host(place: TcpPlace) -> TcpPlace:
    return place if place.host else TcpPlace("0.0.0.0", place.port)


def _say_gateway(mesh: Mesh, where: Where, pid: int) -> None:
    live = mesh._core.live
    for port in live.snapshot.gateway.values() if live is not None else ():
        if port.chains:
            log.info("serving %s, listening on %s as process %d, Envoy", port.place, TcpPlace(*where(port)), pid)


def _must_be_open(made: Configuration, has_identity: bool) -> None:
    """Security that Envoy is not told keeps the proxy from beginning; a certificate that is still to come does not. Raises
    ``MeshError``."""
    said = [
        f"port {port}: {why}"
        for port, why in made.closed.items()
        if not has_identity
        or any(f"{name}_".startswith((f"inbound_{port}_", f"gateway_{port}_")) for name in made.listeners)
    ]
    if said:
        raise MeshError(f"--engine envoy would let nobody in at {'; '.join(said)}")


def _show(
    undo: contextlib.ExitStack,
    options: ProxyOptions,
    pages: Callable[[AdminRequest], Page],
    health: socket.socket | None,
) -> None:
    """The admin endpoint, and the port for probes."""
    if options.admin:
        admin = AdminEndpoint(parse_address(options.admin, "--admin"), pages, CHANGING)
        undo.callback(admin.close)
        admin.start()
    if health is not None:
        port = HealthPort(health, pages)
        undo.callback(port.close)
        port.start()


@contextlib.contextmanager
def _reserved(place: TcpPlace, option: str = "--outbound") -> Iterator[tuple[str, int]]:
    """The address and port of a listener, which stay ours while Envoy is begun again: a socket is bound there that
    does not listen. Raises ``MeshError``."""
    (tried,) = listening(place, option)
    port = tried.getsockname()[1]
    tried.close()
    with socket.socket(socket.AF_INET6 if place.family_six else socket.AF_INET) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((place.host, port))
        yield place.host, port
