"""The PROXY protocol (versions 1 and 2): what a load balancer writes before a connection of who has connected to it, and where.
Bytes in, addresses out, and the other way round; what can be read in two ways is refused."""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from typing import NamedTuple, TypeAlias

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""What version 2 begins with, which is the beginning of nothing else."""
LONGEST_LINE = 107
"""Bytes of a header of version 1, its line's end included."""
_FIXED = len(SIGNATURE) + 4
_LINE = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})\r\n"
)
_UNKNOWN = b"PROXY UNKNOWN"
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_SIZES = {_TCP4: 4, _TCP6: 16}
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")

Address: TypeAlias = tuple[str, int]
"""IP and port."""


class NotProxied(ValueError):
    """A connection that does not begin with a header. The text says what is wrong."""


class Version(Enum):
    """As ``trafficPolicy.proxyProtocol.version`` of DestinationRule."""

    V1 = "V1"
    V2 = "V2"


class ProxyHeader(NamedTuple):
    """``size``: the bytes of the header. ``source`` is who has connected, ``destination`` where to; None: the connection is the
    sender's own (a check of its health), or one of which it does not say more."""

    size: int
    source: Address | None
    destination: Address | None


def header_of(data: bytes) -> ProxyHeader | None:
    """What ``data``, the beginning of a connection, says; None: more has to come. Raises ``NotProxied``."""
    if data[:1] == b"P":
        return _of_version_1(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _of_version_2(data)
    raise NotProxied("it does not begin with a PROXY header")


def _of_version_1(data: bytes) -> ProxyHeader | None:
    if data[:6] != b"PROXY "[: len(data)]:
        raise NotProxied("it does not begin with a PROXY header")
    end = data.find(b"\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise NotProxied(f"its PROXY line does not end within {LONGEST_LINE} bytes")
        return None
    line = data[: end + 1]
    if line.startswith(_UNKNOWN) and line[len(_UNKNOWN) : len(_UNKNOWN) + 1] in b" \r" and line.endswith(b"\r\n"):
        return ProxyHeader(len(line), None, None)
    found = _LINE.fullmatch(line)
    if found is None:
        raise NotProxied("its PROXY line is none of version 1")
    version = 4 if found[1] == b"TCP4" else 6
    source, destination = (_address(found[n].decode(), int(found[n + 2]), version) for n in (2, 3))
    return ProxyHeader(len(line), source, destination)


def _address(text: str, port: int, version: int) -> Address:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise NotProxied(f"{text} in its PROXY line is no address") from None
    _must_be_one_hosts(ip)
    if ip.version != version or port > 0xFFFF:
        raise NotProxied(f"{text} port {port} in its PROXY line is none of TCP{version}")
    return str(ip), port


def _must_be_one_hosts(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """As Envoy: nobody connects from, or to, all or none."""
    if ip.is_unspecified or ip.is_multicast or ip == _BROADCAST:
        raise NotProxied(f"{ip} in its PROXY header is the address of no host")


def _must_be_whole(entries: bytes) -> None:
    """What follows the addresses is read by nobody here, but has to be what it says: a type, a length, and so many bytes."""
    at = 0
    while at < len(entries):
        if at + 3 > len(entries):
            raise NotProxied("an entry behind the addresses of its PROXY header is cut off")
        at += 3 + int.from_bytes(entries[at + 1 : at + 3])
    if at > len(entries):
        raise NotProxied("an entry behind the addresses of its PROXY header is longer than the header")


def _of_version_2(data: bytes) -> ProxyHeader | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise NotProxied(f"its PROXY header is of version and command {data[12]:#04x}")
    if len(data) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(data[14:16])
    family, local = data[13], data[12] == _LOCAL
    width = _SIZES.get(family)
    if not local and width is None:  # Envoy's reading: a family that is not specified is none, either
        raise NotProxied(f"its PROXY header is of address family and protocol {family:#04x}, which is not TCP")
    if not local and width is not None and size < _FIXED + 2 * width + 4:
        raise NotProxied("its PROXY header is too short for its addresses")
    if len(data) < size:
        return None
    if local or width is None:
        return ProxyHeader(size, None, None)
    addresses = data[_FIXED:size]
    hosts = [ipaddress.ip_address(addresses[at : at + width]) for at in (0, width)]
    for host in hosts:
        _must_be_one_hosts(host)
    _must_be_whole(addresses[2 * width + 4 :])
    ips = map(str, hosts)
    ports = (int.from_bytes(addresses[at : at + 2]) for at in (2 * width, 2 * width + 2))
    source, destination = zip(ips, ports, strict=True)
    return ProxyHeader(size, source, destination)


def address_of(text: str) -> Address | None:
    """Of ``10.0.0.1:80`` or ``[::1]:80``; None: it is not known, or a unix socket's."""
    host, _, port = text.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return str(getattr(ip, "ipv4_mapped", None) or ip), int(port)


def header_for(version: Version, source: Address | None, destination: Address | None) -> bytes:
    """The header of a connection; None: there is nothing to say of it, or its two addresses are of two families."""
    if source is None or destination is None:
        return _none(version)
    one, other = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    if one.version != other.version:
        return _none(version)
    if version is Version.V1:
        return f"PROXY TCP{one.version} {one} {other} {source[1]} {destination[1]}\r\n".encode()
    family = _TCP4 if one.version == 4 else _TCP6
    addresses = one.packed + other.packed + source[1].to_bytes(2) + destination[1].to_bytes(2)
    return SIGNATURE + bytes((_PROXY, family)) + len(addresses).to_bytes(2) + addresses


def _none(version: Version) -> bytes:
    return b"PROXY UNKNOWN\r\n" if version is Version.V1 else SIGNATURE + bytes((_LOCAL, _UNSPECIFIED, 0, 0))
