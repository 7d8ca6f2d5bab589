"""Which listener of a sidecar a connection arrives at, and what that means for plaintext HTTP and for TLS.

istiod makes one listener a port for HTTP (0.0.0.0), whose requests are told apart by Host, and one an address and port for
everything else: there the address that was dialled decides. A service without an address of its own that is not HTTP shares
0.0.0.0 with whoever else has the port, and its connections with them. Services come oldest first; the first that takes an
address keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.registry.service import HTTP_PROTOCOLS, PROTOCOLS, SNIFFED, Service, ServicePort

if TYPE_CHECKING:
    from meshlib.compiler.sidecars import EgressListener

ANYWHERE = "0.0.0.0"
_ALONE = frozenset(("mongo", "mysql"))
"""Servers of these speak first: Istio lets no other protocol share their listeners."""


@dataclass(slots=True)
class Listener:
    """One address and port. ``http``: plaintext HTTP is routed by rules; ``forwarded`` are the services that other
    connections may be for, with the protocol of their port, in the order of precedence."""

    protocol: str
    http: bool
    forwarded: list[tuple[Service, str]] = field(default_factory=list)
    locked: bool = False


class Listeners:
    """The outbound listeners of a client. ``seen`` pairs each egress listener with what it shows: services and their ports,
    oldest first."""

    def __init__(self, seen: Iterable[tuple[EgressListener, Iterable[tuple[Service, Sequence[ServicePort]]]]]) -> None:
        self._at: dict[tuple[str, int], Listener] = {}
        self._addressed: dict[int, dict[str, tuple[Service, Listener]]] = {}
        for egress, services in seen:
            if egress.bound:
                continue
            if not egress.port:
                for listener in self._at.values():
                    listener.locked = True
            declared = egress.protocol if egress.protocol in PROTOCOLS else SNIFFED
            for service, ports in services:
                take_turns()
                for port in ports:
                    if service.alias and port.number not in service.endpoints:
                        continue  # what it stands for has listeners
                    self._add(service, port.number, declared if egress.port else port.protocol)

    def shared(self, port: int) -> Listener | None:
        """The listener of those connections to a port whose address is no service's own."""
        return self._at.get((ANYWHERE, port))

    def addressed(self, port: int) -> Iterable[tuple[Service, Listener]]:
        """The services whose connections to a port are told by their address, and what listens there."""
        return self._addressed.get(port, {}).values()

    def _add(self, service: Service, port: int, protocol: str) -> None:
        if protocol in HTTP_PROTOCOLS:
            self._http(port, protocol)
        elif protocol != "udp":
            own = addresses(service, port)
            if not own and service.kind == "kubernetes":
                return  # a headless service without pods
            if not own and service.addresses:  # networks only: no name leads there
                if protocol == SNIFFED:
                    self._http(port, protocol)
                return
            for address in own or [ANYWHERE]:
                self._other(service, address, port, protocol)
            if own:
                self._addressed.setdefault(port, {})[service.host] = (service, self._at[own[0], port])

    def _http(self, port: int, protocol: str) -> None:
        listener = self._at.get((ANYWHERE, port))
        if listener is None:
            self._at[ANYWHERE, port] = Listener(SNIFFED, http=True)
        elif not listener.locked and listener.protocol != SNIFFED and not _stays_alone(listener, protocol):
            listener.http, listener.protocol = True, SNIFFED

    def _other(self, service: Service, address: str, port: int, protocol: str) -> None:
        listener = self._at.get((address, port))
        if listener is None:
            self._at[address, port] = Listener(protocol, protocol == SNIFFED, [(service, protocol)])
            return
        if listener.locked or _stays_alone(listener, protocol):
            return
        listener.forwarded.append((service, protocol))
        if protocol == SNIFFED and listener.protocol != SNIFFED:
            listener.http, listener.protocol = True, SNIFFED


def _stays_alone(listener: Listener, protocol: str) -> bool:
    return listener.protocol != protocol and not _ALONE.isdisjoint((listener.protocol, protocol))


def addresses(service: Service, port: int) -> list[str]:
    """What tells connections to a port of a service: its addresses, or what stands for them where the resource has none yet
    (the API server gives a Service its clusterIP) and where they are its pods'. Empty: they cannot be told from others."""
    found = [address for address in service.addresses if "/" not in address]
    if found or service.addresses:
        return found
    if service.kind == "kubernetes":
        return [f"service {service.host}"] if not service.headless or service.endpoints.get(port) else []
    return []
