"""From checked options to a proxy at work: descriptors, sockets, the mesh, and one process or several."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meshlib.clock import SystemClock
from meshlib.problems import Severity
from meshlib.proxy import watchdog
from meshlib.proxy.descriptors import make_room, possible, room
from meshlib.proxy.gateway_listeners import GatewayPlaces
from meshlib.proxy.inbound_application import address_of as app_address
from meshlib.proxy.notify import notify
from meshlib.proxy.process import Inbound, ProxyProcess, ProxySettings, address_of, connections_each, run
from meshlib.proxy.scope import about_others
from meshlib.proxy.sockets import listening

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayPort
    from meshlib.mesh import Mesh
    from meshlib.proxy.dns_launch import Dns
    from meshlib.proxy.inbound_application import ApplicationAddress
    from meshlib.proxy.options import DnsOptions, ProxyOptions
    from meshlib.proxy.supervise import Slots

log = logging.getLogger("meshlib.proxy")

NOTHING_SERVED = (
    "nothing is listened on: no Gateway that this process is to serve has a server with routes; see the notices of --check, "
    "and --gateway, --gateways and --labels"
)


def check(options: ProxyOptions, make: Callable[[], Mesh]) -> tuple[list[str], str]:
    """What is worth a warning, and what there is in a sentence. Raises ``MeshError`` for what is wrong. Binds nothing."""
    if options.dns is not None:
        from meshlib.proxy.dns_launch import check_dns

        check_dns(options.dns)
    with make() as mesh:
        who, identity = mesh.workload, mesh._core.identity
        said = [*options.notes, room(possible(), options.max_connections).note]
        said += [*map(str, mesh.problems), *about_others(mesh._configuration.resources, who), *_not_served(mesh)]
        said += [*_places(options, mesh), *_unbound(options, mesh)]
        name = "none" if identity is None or identity.latest is None else identity.latest.svid.identity.text
        found = (
            f"{len(mesh._configuration.resources)} resources, workload {who.name} in {who.namespace}, identity {name}"
        )
    return [each for each in said if each], found


def _places(options: ProxyOptions, mesh: Mesh) -> list[str]:
    """What is worth a warning about where a gateway would listen, if anywhere. Raises ``MeshError`` for two ports at one
    place."""
    ports = _gateway_ports(mesh)
    found = GatewayPlaces(options.gateway_ports).looked_at(ports)
    return [NOTHING_SERVED, *found] if options.gateways is not None and not ports else found


def _unbound(options: ProxyOptions, mesh: Mesh) -> list[str]:
    """VirtualServices that are bound to a Gateway which is not among the resources of a gateway; the compiler says which are
    bound to one that does not serve their hosts."""
    if options.gateways is None and not _gateway_ports(mesh):
        return []
    from meshlib.analysis.codes import NOT_FOUND
    from meshlib.analysis.gateway_hosts import bound_gateways
    from meshlib.analysis.index import Index

    found = bound_gateways(Index(mesh._configuration.resources))
    return [str(each.problem(Severity.WARNING)) for each in found if each.code is NOT_FOUND]


def _gateway_ports(mesh: Mesh) -> list[GatewayPort]:
    live = mesh._core.live
    return [] if live is None else [port for port in live.snapshot.gateway.values() if port.chains]


def _not_served(mesh: Mesh) -> list[str]:
    """Servers of Gateways whose certificates cannot be used, which is an error, and those whose certificates clients will
    refuse."""
    live = mesh._core.live
    if live is None or not live.snapshot.gateway:
        return []
    from meshlib.proxy.gateway_tls import doubts, why_not_served

    said = []
    now = mesh._core.clock.time()
    for chain in (chain for port in live.snapshot.gateway.values() for chain in port.chains):
        if chain.tls is None or chain.refusal:
            continue
        why = why_not_served(chain.tls, chain.server)
        said += [f"gateway: error: {why}"] if why else doubts(chain.tls, chain.server, chain.snis, now)
    return said


def launch(options: ProxyOptions, make: Callable[[bool], Mesh], *, share: bool = False) -> int:
    """Forward until it is told to stop; the exit code. ``make``: the mesh, which is to watch its files or not. ``share``:
    another proxy may have the same ports. Raises ``MeshError`` for what it cannot begin with."""
    space = make_room(options.max_connections)
    for note in filter(None, [*options.notes, space.note]):
        log.warning("%s", note)
    with contextlib.ExitStack() as undo:
        outbound = [
            _opened(undo, listening(each, "--outbound", options.workers, share=share)) for each in options.outbound
        ]
        inbound = [
            (_opened(undo, listening(pair.listen, "--inbound", options.workers, share=share)), app_address(pair))
            for pair in options.inbound
        ]
        health = None
        if options.health is not None:
            health = _opened(undo, listening(options.health, "--health", share=share))[0]
        dns = () if options.dns is None else _names_told(undo, options.dns, options.workers, share)
        mesh = make(options.workers == 1)  # workers watch for themselves: where threads are, forks are not safe
        undo.callback(mesh.close)
        undo.callback(notify, "STOPPING=1")
        for note in about_others(mesh._configuration.resources, mesh.workload):
            log.info("%s", note)
        settings = _settings(options, space.connections)
        gateway = _gateway(options, mesh, share)
        if options.workers > 1:
            from meshlib.proxy.supervise import Fleet

            def all_ready() -> None:
                _ready(outbound, inbound, dns)

            clock = SystemClock()
            return Fleet(
                mesh,
                options.workers,
                clock,
                settings,
                outbound,
                inbound,
                health,
                all_ready,
                gateway=gateway,
                dns=dns,
            ).run()

        def ready() -> None:
            notify("READY=1")
            _ready(outbound, inbound, dns)

        mine = [Inbound(sockets[0], app) for sockets, app in inbound]
        run(
            lambda: ProxyProcess(
                mesh,
                [each[0] for each in outbound],
                settings,
                mine,
                health=health,
                gateway=gateway,
                beat=watchdog.told(),
                dns=dns[0].part if dns else None,
            ),
            ready,
        )
    return 0


def _gateway(options: ProxyOptions, mesh: Mesh, share: bool) -> GatewayPlaces | None:
    """Where a gateway listens, of which each process opens what is its own. With several of them the ports are tried first, as
    what they share another proxy could share too. Raises ``MeshError``."""
    if options.gateways is None:
        return None
    several = options.workers > 1
    places = GatewayPlaces(options.gateway_ports, share or several)
    ports = _gateway_ports(mesh)
    for note in places.looked_at(ports):
        log.warning("%s", note)
    if not ports:
        log.warning("%s", NOTHING_SERVED)
    for port in ports if several else ():
        places.open(port, share).close()
    return places


def _names_told(undo: contextlib.ExitStack, options: DnsOptions, workers: int, share: bool) -> Sequence[Dns]:
    from meshlib.proxy.dns_launch import dns_of

    made = dns_of(options, workers, share=share)
    for each in made:
        undo.callback(each.sockets.close)
    return made


def _opened(undo: contextlib.ExitStack, sockets: Sequence[socket.socket]) -> Sequence[socket.socket]:
    for each in sockets:
        undo.callback(each.close)
    return sockets


def _settings(options: ProxyOptions, connections: int) -> ProxySettings:
    return ProxySettings(
        options.drain,
        options.exit_on_zero,
        # what RLIMIT_NOFILE has room for is of each process
        connections if options.max_connections is None else connections_each(connections, options.workers),
        options.max_memory,
        options.max_lag,
        connections_each(options.max_requests, options.workers),
        options.admin,
        options.transparent,
        options.interception,
    )


def _ready(
    outbound: Sequence[Slots], inbound: Sequence[tuple[Slots, ApplicationAddress | None]], dns: Sequence[Dns]
) -> None:
    for names in dns[:1]:
        log.info("telling names at %s:%d, over UDP and TCP", *names.sockets.address)
    for sockets in outbound:
        log.info("forwarding, listening on %s as process %d", address_of(sockets[0]), os.getpid())
    for sockets, app in inbound:
        where = "each port of the application" if app is None else app
        log.info("serving %s, listening on %s as process %d", where, address_of(sockets[0]), os.getpid())
