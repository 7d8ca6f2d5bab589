"""The rules that lead the connections of a machine, or of a container's network namespace, to the proxy without the
application's knowledge: what ``iptables-restore --noflush`` reads, with the ports and exceptions of Istio's own.

What the application sends goes to one port of the proxy, which asks the kernel where it was meant to go
(``original_destination.py``). What is sent to a port of the application goes to the port of the proxy that is before it
(``--inbound``). The proxy's own connections, told apart by the user or group that it runs as, are left alone.

All rules are in chains of our own, so that they can be taken away, or changed, without a look at anybody else's. Each table of
an address family is one transaction of the kernel: no half of it is ever in force.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from meshlib.proxy.iptables_dns import DNS, DNS_IN, DNS_JUMPS, PORT, Address, DnsCapture, over_tcp, over_udp, zones

OUTPUT, INBOUND, DIVERT = "MESHLIB_OUTPUT", "MESHLIB_INBOUND", "MESHLIB_DIVERT"
CHAINS = (OUTPUT, INBOUND, DIVERT, DNS, DNS_IN)
JUMPS = (f"PREROUTING -p tcp -j {INBOUND}", f"OUTPUT -p tcp -j {OUTPUT}", *DNS_JUMPS)
"""By which the kernel's own chains lead to ours."""

OUTBOUND_PORT = 15001
"""Istio's, of the listener that takes what the application sends."""
ALL_PORTS = 0
"""In place of a port of the application: each that no other rule is about."""
NOT_INBOUND = (15090, 15021, 15020)
"""Istio's, of its proxy's own probes and metrics: left alone where all ports are led to it."""
USER = 1337
"""Istio's, of the user and the group that its proxies run as."""
MARK, OWN_MARK = 1337, 1338
"""Istio's, in TPROXY mode: of packets that are for this machine whatever their address, and of calls of the proxy to itself."""
ROUTES = 133
"""Istio's, of the table of routes for packets with ``MARK``."""
MAX_PORT = 65535

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Family(Enum):
    """Of addresses."""

    IPV4 = "iptables"
    IPV6 = "ip6tables"

    @property
    def loopback(self) -> str:
        """Of this machine."""
        return "127.0.0.1/32" if self is Family.IPV4 else "::1/128"

    @property
    def to_application(self) -> str:
        """Where connections of the proxy to an application come from that was meant (``inbound_transparent.py``)."""
        return "127.0.0.6/32" if self is Family.IPV4 else "::6/128"

    @property
    def version(self) -> int:
        """Of IP."""
        return 4 if self is Family.IPV4 else 6


class Table(Enum):
    """Of the kernel's."""

    NAT = "nat"
    MANGLE = "mangle"
    RAW = "raw"


class InterceptionMode(Enum):
    """sidecar.istio.io/interceptionMode: how connections to an application are led to the port before it. TPROXY leaves both of
    their addresses as they were, and the application sees its client's; it takes CAP_NET_ADMIN."""

    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"


class WrongInterception(ValueError):
    """These settings cannot be rules. The text says why."""


@dataclass(frozen=True, slots=True)
class Interception:
    """What is led to the proxy.

    ``outbound_port``: where the proxy takes what the application sends, None: nowhere. ``inbound``: for ports of the
    application (``ALL_PORTS``: for all but ``not_inbound``) the port of the proxy that is before it. ``users`` and ``groups``:
    numbers of those that the proxy runs as. The others are those of the annotations
    traffic.sidecar.istio.io/includeOutboundIPRanges (None: all of them), excludeOutboundIPRanges, includeOutboundPorts (these,
    whatever their address) and excludeOutboundPorts. ``dns``: which queries of DNS are led to it.

    Raises ``WrongInterception``.
    """

    outbound_port: int | None = OUTBOUND_PORT
    inbound: Mapping[int, int] = field(default_factory=dict)
    users: Sequence[int] = (USER,)
    groups: Sequence[int] = ()
    networks: Sequence[Network] | None = None
    not_networks: Sequence[Network] = ()
    ports: Sequence[int] = ()
    not_ports: Sequence[int] = ()
    not_inbound: Sequence[int] = ()
    mode: InterceptionMode = InterceptionMode.REDIRECT
    dns: DnsCapture | None = None

    def dns_of(self, family: Family) -> DnsCapture | None:
        """What queries are led to the proxy in packets of this family, None: none."""
        return self.dns if self.dns is not None and self.dns.are_for(family.version) else None

    def needs(self, table: Table, family: Family) -> bool:
        """Whether there are rules of this table."""
        if table is Table.MANGLE:
            return self.tproxy
        return table is Table.NAT or self.dns_of(family) is not None

    @property
    def tproxy(self) -> bool:
        """Whether what comes in keeps its addresses."""
        return self.mode is InterceptionMode.TPROXY and bool(self.inbound)

    @property
    def owners(self) -> Sequence[str]:
        """How the proxy's own connections are told apart."""
        users = (f"--uid-owner {user}" for user in self.users)
        return [*users, *(f"--gid-owner {group}" for group in self.groups)]

    def __post_init__(self) -> None:
        if self.outbound_port is None and not self.inbound and self.dns is None:
            raise WrongInterception("nothing is led to the proxy: name an outbound port, an inbound one, or both")
        if not (self.users or self.groups):
            raise WrongInterception(
                "the proxy's own connections would be led to it again: name the user or group that it runs as"
            )
        both = sorted(set(self.ports) & set(self.not_ports))
        if both:
            raise WrongInterception(f"port {both[0]} is both included and excluded")
        if self.not_inbound and ALL_PORTS not in self.inbound:
            raise WrongInterception("inbound ports are excluded of all of them: lead '*' to the proxy")
        for port, to in self.inbound.items():
            which = f"port {port}" if port else "'*'"
            if to in self.inbound:
                raise WrongInterception(
                    f"{which} leads to {to}, which leads on to {self.inbound[to]}: the proxy would be before itself"
                )
            if to == self.outbound_port:
                raise WrongInterception(f"{which} leads to {to}, where the proxy takes what the application sends")


