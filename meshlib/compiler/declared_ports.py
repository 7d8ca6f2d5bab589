"""The ports of a workload that its Services declare, by the number at which traffic arrives (targetPort), and what is spoken
there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from meshlib.compiler.inbound_protection import serves
from meshlib.policy.unsigned import unsigned
from meshlib.registry.kubernetes import port_protocol

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster
    from meshlib.resources.kubernetes import Service
    from meshlib.workload import Workload


class DeclaredPort(NamedTuple):
    """A port of the workload. ``service``: the full host of the Service that declares it, and ``number`` its port there;
    ``protocol``: as of ``registry.service.ServicePort``."""

    service: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class DeclaredPorts:
    """``numbers``: by the workload's own number; ``named``: those whose targetPort is a name, of which the endpoints tell the
    number. Of several Services that have a port the oldest counts, as in Istio."""

    numbers: Mapping[int, DeclaredPort] = field(default_factory=dict)
    named: tuple[DeclaredPort, ...] = ()

    def of(self, port: int, clusters: Iterable[Cluster]) -> DeclaredPort | None:
        """What is declared of a port of the workload; ``clusters`` are all that there are."""
        found = self.numbers.get(port)
        if found is not None or not self.named:
            return found
        there = {
            (each.host, each.port)
            for each in clusters
            if not each.subset and any(endpoint.port == port for endpoint in each.endpoints)
        }
        return next((each for each in self.named if (each.service, each.number) in there), None)


NONE_DECLARED = DeclaredPorts()


def declared_ports(services: Iterable[Service], workload: Workload, domain: str) -> DeclaredPorts:
    """Of the Services that select the workload."""
    numbers: dict[int, DeclaredPort] = {}
    named: list[DeclaredPort] = []
    for service in sorted((each for each in services if serves(each, workload)), key=lambda s: s.age_key):
        host = f"{service.name}.{service.namespace}.svc.{domain}".lower()
        for port in service.spec.ports or ():
            protocol = port_protocol(port)
            if protocol == "udp":
                continue
            declared = DeclaredPort(host, port.port, protocol)
            target = port.target_port or port.port
            number = unsigned(str(target), 65535)
            if number is None:
                named.append(declared)
            else:
                numbers.setdefault(number, declared)
    return DeclaredPorts(numbers, tuple(named))
