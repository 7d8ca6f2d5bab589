"""Sockets of this machine, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path


def sockets_to(port: int) -> int:
    """Client sockets to a port of loopback, connected or half closed by the server."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *_ = line.split()
        count += int(remote.split(":")[1], 16) == port and state in ("01", "08")
    return count
