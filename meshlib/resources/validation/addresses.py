"""Rules of IP addresses, networks, and paths of unix sockets."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Iterator

from meshlib.resources.addresses import is_address, is_range
from meshlib.resources.notices import Loc, Notice, refused

UNIX = "unix://"


def is_ip(text: str) -> bool:
    """An IPv4 or IPv6 address, an IPv6 zone included."""
    return len(text) <= _LONGEST and _is_ip(text)


_is_ip = functools.lru_cache(maxsize=16_384)(is_address)
_LONGEST = 255  # what is longer is not kept


def is_subnet(text: str) -> bool:
    """An address, or one with the bits of its network: ``10.0.0.0/8``. Bits of the host may be set."""
    return is_range(text) if text.count("/") == 1 else is_ip(text)


def subnet(text: str, loc: Loc) -> Iterator[Notice]:
    """An address or network."""
    if not is_subnet(text):
        yield refused("bad-subnet", loc, f"{text!r} is not an address or CIDR", "for example 10.0.0.0/8")


def ip_address(text: str, loc: Loc) -> Iterator[Notice]:
    """An IP address."""
    if not is_ip(text):
        yield refused("bad-address", loc, f"{text!r} is not an IP address", "for example 127.0.0.1")


def unix_socket(text: str, loc: Loc) -> Iterator[Notice]:
    """``unix:///path`` of a file, or ``unix://@name`` of an abstract socket."""
    path = text.removeprefix(UNIX)
    if path.startswith("@"):
        return
    if not posixpath.isabs(path) or path.endswith("/"):
        yield refused(
            "bad-unix-socket", loc, f"{text!r} is not the absolute path of a socket", "for example unix:///run/app.sock"
        )
