"""What a client sees of the mesh: for each egress listener of its Sidecar (without one there is a single listener, which shows
everything) the services with their ports and the VirtualServices, and the services that clusters are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.claims import Claims, VisibleVirtualServices
from meshlib.compiler.delegates import Delegates
from meshlib.compiler.sidecars import WHOLE_MESH, EgressListener, SidecarScope
from meshlib.pace import take_turns
from meshlib.registry.names import resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.registry.registry import Registry
    from meshlib.registry.service import Service, ServicePort
    from meshlib.resources.virtual_service import Destination, VirtualService

ANY_PORT = 0


class Seen:
    """What one egress listener shows. ``served``: by port and host, the services that have the port."""

    def __init__(
        self, listener: EgressListener, claims: Claims, services: list[tuple[Service, Sequence[ServicePort]]]
    ) -> None:
        self.listener = listener
        self.claims = claims
        self.services = services
        self.served: dict[int, dict[str, tuple[Service, ServicePort]]] = {}
        for service, ports in services:
            take_turns()
            for port in ports:
                self.served.setdefault(port.number, {})[service.host] = (service, port)


class Visible:
    """Everything that the client of ``workload`` sees."""

    def __init__(
        self,
        registry: Registry,
        scope: SidecarScope,
        virtual_services: Sequence[VirtualService],
        delegates: Delegates,
        workload: Workload,
        domain: str,
    ) -> None:
        self._scope = scope
        self._delegates = delegates
        self._client = workload.namespace
        self._domain = domain
        self._whole_mesh = scope.listeners == WHOLE_MESH
        visible = VisibleVirtualServices(virtual_services, self._client, domain)
        self._claims = [visible.imported(listener.sees) for listener in scope.listeners]
        self._routed_to: dict[str, list[tuple[EgressListener, set[int]]]] | None = None
        self.seen: list[Seen] = []
        self._shown: dict[str, Service] = {}
        self.renew(registry)

    def renew(self, registry: Registry) -> None:
        """The same with the services of another registry."""
        self._registry = registry
        self.seen = [
            Seen(listener, claims, list(self._services(listener)))
            for listener, claims in zip(self._scope.listeners, self._claims, strict=True)
        ]
        self._shown.clear()
        if not self._whole_mesh:
            for seen in self.seen:
                for service, ports in seen.services:
                    self._show(service, ports)

    def on_port(self, port: int) -> Seen | None:
        """What makes the virtual hosts of a port; None: nothing does."""
        return next((seen for seen in self.seen if seen.listener.port in (0, port)), None)

    def claims(self) -> Iterator[Claims]:
        """The claims of each listener."""
        return iter(self._claims)

    def find(self, host: str) -> Service | None:
        """The service that a cluster of this very host is made of: what some listener shows, else what a VirtualService in
        sight sends to, of the client's own namespace whomever it is exported to."""
        shown = self._registry.lookup(host, self._client) if self._whole_mesh else self._shown.get(host)
        if shown is not None and shown.host == host:
            return shown
        routed_to = self._routes()
        if host not in routed_to:
            return None
        service = self._registry.of_namespace(host, self._client) or self._registry.lookup(host, self._client)
        if service is None or service.host != host:
            return None
        found: Service | None = None
        for listener, wanted in routed_to[host]:
            ports = [
                p
                for p in service.ports
                if (p.number == listener.port if listener.one_port else ANY_PORT in wanted or p.number in wanted)
            ]
            found = _with_ports(service, [*(found.ports if found is not None else ()), *ports]) if ports else found
        return found

    def _services(self, listener: EgressListener) -> Iterator[tuple[Service, Sequence[ServicePort]]]:
        if listener.imports is None:
            for service in self._registry.visible(self._client):
                yield service, service.ports
            return
        for service in self._registry.visible(
            self._client, lambda s: bool(listener.ports_of(s.namespace, s.host, s.ports))
        ):
            yield service, listener.ports_of(service.namespace, service.host, service.ports)

    def _show(self, service: Service, ports: Sequence[ServicePort]) -> None:
        """Listeners that show different ports of one service show them together."""
        there = self._shown.get(service.host)
        if there is None:
            self._shown[service.host] = _with_ports(service, ports)
        elif there.namespace == service.namespace:
            self._shown[service.host] = _with_ports(service, [*there.ports, *ports])

    def _routes(self) -> dict[str, list[tuple[EgressListener, set[int]]]]:
        """Hosts that VirtualServices in sight send to, with the ports they name (``ANY_PORT``: none), by listener."""
        if self._routed_to is None:
            self._routed_to = {}
            for listener, claims in zip(self._scope.listeners, self._claims, strict=True):
                found: dict[str, set[int]] = {}
                for service in claims.services:
                    for model, namespace in self._destinations(service):
                        number = model.port.number if model.port is not None and model.port.number else ANY_PORT
                        found.setdefault(resolve(model.host, namespace, self._domain), set()).add(number)
                for host, ports in found.items():
                    self._routed_to.setdefault(host, []).append((listener, ports))
        return self._routed_to

    def _destinations(self, service: VirtualService) -> Iterator[tuple[Destination, str]]:
        before: Destination | None = None
        for route in self._delegates.routes(service):
            take_turns()
            sources = {m.source_namespace for m in route.model.match or () if m.source_namespace}
            if sources and self._client not in sources:
                continue
            for model in route.model.destinations():
                if model is not before:  # mostly one service is sent to, rule after rule
                    before = model
                    yield model, route.namespace
        for rule in (*(service.spec.tls or ()), *(service.spec.tcp or ())):
            yield from ((d.destination, service.namespace) for d in rule.route or ())


def _with_ports(service: Service, ports: Sequence[ServicePort]) -> Service:
    """The service with these of its ports only."""
    numbers = {p.number for p in ports}
    kept = tuple(p for p in service.ports if p.number in numbers)
    return service if len(kept) == len(service.ports) else replace(service, ports=kept)
