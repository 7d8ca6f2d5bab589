"""Ports for servers that are started later, in other processes: no two processes on this machine are given the same one."""

from __future__ import annotations

import fcntl
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

FIRST, LAST = 12_000, 32_000
"""Below the range that the kernel takes a port from when a program asks for any (32768 and up on Linux)."""
BLOCK = 200
LOCKS = Path("/tmp")
"""For all processes, whatever TMPDIR each has."""


def _block() -> tuple[int, IO[bytes]]:
    """The first port of a block that this process has for itself for as long as the file is open."""
    for first in range(FIRST, LAST, BLOCK):
        file = (LOCKS / f"meshlib-ports-{first}").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        return first, file
    raise OSError(f"all blocks of ports between {FIRST} and {LAST} are taken by other processes")


def _ports() -> Iterator[int]:
    first, file = _block()
    with file:
        yield from itertools.cycle(range(first, first + BLOCK))


# A generator keeps its block locked for the life of the process; it is made with the first port that is asked for.
_of_this_process = _ports()


def free_port() -> int:
    """A port where nobody listens, on any address, and that nobody else is given.

    Asking the kernel for any port and letting go of it again is not enough: it may give the same port to the next who asks, and
    where both set SO_REUSEPORT (Envoy and gRPC do) they share its connections instead of failing.

    Raises:
        OSError: all ports of this process are in use
    """
    for _ in range(BLOCK):
        port = next(_of_this_process)
        with socket.socket() as sock:
            try:
                sock.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"{BLOCK} ports are in use at once")
