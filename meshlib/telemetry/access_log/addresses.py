"""Addresses as Envoy shows them: ``10.1.2.3:80``, ``[::1]:80``, or the path of a socket."""

from __future__ import annotations

import ipaddress


def without_port(address: str | None) -> str | None:
    """``10.1.2.3``, ``::1``; an address that has no port as it is."""
    if address is None:
        return None
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() and "/" not in host else address


def port_of(address: str | None) -> int | None:
    """None where there is none."""
    if address is None:
        return None
    host, colon, port = address.rpartition(":")
    return int(port) if colon and port.isascii() and port.isdigit() and "/" not in host else None


def masked(address: str | None, prefix: int) -> str | None:
    """``10.1.0.0/16`` of ``10.1.2.3:80`` and 16; None of what is not an IP address. A prefix that is too long is the address's
    length, as in Envoy."""
    host = without_port(address)
    if host is None:
        return None
    try:
        return str(ipaddress.ip_network((host, min(prefix, ipaddress.ip_address(host).max_prefixlen)), strict=False))
    except ValueError:
        return None
