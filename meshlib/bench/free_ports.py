"""Ports for servers that are started later, in other processes: no two processes on this machine are given the same one."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
from pathlib import Path

FIRST, LAST = 12_000, 32_000
"""Below the range that the kernel takes a port from when a program asks for any (32768 and up on Linux)."""
BLOCK = 200
LOCKS = Path("/tmp")
"""For all processes, whatever TMPDIR each has."""


def _block() -> tuple[int, int]:
    """The first port of a block that this process has for itself for as long as the descriptor is open."""
    for first in range(FIRST, LAST, BLOCK):
        descriptor = os.open(LOCKS / f"meshlib-ports-{first}", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        return first, descriptor
    raise OSError(f"all blocks of ports between {FIRST} and {LAST} are taken by other processes")


class Ports:
    """Those of one process: a block, and another one whenever all are in use. The port of a server that has closed a connection
    is in use for a minute more."""

    def __init__(self) -> None:
        self.locked: list[int] = []  # for the life of the process
        self._ports: list[int] = []
        self._asked = itertools.count()

    def free(self) -> int:
        """``free_port``"""
        while True:
            for _ in range(len(self._ports)):
                port = self._ports[next(self._asked) % len(self._ports)]
                with socket.socket() as sock:
                    try:
                        sock.bind(("", port))
                    except OSError:
                        continue
                    return port
            first, descriptor = _block()
            self.locked.append(descriptor)
            self._asked = itertools.count(len(self._ports))
            self._ports += range(first, first + BLOCK)


_of_this_process = Ports()


def free_port() -> int:
    """A port where nobody listens, on any address, and that nobody else is given.

    Asking the kernel for any port and letting go of it again is not enough: it may give the same port to the next who asks, and
    where both set SO_REUSEPORT (Envoy and gRPC do) they share its connections instead of failing.

    Raises:
        OSError: other processes have all blocks of ports that this one has not filled
    """
    return _of_this_process.free()
