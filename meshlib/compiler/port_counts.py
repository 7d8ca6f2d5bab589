"""How many services there are on each port, by what is spoken there: so that a change of one service can be seen to be nothing
to the others, without looking at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from meshlib.compiler.listeners import addresses
from meshlib.registry.service import HTTP_PROTOCOLS, SNIFFED, Service


class PortCounts:
    """Of the services that one client sees. ``everything`` counts them by port, ``addresses`` by address."""

    def __init__(self) -> None:
        self.addresses: Counter[str] = Counter()
        self.everything: Counter[int] = Counter()
        self._http: Counter[int] = Counter()
        self._other: Counter[int] = Counter()
        self._shared: Counter[int] = Counter()

    def count(self, service: Service, one: int) -> None:
        """A service more (1) or less (-1). As ``listeners`` has it: who shares the listener of a port, and what is spoken
        there."""
        for address in service.addresses:
            self.addresses[address] += one
        for port in service.ports:
            self.everything[port.number] += one
            if not port.takes_http:
                self._other[port.number] += one
            if service.alias:
                continue  # nobody listens for it
            networks_only = service.addresses and not addresses(service, port.number)
            if port.protocol in HTTP_PROTOCOLS or (port.protocol == SNIFFED and networks_only):
                self._http[port.number] += one
            elif service.kind != "kubernetes" and not service.addresses:
                self._shared[port.number] += one

    def spoken(self, port: int) -> tuple[bool, bool]:
        """Whether HTTP is spoken there, and whether something else is."""
        return self._http[port] > 0, self._other[port] > 0

    def shared(self, port: int) -> bool:
        """Whether connections to somebody there cannot be told apart from those to others."""
        return self._shared[port] > 0

    def spoken_by(self) -> Iterator[tuple[str, Counter[int]]]:
        """ "http" and "tcp", each with its ports."""
        yield "http", self._http
        yield "tcp", self._other
