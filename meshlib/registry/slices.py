"""Endpoints as EndpointSlices and Endpoints write them. What a slice comes to is remembered: of a service of many slices, one
that changes costs what is in it, and a look at each of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import is_
from typing import TYPE_CHECKING

from meshlib.registry.service import NO_LABELS, Endpoint, ServicePort

if TYPE_CHECKING:
    from meshlib.registry.workloads import WorkloadInstance
    from meshlib.resources import kubernetes as written

PodName = tuple[str, str]
"""Namespace and name."""


class Slice:
    """One EndpointSlice. ``pods`` are the names of the pods that its entries name, in their order."""

    __slots__ = ("_made", "pods", "resource")

    def __init__(self, resource: written.EndpointSlice) -> None:
        self.resource = resource
        self.pods: tuple[PodName, ...] = tuple(
            (reference.namespace or resource.namespace, reference.name)
            for entry in resource.endpoints or ()
            if (reference := entry.target_ref) is not None and reference.name
        )
        self._made: dict[tuple[str, bool], tuple[Sequence[WorkloadInstance | None], dict[str, Endpoint]]] = {}

    def endpoints(
        self, port: ServicePort, not_ready_too: bool, found: Sequence[WorkloadInstance | None]
    ) -> dict[str, Endpoint]:
        """Those of a service port, by key; ``found``: which workload is each of ``pods`` (None: none is known). The same
        objects as the last time if ``found`` are."""
        known = self._made.get((port.name, not_ready_too))
        if known is not None and all(map(is_, known[0], found)):
            return known[1]
        made: dict[str, Endpoint] = {}
        for endpoint in self._new(named_port(self.resource.ports, port), not_ready_too, iter(found)):
            made.setdefault(endpoint.key, endpoint)
        self._made[port.name, not_ready_too] = found, made
        return made

    def _new(
        self, number: int | None, not_ready_too: bool, pods: Iterator[WorkloadInstance | None]
    ) -> Iterator[Endpoint]:
        if self.resource.address_type == "FQDN" or number is None:
            return
        for entry in self.resource.endpoints or ():
            conditions, reference = entry.conditions, entry.target_ref
            ready = conditions is None or conditions.ready is not False
            pod = next(pods) if reference is not None and reference.name else None
            for address in entry.addresses:
                yield endpoint_of(
                    address,
                    number,
                    pod,
                    ready or not_ready_too,
                    entry.zone or "",
                    hostname_of(entry),
                    pod_name(reference),
                )


def all_of(parts: Sequence[dict[str, Endpoint]]) -> tuple[Endpoint, ...]:
    """The endpoints of several slices: of one key the first."""
    found: dict[str, Endpoint] = {}
    for part in parts:
        found.update(part)
    if len(found) < sum(map(len, parts)):
        for part in reversed(parts):  # the places of keys are those of the first of each already
            found.update(part)
    return tuple(found.values())


def named_port(ports: Sequence[written.EndpointPort] | None, wanted: ServicePort) -> int | None:
    """The number that a slice or subset gives the service port: by name, or its only one."""
    ports = ports or ()
    for port in ports:
        if (port.name or "") == wanted.name and port.port is not None:
            return port.port
    if len(ports) == 1 and not ports[0].name and ports[0].port is not None:
        return ports[0].port
    return None


def hostname_of(entry: written.SliceEndpoint | written.EndpointAddress) -> str:
    """The name of the pod behind an address of an EndpointSlice or Endpoints, "" if it does not tell."""
    return entry.hostname or pod_name(entry.target_ref)


def pod_name(reference: written.ObjectReference | None) -> str:
    """The name of a reference to a Pod, "" of any other."""
    return (reference.name if reference is not None and reference.kind == "Pod" else "") or ""


def endpoint_of(
    address: str,
    port: int,
    workload: WorkloadInstance | None,
    healthy: bool,
    zone: str,
    hostname: str = "",
    pod: str = "",
) -> Endpoint:
    """``pod`` counts when there is no more of it than its name."""
    if workload is None:
        locality = f"/{zone}" if zone else ""
        return Endpoint(address, port, NO_LABELS, healthy=healthy, locality=locality, hostname=hostname, pod=pod)
    return Endpoint(
        address,
        port,
        workload.labels,
        weight=workload.weight,
        locality=workload.locality,
        network=workload.network,
        service_account=workload.service_account,
        healthy=healthy,
        workload=workload.workload,
        tls_mode=workload.tls_mode,
        hostname=hostname or workload.hostname,
        pod=workload.name if workload.POD else "",
    )
