"""Connections that come from an address of our choice: the one that interception leaves alone, or the client's own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.compiler.routes import Source
    from meshlib.transport.upstream.target import Target

IP_BIND_ADDRESS_NO_PORT = 24
"""Linux's: the port is chosen when it is known where to, so that there are 28,000 of them to each destination, not to all."""
IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
MARK = 1337
"""Of packets by which the kernel brings back what is for a client's address (``--set-mark`` of ``proxy/iptables.py``)."""


async def reach_from(loop: asyncio.AbstractEventLoop, source: Source, host: str, port: int) -> socket.socket:
    """A connection to this address, from ``source``. Raises OSError, with what to do about an address that is not there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source.transparent:
            allow_any_address(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        with contextlib.suppress(OSError):  # of kernels before 4.2
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            sock.bind((source.address, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            raise OSError(
                error.errno,
                f"{source.address} is no address of this machine, from which connections to the application come so that "
                f"interception leaves them alone: ip addr add {source.address} dev lo (meshlib iptables apply does)",
            ) from None
        await loop.sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def reach_as(loop: asyncio.AbstractEventLoop, target: Target, host: str) -> socket.socket:
    """A connection to an address of ``target``, from where it says and with what it begins with. Raises OSError."""
    if target.source is not None:
        sock = await reach_from(loop, target.source, host, target.port)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, (host, target.port))
        except BaseException:
            sock.close()
            raise
    try:
        if target.preface:
            await loop.sock_sendall(sock, target.preface)
    except BaseException:
        sock.close()
        raise
    return sock


def allow_any_address(sock: socket.socket) -> None:
    """Let it have addresses that are not this machine's (TPROXY). Raises PermissionError without CAP_NET_ADMIN."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
