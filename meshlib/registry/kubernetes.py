"""Kubernetes Services with their endpoints: from EndpointSlices, else Endpoints, else the Pods (and WorkloadEntries) that
the selector finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.policy.unsigned import unsigned
from meshlib.problems import Problem, Severity
from meshlib.registry.lack import no_endpoints
from meshlib.registry.service import PROTOCOLS, SNIFFED, Endpoint, Service, ServicePort
from meshlib.registry.slices import Slice, all_of, endpoint_of, hostname_of, named_port, pod_name
from meshlib.registry.workloads import WorkloadInstance, WorkloadKey, Workloads, selection_key

if TYPE_CHECKING:
    from meshlib.resources import kubernetes as written

_APP_PROTOCOLS = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
_WELL_KNOWN_TCP = frozenset((25, 53, 3306, 27017))
EXPORT_TO = "networking.istio.io/exportTo"


def port_protocol(port: written.ServicePort) -> str:
    """appProtocol, else the prefix of the port's name; a port that declares nothing Istio knows is sniffed."""
    if (port.protocol or "TCP").upper() == "UDP":
        return "udp"
    declared = port.app_protocol
    if declared in _APP_PROTOCOLS:
        return _APP_PROTOCOLS[declared]
    name = (port.name or "" if declared is None else declared).lower()
    if name.startswith("grpc-web"):
        return "grpc-web"
    prefix = name.partition("-")[0]
    if prefix in PROTOCOLS:
        return prefix
    return "tcp" if port.port in _WELL_KNOWN_TCP else SNIFFED


