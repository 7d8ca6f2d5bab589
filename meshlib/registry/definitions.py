"""Several definitions of one host: what each is made of when they share their endpoints, and which of them a client sees.

A host may be defined by a Kubernetes Service and by any number of ServiceEntries, in several namespaces. Those of one namespace
pool their endpoints. A client sees the definitions of one namespace: of its own, else the Kubernetes Service's, else the oldest
one's; there the oldest (or the Service) makes the clusters, and others add ports (istiod's sidecar scope and endpoint shards).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from meshlib.registry.names import is_ip
from meshlib.registry.service import Endpoint, Service, ServicePort


def pooled(definitions: Sequence[Service]) -> list[Service]:
    """The same definitions, each with the endpoints of all those of its namespace. Oldest first."""
    namespaces: dict[str, list[Service]] = {}
    for service in definitions:
        namespaces.setdefault(service.namespace, []).append(service)
    return [
        replace(service, endpoints=_endpoints(service, same)) if len(same) > 1 else service
        for service in definitions
        for same in (namespaces[service.namespace],)
    ]


def _endpoints(service: Service, same: Sequence[Service]) -> dict[int, tuple[Endpoint, ...]]:
    """Ports of different definitions are one where they have one name; where endpoints are names, one number, as istiod
    writes those into the cluster."""
    if service.headless or service.resolution in ("none", "dynamic_dns", "alias"):
        return dict(service.endpoints)
    found: dict[int, tuple[Endpoint, ...]] = {}
    for port in service.ports:
        if service.by_name:
            there = list(_by_number(port, same))
        else:
            there = [e for e in _by_port_name(port, same) if is_ip(e.address) or e.address.startswith("unix:")]
        unique = {endpoint.key: endpoint for endpoint in reversed(there)}
        found[port.number] = tuple(sorted(unique.values(), key=lambda e: e.key))
    return found


def _by_port_name(port: ServicePort, same: Sequence[Service]) -> Iterator[Endpoint]:
    for other in same:
        for theirs in other.ports:
            if theirs.name == port.name:
                yield from other.endpoints.get(theirs.number, ())


def _by_number(port: ServicePort, same: Sequence[Service]) -> Iterator[Endpoint]:
    """Of entries with DNS_ROUND_ROBIN only the first that has the port counts: there is place for one name."""
    taken = False
    for other in same:
        if other.kind == "kubernetes":
            yield from _by_port_name(port, (other,))
            continue
        there = other.endpoints.get(port.number, ())
        if there and not (taken and other.resolution == "dns_round_robin"):
            taken = True
            yield from there


def as_seen(definitions: Sequence[Service], client_namespace: str) -> Service | None:
    """What clients of a namespace see of a host, None when no definition is exported to them. ``definitions`` are pooled and
    the oldest comes first."""
    seen = [service for service in definitions if service.visible_from(client_namespace)]
    if len(seen) < 2:
        return seen[0] if seen else None
    seen.sort(key=lambda service: service.is_public)  # what is for some namespaces only comes first
    namespace = _namespace(seen, client_namespace)
    return _merged([service for service in seen if service.namespace == namespace])


def _namespace(seen: Sequence[Service], client: str) -> str:
    chosen = seen[0]
    for service in seen[1:]:
        first_kubernetes = chosen.kind != "kubernetes" and service.kind == "kubernetes"
        if service.namespace == client or (first_kubernetes and chosen.namespace != client):
            chosen = service
    return chosen.namespace


def _merged(same: Sequence[Service]) -> Service:
    """Definitions of one namespace as one. Ports of all have virtual hosts, of each number as the last one has it; clusters are
    made of the ports of the first, and of those that are like it in all but their ports."""
    main = next((service for service in same if service.kind == "kubernetes"), same[0])
    if len(same) == 1:
        return main
    ports = {port.number: port for service in same for port in service.ports}
    last = {port.number: service for service in same for port in service.ports}
    clusters = {port.number: port for port in main.ports} if not main.alias else {}
    endpoints = dict(main.endpoints)
    if main.kind != "kubernetes":
        for service in same:
            if service.alike == main.alike:
                for port in service.ports:
                    if port.number not in clusters:
                        clusters[port.number] = port
                        endpoints[port.number] = service.endpoints.get(port.number, ())
    else:
        # an ExternalName has no clusters, and a port that only an entry has is not its own
        endpoints |= {port.number: () for service in same if not service.alias for port in service.ports if main.alias}
    addresses = dict.fromkeys(address for service in same for address in service.addresses)
    return replace(
        main,
        ports=tuple(ports.values()),
        cluster_ports=tuple(clusters.values()),
        endpoints=endpoints,
        addresses=tuple(addresses),
        alias_ports=frozenset(number for number, service in last.items() if service.alias) if main.alias else None,
    )
