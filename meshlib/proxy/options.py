"""What the command line of ``meshlib proxy`` says, checked: every wrong value is a sentence with the option, the value and the
remedy, and all of them are said at once. Nothing is opened or bound here.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.problems import ConfigError, MeshError
from meshlib.proxy.gateway_options import gateway_choice, gateway_places
from meshlib.proxy.iptables import InterceptionMode
from meshlib.proxy.iptables_dns import DNS_PORT
from meshlib.proxy.places import Place, TcpPlace, UnixPlace, WrongPlace, app_place, listen_place, meet
from meshlib.proxy.resolv_conf import RESOLV_CONF

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayChoice

MOST_WORKERS = 1024
DRAIN_SECONDS = 5.0
"""As ``terminationDrainDuration`` of Istio's ProxyConfig."""
MIB = 1024 * 1024


class WrongOptions(MeshError):
    """``sentences``: one for each thing that is wrong."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = tuple(sentences)


@dataclass(frozen=True, slots=True)
class Given:
    """The options as they were typed."""

    configs: Sequence[str] = ()
    outbound: Sequence[str] = ()
    inbound: Sequence[str] = ()
    apps: Sequence[str] = ()
    app_ports: Sequence[int] = ()
    gateways: Sequence[str] = ()
    all_gateways: bool = False
    gateway_ports: Sequence[str] = ()
    admin: str = ""
    health: str = ""
    workers: str = "1"
    drain: float = DRAIN_SECONDS
    exit_on_zero: bool = False
    max_connections: int | None = None
    max_memory: int | None = None
    """MiB."""
    max_lag: float | None = None
    transparent: bool = False
    max_requests: int | None = None
    engine: str = "meshlib"
    interception: str = ""
    dns_capture: bool = False
    dns_port: int | None = None
    resolv_conf: str = ""


@dataclass(frozen=True, slots=True)
class InboundPair:
    """A listener in front of an application. ``app_port``: the application's port, by which policies and PeerAuthentication
    know it (the containerPort of Istio). ``app`` None: in front of all of its ports (``inbound_transparent.py``)."""

    listen: TcpPlace
    app: Place | None
    app_port: int


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """``port``: of this machine's loopback addresses, where names are asked for. ``resolv_conf``: the file that names the
    resolvers for all that the mesh does not know."""

    port: int = DNS_PORT
    resolv_conf: str = RESOLV_CONF


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """``drain``: seconds from SIGTERM to the end. ``exit_on_zero``: the end comes as soon as no connection is left
    (EXIT_ON_ZERO_ACTIVE_CONNECTIONS of Istio's agent). ``max_connections`` None: by RLIMIT_NOFILE; ``max_requests``,
    ``max_memory`` in bytes, ``max_lag`` in seconds, None: no limit. ``gateways``: which ones it serves, None: it is no gateway;
    their ports are listened on where ``gateway_ports`` says. ``notes``: what is worth a warning. ``transparent``: outbound
    ports take connections that were meant for others (``transparent.py``), and an inbound one without an application those
    that ``interception`` leads to it. ``dns``: how names are told, None: they are not."""

    configs: tuple[str, ...]
    outbound: tuple[TcpPlace, ...] = ()
    inbound: tuple[InboundPair, ...] = ()
    gateways: GatewayChoice | None = None
    gateway_ports: Mapping[int, TcpPlace] = field(default_factory=dict)
    admin: str = ""
    health: TcpPlace | None = None
    workers: int = 1
    drain: float = DRAIN_SECONDS
    exit_on_zero: bool = False
    max_connections: int | None = None
    max_memory: int | None = None
    max_lag: float | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    transparent: bool = False
    max_requests: int | None = None
    engine: str = "meshlib"
    interception: InterceptionMode = InterceptionMode.REDIRECT
    dns: DnsOptions | None = None

    @property
    def listeners(self) -> int:
        """How many sockets of one worker take requests."""
        return len(self.outbound) + len(self.inbound) + (self.gateways is not None)


def checked(given: Given, cores: int | None = None) -> ProxyOptions:
    """The options that were meant. ``cores``: what ``--workers auto`` stands for, None: those that this process may use.
    Raises ``WrongOptions``."""
    wrong: list[str] = []
    configs = tuple(given.configs)
    if not configs:
        wrong.append(
            "--config is required: give the folder with the resources of the mesh, --config mesh/, or MESHLIB_CONFIG"
        )
    outbound = tuple(_listens("--outbound", given.outbound, wrong))
    inbound = tuple(_pairs(given, wrong))
    gateways = gateway_choice(given, wrong)
    if not given.outbound and not given.inbound and not given.apps and gateways is None:
        wrong.append(
            "there is nothing to do: give --outbound 127.0.0.1:15001, for the calls of an application, or --inbound "
            "0.0.0.0:15006 --app 127.0.0.1:8080, for the calls to it, or both, or --gateway NAMESPACE/NAME"
        )
    if given.transparent:
        _transparent(given, wrong)
    health = next(iter(_listens("--health", [given.health] if given.health else [], wrong)), None)
    admin = _admin(given.admin, wrong)
    dns = _dns(given, wrong)
    names = None if dns is None else TcpPlace("127.0.0.1", dns.port)
    _no_twins([*outbound, *(pair.listen for pair in inbound), *filter(None, [health, _tcp(admin), names])], wrong)
    _no_circles(outbound, inbound, wrong)
    found = ProxyOptions(
        configs,
        outbound,
        inbound,
        gateways,
        gateway_places(given, wrong),
        admin,
        health,
        _workers(given.workers, cores, wrong),
        given.drain,
        given.exit_on_zero,
        given.max_connections,
        None if given.max_memory is None else given.max_memory * MIB,
        given.max_lag,
        tuple(_notes(outbound)),
        given.transparent,
        given.max_requests,
        given.engine,
        _interception(given, wrong),
        dns,
    )
    if wrong:
        raise WrongOptions(wrong)
    return found


def _interception(given: Given, wrong: list[str]) -> InterceptionMode:
    if given.interception == InterceptionMode.TPROXY.value and not (
        given.transparent and given.inbound and not given.apps
    ):
        wrong.append(
            "--interception-mode TPROXY is for connections to an application that are led to one port: give --transparent and "
            "--inbound 0.0.0.0:15006 without --app"
        )
    return InterceptionMode(given.interception or InterceptionMode.REDIRECT.value)


def _dns(given: Given, wrong: list[str]) -> DnsOptions | None:
    if not given.dns_capture:
        for option, there in (("--dns-port", given.dns_port is not None), ("--resolv-conf", bool(given.resolv_conf))):
            if there:
                wrong.append(f"{option} is of --dns-capture: give that, too")
        return None
    if not (given.transparent and given.outbound):
        wrong.append(
            "--dns-capture tells addresses at which only --transparent takes connections: give --transparent and --outbound "
            "127.0.0.1:15001, too"
        )
    return DnsOptions(DNS_PORT if given.dns_port is None else given.dns_port, given.resolv_conf or RESOLV_CONF)


def _transparent(given: Given, wrong: list[str]) -> None:
    if not given.outbound and not (given.inbound and not given.apps):
        wrong.append(
            "--transparent is for connections that iptables leads here: give --outbound 127.0.0.1:15001, for the calls of an "
            "application, or --inbound 0.0.0.0:15006 without --app, for those to it, or both"
        )
    if sys.platform != "linux":
        wrong.append(
            "--transparent takes Linux, which knows where a connection was meant to go; give HTTP_PROXY instead"
        )


def _listens(option: str, texts: Sequence[str], wrong: list[str]) -> list[TcpPlace]:
    found = []
    for text in texts:
        try:
            found.append(listen_place(text))
        except WrongPlace as error:
            wrong.append(f"{option} {text}: {error}")
    return found


def _pairs(given: Given, wrong: list[str]) -> list[InboundPair]:
    """The n-th --inbound is in front of the n-th --app."""
    listens, apps = list(given.inbound), list(given.apps)
    if given.transparent and not apps:
        return [InboundPair(listen, None, 0) for listen in _listens("--inbound", listens, wrong)]
    if len(listens) != len(apps):
        wrong.append(
            f"--inbound is given {_times(len(listens))} and --app {_times(len(apps))}: they are pairs, each --inbound with the "
            "--app that it is in front of: --inbound 0.0.0.0:15006 --app 127.0.0.1:8080; with --transparent and no --app it is "
            "in front of all ports that iptables leads to it"
        )
        return []
    found, ports = [], list(given.app_ports)
    places: list[Place | None] = [_app(text, wrong) for text in apps]
    sockets = sum(1 for place in places if isinstance(place, UnixPlace))
    if None not in places and len(ports) != sockets:
        wrong.append(_about_ports(len(ports), sockets))
    elif None not in places:
        for text, place in zip(listens, places, strict=True):
            assert place is not None
            port = ports.pop(0) if isinstance(place, UnixPlace) else place.port
            if listen := _listens("--inbound", [text], wrong):
                found.append(InboundPair(listen[0], place, port))
    return found


def _about_ports(ports: int, sockets: int) -> str:
    if ports < sockets:
        return (
            f"--app unix:PATH is given {_times(sockets)} and --app-port {_times(ports)}: a unix socket has no port, and "
            "policies and PeerAuthentication know the application by one: give --app-port 8080 for each, in their order"
        )
    return (
        f"--app-port is given {_times(ports)} and --app unix:PATH {_times(sockets)}: it names the port of a unix socket; that "
        "of --app HOST:PORT is the one that is written there"
    )


def _app(text: str, wrong: list[str]) -> Place | None:
    try:
        return app_place(text)
    except WrongPlace as error:
        wrong.append(f"--app {text}: {error}")
        return None


def _admin(text: str, wrong: list[str]) -> str:
    if not text:
        return ""
    from meshlib.admin.address import parse_address

    try:
        parse_address(text, "--admin")
    except ConfigError as error:
        problem = error.problems[0]
        wrong.append(f"--admin {problem.message}; {problem.hint}")
        return ""
    return text


def _tcp(admin: str) -> TcpPlace | None:
    if not admin or admin.startswith("unix"):
        return None
    from meshlib.admin.address import TcpAddress, parse_address

    address = parse_address(admin, "--admin")
    return TcpPlace(address.host, address.port) if isinstance(address, TcpAddress) else None


def _no_twins(places: Sequence[TcpPlace], wrong: list[str]) -> None:
    seen: list[TcpPlace] = []
    for place in places:
        if place.port and any(place.port == other.port and meet(place.host, other.host) for other in seen):
            wrong.append(
                f"{place} is listened on twice: give each of --outbound, --inbound, --admin, --health and --dns-port its own"
            )
        seen.append(place)


def _no_circles(outbound: Sequence[TcpPlace], inbound: Sequence[InboundPair], wrong: list[str]) -> None:
    ours = [*outbound, *(pair.listen for pair in inbound)]
    for pair in inbound:
        app = pair.app
        if isinstance(app, TcpPlace) and any(
            app.port == place.port
            and (meet(app.host, place.host) and (app.host.startswith("127.") or app.host == place.host))
            for place in ours
        ):
            wrong.append(
                f"--app {app} is where the proxy itself listens: it would call itself; give the port of the application"
            )


def _workers(text: str, cores: int | None, wrong: list[str]) -> int:
    if text == "auto":
        return usable_cores() if cores is None else cores
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= MOST_WORKERS:
        wrong.append(f"--workers {text}: write a number from 1 to {MOST_WORKERS}, or auto for one a core")
        return 1
    return int(text)


def usable_cores(quota: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Cores that this process may run on, and that its container's CPU limit pays for (rounded up, at least one)."""
    cores = len(os.sched_getaffinity(0))
    try:
        with open(quota) as file:
            most, period = file.read().split()[:2]
        return cores if most == "max" else max(1, min(cores, math.ceil(int(most) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no such limit here
        return cores


def _notes(outbound: Sequence[TcpPlace]) -> list[str]:
    return [
        f"--outbound {place} can be reached from other machines, which could make calls in the name of this workload: "
        f"127.0.0.1:{place.port} is for this machine alone"
        for place in outbound
        if place.for_others
    ]


def _times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")
