"""Where a connection was meant to go that the kernel has led here (``iptables.py``): SO_ORIGINAL_DST of Linux, which asks what
the connection's addresses were before."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Socket(Protocol):
        """As asyncio lends it."""

        @property
        def family(self) -> int: ...
        def getsockname(self) -> tuple[object, ...]: ...
        def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


SO_ORIGINAL_DST = 80
_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xHI16sI")
_MAPPED = b"\0" * 10 + b"\xff\xff"
"""What an IPv4 address begins with on a socket of IPv6."""


def original_destination(sock: Socket) -> tuple[str, int] | None:
    """Address and port. None: it was meant for this very port."""
    found = None
    with contextlib.suppress(OSError):  # nothing has led it here, or (of IPv6's) it is one of IPv4
        if sock.family == socket.AF_INET6:
            found = _of_ipv6(sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, _IPV6.size))
    if found is None:
        with contextlib.suppress(OSError):
            found = _of_ipv4(sock.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, _IPV4.size))
    if found is None or found == _address(sock.getsockname()):
        return None
    return found


def is_at(sock: Socket) -> tuple[str, int]:
    """Address and port of its own end: of a connection that TPROXY has led here, those that it was meant for."""
    found = _address(sock.getsockname())
    return found[0], int(str(found[1]))


def _of_ipv4(data: bytes) -> tuple[str, int]:
    port, address = _IPV4.unpack(data)
    return socket.inet_ntop(socket.AF_INET, address), port


def _of_ipv6(data: bytes) -> tuple[str, int]:
    port, _, address, _ = _IPV6.unpack(data)
    if address.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[len(_MAPPED) :]), port
    return socket.inet_ntop(socket.AF_INET6, address), port


def _address(name: tuple[object, ...]) -> tuple[str, object]:
    host = str(name[0])
    return host.removeprefix("::ffff:") if "." in host else host, name[1]
