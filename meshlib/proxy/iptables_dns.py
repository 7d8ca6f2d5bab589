"""The rules that lead queries of DNS to ``--dns-capture``, as Istio's REDIRECT_DNS and CAPTURE_ALL_DNS have them.

Over TCP they are among those for all that the application sends, over UDP in a chain of their own. The proxy asks resolvers
from this machine, too: the table ``raw`` gives its packets another zone of connection tracking than the application's, or two
of them from one port to one resolver would be taken for one connection, and one of the two be dropped."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PORT = 53
DNS_PORT = 15053
"""Istio's, of its DNS proxy."""
DNS, DNS_IN = "MESHLIB_DNS", "MESHLIB_DNS_IN"
DNS_JUMPS = (f"OUTPUT -p udp -j {DNS}", f"PREROUTING -p udp -j {DNS_IN}")
OF_PROXY, OF_APPLICATION = 1, 2
"""Istio's, of the zones: from the proxy to resolvers and back; from the application to the proxy and back."""


@dataclass(frozen=True, slots=True)
class DnsCapture:
    """``port``: that of the proxy's --dns-port. ``servers``: the resolvers whose queries are led there, None: all."""

    port: int = DNS_PORT
    servers: Sequence[Address] | None = None

    def are_for(self, version: int) -> bool:
        """Whether any are of this version of IP."""
        return self.servers is None or any(server.version == version for server in self.servers)

    def to(self, version: int, option: str = "-d") -> Sequence[str]:
        """How each of them is told in a rule."""
        if self.servers is None:
            return [""]
        return [f"{option} {each}/{each.max_prefixlen} " for each in self.servers if each.version == version]


def over_tcp(dns: DnsCapture, version: int) -> Iterator[str]:
    """Rules of the chain for what the application sends; the proxy's own connections are past already."""
    for server in dns.to(version):
        yield f"{server}-p tcp --dport {PORT} -j REDIRECT --to-ports {dns.port}"


def over_udp(dns: DnsCapture, version: int, owners: Sequence[str]) -> Iterator[str]:
    """Rules, with their chain, of the table ``nat``."""
    for owner in owners:
        yield f"{DNS} -m owner {owner} -j RETURN"
    for server in dns.to(version):
        yield f"{DNS} {server}-p udp --dport {PORT} -j REDIRECT --to-ports {dns.port}"


def zones(dns: DnsCapture, version: int, owners: Sequence[str]) -> Iterator[str]:
    """Rules, with their chain, of the table ``raw``. The first that gives a packet its zone counts."""
    for owner in owners:
        yield f"{DNS} -p udp --dport {PORT} -m owner {owner} -j CT --zone {OF_PROXY}"
        yield f"{DNS} -p udp --sport {dns.port} -m owner {owner} -j CT --zone {OF_APPLICATION}"
    for server in dns.to(version):
        yield f"{DNS} {server}-p udp --dport {PORT} -j CT --zone {OF_APPLICATION}"
    for server in dns.to(version, "-s"):
        yield f"{DNS_IN} {server}-p udp --sport {PORT} -j CT --zone {OF_PROXY}"
