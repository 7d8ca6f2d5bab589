"""ServiceEntries with their endpoints: inline, selected, or the hosts themselves through DNS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from meshlib.registry.names import is_ip
from meshlib.registry.service import NO_LABELS, PROTOCOLS, SNIFFED, Endpoint, Service, ServicePort
from meshlib.registry.workloads import WorkloadInstance, Workloads, from_workload_entry

if TYPE_CHECKING:
    from meshlib.resources.service_entry import ServiceEntry


ALLOCATES = "networking.istio.io/enable-autoallocate-ip"
"""Istio's, of the label by which a ServiceEntry gets no addresses."""


def services_of(resource: ServiceEntry, workloads: Workloads) -> Iterator[Service]:
    """One service a host."""
    spec = resource.spec
    ports = tuple(ServicePort(p.number, p.name, port_protocol(p.protocol), p.target_port) for p in spec.ports or ())
    resolution = (spec.resolution or "NONE").lower()
    instances = instances_of(resource, workloads)
    selector = spec.workload_selector.labels or {} if spec.workload_selector is not None else {}
    alike = (
        resolution,
        frozenset(resource.labels.items()),
        frozenset(selector.items()),
        frozenset(spec.export_to or ()),
    )
    written = spec.endpoints or spec.workload_selector is not None
    for position, host in enumerate(spec.hosts):
        name = host.lower().removesuffix(".")  # a single label stays as it is: it is not the short name of a Service
        itself = "" if written else name
        yield Service(
            host=name,
            namespace=resource.namespace,
            kind="serviceentry",
            ports=ports,
            endpoints={p.number: tuple(_endpoints(itself, p, instances, resolution)) for p in ports},
            resource=resource.id,
            age_key=resource.age_key,
            position=position,
            resolution=resolution,
            addresses=tuple(map(_address, spec.addresses or ())),
            export_to=tuple(spec.export_to or ()),
            external=(spec.location or "MESH_EXTERNAL") == "MESH_EXTERNAL",
            subject_alt_names=tuple(spec.subject_alt_names or ()),
            alike=alike,
            automatic=_automatic(resource, host, resolution),
            why_empty=f"{resource.id} {'selects no Pod or WorkloadEntry' if selector else 'lists none'}",
        )


def _automatic(resource: ServiceEntry, host: str, resolution: str) -> tuple[str, ...] | None:
    """As istiod's allocator has it: for one without addresses, unless connections go where they were meant to (NONE), it is
    labelled otherwise, or the host is a wildcard whose names are not looked up as they are called."""
    if resource.spec.addresses or resolution == "none" or resource.labels.get(ALLOCATES, "").lower() == "false":
        return None
    if host.startswith("*") and resolution != "dynamic_dns":
        return None
    status = resource.status
    given = status.get("addresses") if isinstance(status, Mapping) else None
    return tuple(
        str(each["value"])
        for each in (given if isinstance(given, list) else ())
        if isinstance(each, Mapping) and each.get("host") == host and is_ip(str(each.get("value")))
    )


def port_protocol(declared: str | None) -> str:
    """The protocol of a ServiceEntry's port; a name that Istio does not know, or none, makes it sniffed."""
    name = (declared or "").lower()
    return name if name in PROTOCOLS else SNIFFED


def instances_of(resource: ServiceEntry, workloads: Workloads) -> list[WorkloadInstance]:
    """The workloads behind a ServiceEntry: those its selector finds, else the ones written into it."""
    spec = resource.spec
    if spec.workload_selector is not None:
        selected = workloads.select(resource.namespace, spec.workload_selector.labels or {})
        return selected if (spec.resolution or "").startswith("DNS") else [i for i in selected if not i.for_names]
    inline = (from_workload_entry(e, resource.name, resource.namespace, NO_LABELS) for e in spec.endpoints or ())
    return [instance for instance in inline if instance is not None]


def _endpoints(host: str, port: ServicePort, instances: list[WorkloadInstance], resolution: str) -> Iterator[Endpoint]:
    if resolution in ("none", "dynamic_dns"):
        return  # the address is the one the caller dials
    if not instances:
        if resolution.startswith("dns") and host and not host.startswith("*"):
            yield Endpoint(host, _number(port), NO_LABELS)
        return
    for instance in instances:
        yield Endpoint(
            instance.address,
            _number(port, instance),
            instance.labels,
            weight=instance.weight,
            locality=instance.locality,
            network=instance.network,
            service_account=instance.service_account,
            healthy=instance.healthy,
            workload=instance.workload,
            tls_mode=instance.tls_mode,
            pod=instance.name if instance.POD else "",
        )


def _address(text: str) -> str:
    """A network of one address is that address."""
    address, slash, length = text.partition("/")
    return address if slash and length == ("128" if ":" in address else "32") else text


def _number(port: ServicePort, instance: WorkloadInstance | None = None) -> int:
    """The endpoint's own mapping by port name, else targetPort, else the service port (a unix socket has none)."""
    if instance is not None:
        if instance.address.startswith("unix:"):
            return 0
        if not instance.POD and port.name in instance.ports:
            return instance.ports[port.name]
    return port.target_port if isinstance(port.target_port, int) else port.number