def restored(
    wanted: Interception,
    family: Family,
    jumps: Sequence[str] = (),
    table: Table = Table.NAT,
    chains: Sequence[str] = (),
) -> str:
    """What ``iptables-restore --noflush`` makes these rules of. ``jumps`` and ``chains``: those of ours that are there already,
    each jump as often as it is."""
    dns = wanted.dns_of(family)
    if table is Table.NAT:
        inbound = () if wanted.tproxy else _inbound(wanted)
        rules = [
            *(f"{INBOUND} {rule}" for rule in inbound),
            *(f"{OUTPUT} {rule}" for rule in _outbound(wanted, family)),
            *(over_udp(dns, family.version, wanted.owners) if dns is not None else ()),
        ]
    elif table is Table.MANGLE:
        rules = list(_kept(wanted, family))
    else:
        rules = list(zones(dns, family.version, wanted.owners)) if dns is not None else []
    needed = _chains(table, dns is not None)
    old = [chain for chain in chains if chain not in needed]
    return "\n".join(
        [
            f"*{table.value}",
            *(f":{chain} - [0:0]" for chain in needed),  # made, or emptied
            *(f"-D {jump}" for jump in jumps),
            *(f"-F {chain}" for chain in old),
            *(f"-X {chain}" for chain in old),
            *(f"-A {rule}" for rule in rules),
            *(f"-A {jump}" for jump in _jumps(wanted, table, dns is not None)),
            "COMMIT",
            "",
        ]
    )


def removed(jumps: Sequence[str], chains: Sequence[str] = CHAINS[:2], table: Table = Table.NAT) -> str:
    """What takes them away: these jumps and these chains of ours, which are there."""
    return "\n".join(
        [
            f"*{table.value}",
            *(f"-D {jump}" for jump in jumps),
            *(f"-F {chain}" for chain in chains),
            *(f"-X {chain}" for chain in chains),
            "COMMIT",
            "",
        ]
    )


def _chains(table: Table, dns: bool) -> Sequence[str]:
    """Those that rules need."""
    if table is Table.NAT:
        return (OUTPUT, INBOUND, DNS) if dns else (OUTPUT, INBOUND)
    return (OUTPUT, INBOUND, DIVERT) if table is Table.MANGLE else (DNS, DNS_IN)


def _jumps(wanted: Interception, table: Table, dns: bool) -> Iterator[str]:
    if table is Table.RAW:
        yield from DNS_JUMPS
        return
    if wanted.inbound and (table is Table.MANGLE or not wanted.tproxy):
        yield JUMPS[0]
    yield JUMPS[1]
    if dns and table is Table.NAT:
        yield DNS_JUMPS[0]


def _inbound(wanted: Interception) -> Iterator[str]:
    for port in wanted.not_inbound:
        yield f"-p tcp --dport {port} -j RETURN"
    for port, to in _in_order(wanted.inbound):
        yield f"-p tcp {_to(port)}-j REDIRECT --to-ports {to}"


