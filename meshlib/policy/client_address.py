"""Whose request it is, by its addresses: the IP of a peer, and of whom the nearest proxy has seen."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Hashable
from dataclasses import dataclass

MAX_SEEN = 4096
LONGEST_IP = 45
"""Characters of an IP: an IPv6 one that ends as an IPv4 one."""
MAX_SHOWN, LONGEST_SHOWN = 1024, 64
PLAIN = re.compile(r"[\w.:/%\[\]-]*", re.ASCII).fullmatch


class ShownAddresses(dict[Hashable, str]):
    """Addresses of peers as lines show them, by what servers tell of a peer, which is the same for all requests of a
    connection; those alone that need no escapes."""

    __slots__ = ()

    def keep(self, told: Hashable, shown: str) -> str | None:
        """``shown`` is that of ``told``. None: it needs escapes. A long one is not kept: a stranger may have a hand in it."""
        if PLAIN(shown) is None:
            return None
        if len(shown) <= LONGEST_SHOWN:
            if len(self) >= MAX_SHOWN:
                self.clear()
            self[told] = shown
        return shown


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """Of the client of a proxy, for access logs: who it is (``IP:port``, port 0 where another proxy has said it), who has
    connected, where to; its SPIFFE ID, and the server name that it asked for. "" for what there is not."""

    remote: str
    direct: str
    local: str
    principal: str = ""
    server_name: str = ""


def remote_of(peer: str, client_ip: str) -> str:
    """``ClientFacts.remote`` of a connection from ``peer`` whose client has this IP."""
    if not client_ip or client_ip == ip_of(peer):
        return peer
    return f"[{client_ip}]:0" if ":" in client_ip else f"{client_ip}:0"


@functools.lru_cache(MAX_SEEN)
def ip_of(address: str) -> str:
    """The IP of ``127.0.0.1:4711``, ``[::1]:4711``, ``::1`` or ``10.0.0.1``, written as everybody writes it; "" of anything
    else. An IPv4 address mapped into IPv6 is the IPv4 one, as it is to Envoy."""
    host = address
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        host = address.partition(":")[0]
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(found)


def last_forwarded(forwarded: str) -> str:
    """The IP at the end of an X-Forwarded-For (its lines joined with ","), "" when there stands none: Envoy takes no port
    there, and an IPv4 address mapped into IPv6 for an IPv6 one."""
    return ip_said(forwarded.rpartition(",")[2].strip(" \t"))


def ip_said(text: str) -> str:
    """One of an X-Forwarded-For, without its zone; "" of what is no IP."""
    address = text.partition("%")[0]
    return _ip(address) if len(address) <= LONGEST_IP else ""


@functools.lru_cache(MAX_SEEN)
def _ip(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""
