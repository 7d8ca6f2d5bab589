"""IP addresses and CIDR ranges as Go's ``net/netip`` reads them, which is how istiod judges them."""

from __future__ import annotations

import ipaddress
import re

_BITS = re.compile(r"0|[1-9][0-9]{0,2}")


def is_address(text: str) -> bool:
    """``1.2.3.4``, ``::1``, ``fe80::1%eth0``: no leading zeros, no range."""
    address, percent, zone = text.partition("%")
    if percent and (":" not in address or not zone):
        return False
    return _version(address) != 0


def is_range(text: str) -> bool:
    """``10.0.0.0/8``, also with host bits set: no zone, no netmask after the slash."""
    address, slash, bits = text.rpartition("/")
    version = _version(address)
    if not slash or not version or not _BITS.fullmatch(bits):
        return False
    return int(bits) <= (32 if version == 4 else 128)


def address_problem(text: str) -> str:
    """Why ``text`` is neither an address nor a range, "" when it is one."""
    if "/" in text:
        return "" if is_range(text) else "it is not a CIDR range"
    return "" if is_address(text) else "it is not an IP address"


def _version(text: str) -> int:
    if "%" in text or "/" in text:
        return 0
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return 0
