"""The services that a workload sees, one a host, as a name table has them (``proxy/dns_names.py``): made when they are asked
for, of what is kept anyhow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from meshlib.compiler.sidecars import WHOLE_MESH
from meshlib.registry.names import DOMAIN
from meshlib.registry.registry import Registry

if TYPE_CHECKING:
    from meshlib.compiler.sidecars import EgressListener
    from meshlib.registry.service import Service


@dataclass(frozen=True, slots=True, eq=False)
class VisibleHosts:
    """Of a client of ``namespace``, through these egress listeners. Never changed."""

    registry: Registry = field(default_factory=lambda: Registry({}, []))
    listeners: tuple[EgressListener, ...] = WHOLE_MESH
    namespace: str = "default"
    domain: str = DOMAIN

    def of(self, registry: Registry) -> VisibleHosts:
        """The same of another registry."""
        return self if registry is self.registry else replace(self, registry=registry)

    def services(self) -> Sequence[Service]:
        """What some listener shows; of one host what the first shows. Services that only a VirtualService leads to are not
        there: istiod's name table does without them, too."""
        found: dict[str, Service] = {}
        for listener in self.listeners:
            for service in self.registry.visible(self.namespace, _imported_by(listener)):
                found.setdefault(service.host, service)
        return list(found.values())


def _imported_by(listener: EgressListener) -> Callable[[Service], bool] | None:
    if listener.imports is None:
        return None
    return lambda service: bool(listener.ports_of(service.namespace, service.host, service.ports))
