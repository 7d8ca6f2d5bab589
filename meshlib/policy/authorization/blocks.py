"""Addresses and the blocks that they are in (``ipBlocks``, ``remoteIpBlocks``, ``source.ip``, ``destination.ip``)."""

from __future__ import annotations

import ipaddress

from meshlib.policy.authorization.patterns import Entries

_NUMBERS = {str(number): number for number in range(256)}
_MAPPED = 0xFFFF << 32
"""``::ffff:0.0.0.0``: what an IPv4 peer is called on a socket that takes both."""


class UnknownValue(Exception):
    """The value is none that a rule could be judged by."""


class Blocks:
    """Which bits have a block that an IP is in: for each length of prefix, a look-up of the address cut to it.

    An IPv4 address in IPv6's clothes is an IPv6 one, as Envoy reads it in X-Forwarded-For (``client_address`` has taken the
    clothes off those of sockets, as Envoy does); it is both
    for bits that are not in ``certain``."""

    __slots__ = ("_tables", "certain")

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self.certain = certain
        tables: dict[tuple[int, int], dict[int, int]] = {}
        for bits, values in entries:
            for value in values:
                network = ipaddress.ip_network(value, strict=False)
                shift = network.max_prefixlen - network.prefixlen
                table = tables.setdefault((network.version, shift), {})
                start = int(network.network_address) >> shift
                table[start] = table.get(start, 0) | bits
        self._tables = {
            of: tuple((shift, table.get) for (version, shift), table in tables.items() if version == of)
            for of in (4, 6)
        }

    def __call__(self, ip: str) -> int:
        """The bits. Raises ``UnknownValue`` for text that is not an IP."""
        parts = ip.split(".")
        if len(parts) == 4:
            a, b, c, d = [_NUMBERS.get(part, -1) for part in parts]
            if a >= 0 and b >= 0 and c >= 0 and d >= 0:
                return self._of(4, a << 24 | b << 16 | c << 8 | d)
        try:
            address = ipaddress.ip_address(ip.partition("%")[0])
        except ValueError:
            raise UnknownValue(ip) from None
        version, number = address.version, int(address)
        if version == 6 and number >> 32 == _MAPPED >> 32:
            bits = self._of(6, number)
            return bits | (self._of(4, number & 0xFFFFFFFF) & ~self.certain)
        return self._of(version, number)

    def _of(self, version: int, number: int) -> int:
        found = 0
        for shift, get in self._tables[version]:
            found |= get(number >> shift, 0)
        return found