class KubernetesServices:
    """Builds services; ``slices`` and ``endpoints`` by (namespace, service name), ``deployments`` by namespace. Lists are of
    (place, resource), in the order of places."""

    def __init__(
        self,
        workloads: Workloads,
        slices: Mapping[tuple[str, str], list[tuple[int, written.EndpointSlice]]],
        endpoints: Mapping[tuple[str, str], written.Endpoints],
        deployments: Mapping[str, list[tuple[int, written.Deployment]]],
        domain: str,
        client_namespace: str = "default",
    ) -> None:
        self._client = client_namespace
        self._workloads = workloads
        self._slices = slices
        self._read: dict[tuple[str, str], dict[int, Slice]] = {}  # of a service, by identity of the resource
        self._endpoints = endpoints
        self._deployments = deployments
        self._domain = domain

    def sources(self, resource: written.Service) -> Sequence[object]:
        """What a service is made of beside its Service: the same objects again give the same service again."""
        slices = self._slices_of(resource)
        if slices:
            return [
                *(piece.resource for piece in slices),
                *(self._workloads.pod(*name) for name in self._pods(resource)),
            ]
        endpoints = self._endpoints.get((resource.namespace, resource.name))
        if endpoints is not None:
            return [endpoints, *(self._workloads.pod(*name) for name in self._pods(resource))]
        selector = resource.spec.selector
        return self._workloads.select(resource.namespace, selector) if selector else []

    def reads(self, resource: written.Service) -> list[WorkloadKey]:
        """The keys of the workloads whose change changes ``sources``."""
        if self._slices_of(resource) or (resource.namespace, resource.name) in self._endpoints:
            return list(self._pods(resource))
        selector = resource.spec.selector
        return [selection_key(resource.namespace, selector)] if selector else []

    def forget(self, resource: written.Service) -> None:
        """The Service is gone."""
        self._read.pop((resource.namespace, resource.name), None)

    def _slices_of(self, resource: written.Service) -> list[Slice]:
        key = (resource.namespace, resource.name)
        known = self._read.pop(key, {})
        there = self._slices.get(key)
        if not there:
            return []
        self._read[key] = {id(piece): known.get(id(piece)) or Slice(piece) for _, piece in there}
        return list(self._read[key].values())

    def _pods(self, resource: written.Service) -> Iterator[tuple[str, str]]:
        """(namespace, name) of the pods that slices, or else Endpoints, name."""
        slices = self._slices_of(resource)
        endpoints = self._endpoints.get((resource.namespace, resource.name))
        for piece in slices:
            yield from piece.pods
        if slices or endpoints is None:
            return
        for subset in endpoints.subsets or ():
            for entry in (*(subset.addresses or ()), *(subset.not_ready_addresses or ())):
                reference = entry.target_ref
                if reference is not None and reference.name:
                    yield reference.namespace or endpoints.namespace, reference.name

    def build(self, resource: written.Service, problems: list[Problem]) -> Service:
        """The service of one Service resource; ``problems`` gets what is to be said of it."""
        spec = resource.spec
        host = f"{resource.name}.{resource.namespace}.svc.{self._domain}".lower()
        ports = tuple(
            ServicePort(p.port, p.name or "", port_protocol(p), p.target_port)
            for p in spec.ports or ()
            if (p.protocol or "TCP").upper() != "UDP"
        )
        exported = (resource.metadata.annotations or {}).get(EXPORT_TO, "")
        alias = (spec.external_name or "").lower() if spec.type == "ExternalName" else ""
        found: dict[int, tuple[Endpoint, ...]]
        why_empty = ""
        if alias:
            found = {}
        else:
            found = self._find(resource, ports)
            if ports and not any(found.values()):
                why_empty = self._why_empty(resource)
                problems.append(self._empty(resource, host, ports[0].number, why_empty))
        addresses = [a for a in (spec.cluster_ips or (spec.cluster_ip,)) if a and a != "None"]
        return Service(
            host=host,
            namespace=resource.namespace,
            kind="kubernetes",
            ports=ports,
            endpoints=found,
            resource=resource.id,
            age_key=resource.age_key,
            resolution="alias" if alias else "static",
            addresses=tuple(addresses),
            export_to=tuple(e.strip() for e in exported.split(",") if e.strip()),
            headless=spec.cluster_ip == "None",
            alias=alias,
            why_empty=why_empty,
            # in a cluster the API server gives one
            automatic=() if not (addresses or alias or spec.cluster_ip == "None") else None,
        )

    def _find(self, resource: written.Service, ports: tuple[ServicePort, ...]) -> dict[int, tuple[Endpoint, ...]]:
        key = (resource.namespace, resource.name)
        not_ready_too = bool(resource.spec.publish_not_ready_addresses)
        slices = self._slices_of(resource)
        if slices:
            workloads = [[self._workloads.pod(*name) for name in piece.pods] for piece in slices]
            return {
                port.number: all_of(
                    [
                        piece.endpoints(port, not_ready_too, found)
                        for piece, found in zip(slices, workloads, strict=True)
                    ]
                )
                for port in ports
            }
        endpoints = self._endpoints.get(key)
        if endpoints is not None:
            return _by_port(ports, lambda port: self._from_endpoints(endpoints, port, not_ready_too))
        selector = resource.spec.selector
        if not selector:
            return {}
        chosen = self._workloads.select(resource.namespace, selector)
        return _by_port(ports, lambda port: _from_workloads(chosen, port, not_ready_too))

    def _from_endpoints(self, endpoints: written.Endpoints, port: ServicePort, not_ready_too: bool) -> list[Endpoint]:
        found: dict[str, Endpoint] = {}
        for subset in endpoints.subsets or ():
            number = named_port(subset.ports, port)
            if number is None:
                continue
            for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, not_ready_too)):
                for entry in addresses or ():
                    pod = self._pod(endpoints.namespace, entry.target_ref)
                    endpoint = endpoint_of(
                        entry.ip, number, pod, ready, "", hostname_of(entry), pod_name(entry.target_ref)
                    )
                    found.setdefault(endpoint.key, endpoint)
        return list(found.values())

    def _pod(self, namespace: str, reference: written.ObjectReference | None) -> WorkloadInstance | None:
        if reference is None or not reference.name:
            return None
        return self._workloads.pod(reference.namespace or namespace, reference.name)

    def _why_empty(self, resource: written.Service) -> str:
        selector = resource.spec.selector or {}
        deployments = [d.name for _, d in self._deployments.get(resource.namespace, ()) if _selects(selector, d)]
        what = f"Deployment {', '.join(deployments)} should run its pods, but " if deployments else ""
        return f"{what}no EndpointSlice, Endpoints, Pod or WorkloadEntry gives an address"

    def _empty(self, resource: written.Service, host: str, port: int, why: str) -> Problem:
        lack = no_endpoints(host, self._client, why, port=port, domain=self._domain)
        origin = resource.origin
        return Problem(
            "no-endpoints",
            Severity.NOTICE,
            origin.file,
            origin.line,
            origin.column,
            resource.id,
            lack.message,
            f"calls to it get 503 (flag UH) until there is one; {lack.remedy}",
        )


def _selects(selector: Mapping[str, str], deployment: written.Deployment) -> bool:
    template = deployment.spec.template
    labels = template.metadata.labels if template is not None and template.metadata is not None else None
    return bool(selector) and all((labels or {}).get(k) == v for k, v in selector.items())


def _by_port(
    ports: tuple[ServicePort, ...], find: Callable[[ServicePort], list[Endpoint]]
) -> dict[int, tuple[Endpoint, ...]]:
    return {port.number: tuple(find(port)) for port in ports}


def target_number(workload: WorkloadInstance, port: ServicePort) -> int | None:
    """The workload's own number of a service port; None when it does not have that (named) port."""
    target = port.target_port
    if isinstance(target, str):
        number = unsigned(target, 65535)
        if number is None:
            return workload.ports.get(target)
        target = number
    if not workload.POD and port.name in workload.ports:
        return workload.ports[port.name]
    return target if target is not None else port.number


def _from_workloads(chosen: list[WorkloadInstance], port: ServicePort, not_ready_too: bool) -> list[Endpoint]:
    found: dict[str, Endpoint] = {}
    for workload in chosen:
        number = target_number(workload, port) if not workload.for_names else None
        if number is not None:
            endpoint = endpoint_of(workload.address, number, workload, workload.healthy or not_ready_too, "")
            found.setdefault(endpoint.key, endpoint)
    return list(found.values())
