"""The sockets of ``--dns-capture``: a port of this machine's loopback addresses, over UDP and TCP. No other machine reaches it,
so that nobody can make it send to a third."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence

from meshlib.problems import MeshError
from meshlib.proxy.dns_server import BACKLOG, DnsSockets
from meshlib.proxy.places import TcpPlace
from meshlib.proxy.sockets import why_not
from meshlib.registry import automatic

OPTION = "--dns-port"
TRIES = 20
"""Free ports that are tried until one is free for all sockets."""
WAITING = 4 * 1024 * 1024
"""Bytes of queries that may wait in the kernel; its net.core.rmem_max bounds it."""
IPV4, IPV6 = "127.0.0.1", "::1"


def dns_listening(port: int, slots: int = 1, *, share: bool = False) -> list[DnsSockets]:
    """Those of each worker; port 0 is the same free port for all. Raises ``MeshError``."""
    made: list[DnsSockets] = []
    hosts = (IPV4, IPV6) if _has_ipv6() else (IPV4,)
    if slots > 1 and not share and port:
        _one(hosts, port, reuse=False).close()  # another proxy could have them, too
    try:
        for _ in range(slots):
            made.append(_one(hosts, port, reuse=share or slots > 1))
            port = made[0].address[1]
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _one(hosts: Sequence[str], port: int, *, reuse: bool) -> DnsSockets:
    for tried in range(TRIES if port == 0 else 1):
        udp: list[socket.socket] = []
        tcp: list[socket.socket] = []
        chosen = port
        try:
            for host in hosts:
                for kind, sockets in ((socket.SOCK_DGRAM, udp), (socket.SOCK_STREAM, tcp)):
                    sockets.append(_bound(host, chosen, kind, reuse))
                    chosen = sockets[-1].getsockname()[1]
        except OSError as error:
            DnsSockets(udp, tcp).close()
            if error.errno == errno.EADDRINUSE and port == 0 and tried < TRIES - 1:
                continue
            place = TcpPlace(IPV4, chosen)
            raise MeshError(f"{OPTION} {chosen}: {why_not(error, place, OPTION)}") from error
        return DnsSockets(udp, tcp)
    raise AssertionError("unreachable")


def _bound(host: str, port: int, kind: socket.SocketKind, reuse: bool) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WAITING)
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if ":" in host:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind((host, port))
        if kind is socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def unreachable() -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The automatic addresses that this machine has no route to: an application that tried one first would wait, or fail. Those
    of IPv4 stay where neither family has one."""
    if not _is_routed(automatic.IPV6):
        return automatic.IPV6
    return None if _is_routed(automatic.IPV4) else automatic.IPV4


def _is_routed(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(network[1]), 9))  # nothing is sent
        return True
    return False


def _has_ipv6() -> bool:
    """Whether ::1 is an address of this machine."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind((IPV6, 0))
        return True
    return False
