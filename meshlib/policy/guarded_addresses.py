"""Addresses that no fetch of a server for itself may reach: link-local ones, and those where clouds keep credentials.

Whoever can write a ``jwksUri``, or stands behind one with a redirect or with DNS, would otherwise have this program read
them. Istio refuses the same. Looked at when a connection is made, when names are addresses.
"""

from __future__ import annotations

import ipaddress

_GUARDED = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.0.0/16",
            "224.0.0.0/24",
            "fe80::/10",
            "ff02::/16",
            "100.100.100.200/32",  # Alibaba Cloud
            "fd00:ec2::/32",  # AWS
        ),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_guarded(address: str) -> bool:
    """Whether ``address``, an IP, must not be connected to. Text that is not an IP must not be connected to either."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found in _NAT64:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return any(found.version == network.version and found in network for network in _GUARDED)