def _kept(wanted: Interception, family: Family) -> Iterator[str]:
    """TPROXY: what comes in goes to the proxy with its addresses as they are, and so does what the application answers to a
    connection that the proxy has made in its client's name. The routes of ``ROUTES`` bring it to this machine."""
    # from the proxy to the application: what the application sends back gets the same mark
    yield f"{INBOUND} -p tcp -m mark --mark {MARK} -j CONNMARK --save-mark"
    yield f"{INBOUND} -p tcp -m mark --mark {MARK} -j RETURN"
    yield f"{INBOUND} -s {family.to_application} -i lo -p tcp -j RETURN"
    # processes that talk to each other on this machine; not the proxy, of a call of the application to its own service
    yield f"{INBOUND} -i lo -p tcp -m mark ! --mark {OWN_MARK} -j RETURN"
    for port in wanted.not_inbound:
        yield f"{INBOUND} -p tcp --dport {port} -j RETURN"
    for port, to in _in_order(wanted.inbound):
        yield f"{INBOUND} -p tcp {_to(port)}-m conntrack --ctstate RELATED,ESTABLISHED -j {DIVERT}"
        yield (
            f"{INBOUND} ! -d {family.loopback} -p tcp {_to(port)}-j TPROXY --on-port {to} --tproxy-mark {MARK}/0xffffffff"
        )
    yield f"{DIVERT} -j MARK --set-mark {MARK}"
    yield f"{DIVERT} -j ACCEPT"
    yield f"{OUTPUT} -o lo -p tcp -m mark --mark {MARK} -j RETURN"
    for owner in wanted.owners:
        yield f"{OUTPUT} ! -d {family.loopback} -o lo -p tcp -m owner {owner} -j MARK --set-mark {OWN_MARK}"
    yield f"{OUTPUT} -p tcp -m connmark --mark {MARK} -j CONNMARK --restore-mark"


def _outbound(wanted: Interception, family: Family) -> Iterator[str]:
    """Of what processes of this machine send; the first that fits decides."""
    if wanted.inbound:
        yield f"-s {family.to_application} -o lo -j RETURN"
    if wanted.tproxy:
        yield f"-o lo -m mark --mark {MARK} -j RETURN"
    for port in wanted.not_ports:
        yield f"-p tcp --dport {port} -j RETURN"
    owners, dns = wanted.owners, wanted.dns_of(family)
    # the application has called a service that it is an endpoint of: the proxy connects to this machine by its address, and
    # that is inbound, as from elsewhere
    for owner in owners:
        for port in wanted.not_inbound:
            yield f"-o lo -p tcp --dport {port} -m owner {owner} -j RETURN"
        for port, to in _in_order(wanted.inbound):
            # a resolver at this machine's own address is none of the application's ports
            which = f"! --dport {PORT} " if dns is not None and port == ALL_PORTS else _to(port)
            yield f"! -d {family.loopback} -o lo -p tcp {which}-m owner {owner} -j REDIRECT --to-ports {to}"
    for owner in owners:
        yield f"-m owner {owner} -j RETURN"
    if dns is not None:
        yield from over_tcp(dns, family.version)  # also to a resolver of this machine
    # processes that talk to each other on this machine: by localhost, or by its own address
    yield "-o lo -j RETURN"
    yield f"-d {family.loopback} -j RETURN"
    if wanted.outbound_port is None:
        return
    for network in wanted.not_networks:
        if network.version == family.version:
            yield f"-d {network} -j RETURN"
    proxy = f"-j REDIRECT --to-ports {wanted.outbound_port}"
    for port in wanted.ports:
        yield f"-p tcp --dport {port} {proxy}"
    if wanted.networks is None:
        yield f"-p tcp {proxy}"
        return
    for network in wanted.networks:
        if network.version == family.version:
            yield f"-d {network} -p tcp {proxy}"


def _in_order(inbound: Mapping[int, int]) -> Sequence[tuple[int, int]]:
    """What is for all ports comes last."""
    return sorted(inbound.items(), key=lambda pair: pair[0] == ALL_PORTS)


def _to(port: int) -> str:
    return f"--dport {port} " if port != ALL_PORTS else ""


def networks(text: str) -> Sequence[Network] | None:
    """Of ``10.0.0.0/8,fd00::/8``; ``*``: None, all of them. Raises ``WrongInterception``."""
    if text.strip() == "*":
        return None
    found: list[Network] = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(each))
        except ValueError as error:
            raise WrongInterception(f"{each} is not a network such as 10.0.0.0/8: {error}") from None
    return found


def resolvers(text: str) -> Sequence[Address] | None:
    """Of ``10.96.0.10,fd00::a``; ``*``: None, all of them. Raises ``WrongInterception``."""
    if text.strip() == "*":
        return None
    found: list[Address] = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_address(each.partition("%")[0]))
        except ValueError:
            raise WrongInterception(f"{each} is not the address of a resolver, such as 10.96.0.10") from None
    return found


def ports(text: str) -> Sequence[int]:
    """Of ``25,3306``. Raises ``WrongInterception``."""
    return [_port(each) for each in filter(None, (part.strip() for part in text.split(",")))]


def led(texts: Sequence[str]) -> Mapping[int, int]:
    """Of ``8080:15006``: the application's port (``*``: all of them), and the proxy's. Raises ``WrongInterception``."""
    found: dict[int, int] = {}
    for text in texts:
        port, colon, to = text.partition(":")
        if not colon:
            raise WrongInterception(f"{text} is not PORT:PROXY_PORT, such as 8080:15006")
        number = ALL_PORTS if port.strip() == "*" else _port(port)
        if number in found:
            raise WrongInterception(f"port {port} leads to two ports of the proxy")
        found[number] = _port(to)
    return found


def _port(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= MAX_PORT):
        raise WrongInterception(f"{text or 'an empty text'} is not a port from 1 to {MAX_PORT}")
    return int(text)
