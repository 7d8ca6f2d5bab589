"""What /etc/resolv.conf says: whom to ask, and which domains an application's resolver tries. Read as resolv.conf(5) has it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshlib.problems import MeshError

PORT = 53
MOST_SERVERS = 3
"""As MAXNS of the C library."""
RESOLV_CONF = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """``servers``: address and port of each, in the order in which they are asked. ``search``: the domains, in their order."""

    servers: Sequence[tuple[str, int]] = ()
    search: Sequence[str] = ()


def parse(text: str) -> ResolvConf:
    """Lines that say nothing of use are passed over, as by the C library. The last ``search`` or ``domain`` counts."""
    servers: list[tuple[str, int]] = []
    search: Sequence[str] = ()
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line[:1] in "#;":
            continue
        if words[0] == "nameserver" and len(servers) < MOST_SERVERS:
            address = words[1]
            try:
                ipaddress.ip_address(address)
            except ValueError:
                continue
            servers.append((address, PORT))
        elif words[0] == "search":
            search = tuple(words[1:])
        elif words[0] == "domain":
            search = (words[1],)
    return ResolvConf(tuple(servers), search)


def read(path: str = RESOLV_CONF) -> ResolvConf:
    """Raises ``MeshError`` for a file that cannot be read, and for one that names nobody."""
    try:
        found = parse(Path(path).read_text(errors="replace"))
    except OSError as error:
        raise MeshError(
            f"--dns-capture: {path} cannot be read ({error.strerror}): it names the resolvers that are asked for what the mesh "
            "does not know; say --resolv-conf where it is"
        ) from error
    if not found.servers:
        raise MeshError(
            f"--dns-capture: {path} names no resolver: give it a line such as `nameserver 10.96.0.10`, or say --resolv-conf "
            "where another such file is"
        )
    return found
