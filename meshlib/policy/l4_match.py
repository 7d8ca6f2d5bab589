"""Conditions of ``tls`` and ``tcp`` rules: server name, addresses. One block is an AND, several are an OR."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class L4Match:
    """``sni`` holds exact names and ``*.suffix`` patterns in lower case (empty: any); networks are CIDRs (empty: any)."""

    sni: tuple[str, ...] = ()
    destinations: tuple[Network, ...] = ()
    sources: tuple[Network, ...] = ()

    def __call__(self, server_name: str, destination: str = "", source: str = "") -> bool:
        """Whether a connection fits; "" for what is not known (which fits no condition)."""
        if self.sni and sni_rank(self.sni, server_name) < 0:
            return False
        return _within(self.destinations, destination) and _within(self.sources, source)


def sni_rank(patterns: tuple[str, ...], server_name: str) -> int:
    """How well a server name fits: the length of the best pattern that covers it, an exact one above all, -1 for none.
    Envoy lets the most specific server name decide between filter chains."""
    name = server_name.lower()
    best = -1
    for pattern in patterns:
        if pattern == name:
            return 1 << 16
        if pattern == "*":
            best = max(best, 0)
        elif pattern.startswith("*.") and name.endswith(pattern[1:]):
            best = max(best, len(pattern))
    return best


def networks(texts: list[str] | tuple[str, ...]) -> tuple[Network, ...]:
    """CIDRs, or single addresses (whose zone means nothing here), as networks. Raises ``ValueError``."""
    return tuple(ipaddress.ip_network(text.partition("%")[0], strict=False) for text in texts)


def _within(allowed: tuple[Network, ...], address: str) -> bool:
    if not allowed:
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in allowed)
