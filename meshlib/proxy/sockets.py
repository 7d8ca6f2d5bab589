"""The listening sockets of the proxy: one a worker and place, bound by the parent before workers are there.

With several workers the sockets of a place share its port by SO_REUSEPORT, so that the kernel deals connections out. The parent
keeps all of them open: what waits in the queue of a worker that dies is there for the one that takes its slot.

SO_REUSEPORT would also let a second proxy of the same user listen at the same port unnoticed, and each would get half of the
connections. So a port is tried without it first, unless that is what is wanted (``share``, for a restart without a gap).
"""

from __future__ import annotations

import errno
import os
import socket

from meshlib.problems import MeshError
from meshlib.proxy.places import TcpPlace

BACKLOG = 4096
"""Connections that may wait; the kernel's net.core.somaxconn bounds it."""


def listening(place: TcpPlace, option: str, slots: int = 1, *, share: bool = False) -> list[socket.socket]:
    """A listening, non-blocking socket for each slot; port 0 is the same free port for all. Raises ``MeshError`` that names
    ``option`` and says who is in the way and what to do."""
    made: list[socket.socket] = []
    reuse = share or slots > 1
    try:
        if reuse and not share and place.port:
            _listen(place, reuse=False).close()
        for _ in range(slots):
            made.append(_listen(place, reuse=reuse))
            place = TcpPlace(place.host, made[0].getsockname()[1])
        for each in made:
            each.listen(BACKLOG)
    except OSError as error:
        for each in made:
            each.close()
        raise MeshError(f"{option} {place}: {why_not(error, place, option)}") from error
    return made


def _listen(place: TcpPlace, *, reuse: bool) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if place.family_six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections in TIME_WAIT
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if place.family_six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if place.host == "::" else 1)
        made.setblocking(False)
        made.bind((place.host, place.port))
        if not reuse:
            made.listen(BACKLOG)  # bind alone may succeed beside one that only binds
    except BaseException:
        made.close()
        raise
    return made


def why_not(error: OSError, place: TcpPlace, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {place.port} is in use; stop who has it (ss -ltnp 'sport = :{place.port}' shows who), or give {option} "
            "another port"
        )
    if error.errno == errno.EACCES:
        return (
            f"port {place.port} needs privileges; give {option} one above 1023, or the process the capability to bind it "
            "(CAP_NET_BIND_SERVICE)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{place.host} is not an address of this machine (ip addr shows those); write 0.0.0.0 for all of them"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "no descriptor is left to listen with; allow this process more (ulimit -n, LimitNOFILE= of systemd)"
    return f"cannot be listened at: {error.strerror or os.strerror(error.errno or 0)}"
