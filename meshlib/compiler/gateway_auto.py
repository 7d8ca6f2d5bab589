"""AUTO_PASSTHROUGH: a server that lets mTLS of the mesh through to any service whose host it lists, by the name that sidecars
of other networks ask for: ``outbound_.PORT_.SUBSET_.HOST``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.mesh_tls import ISTIO
from meshlib.pace import take_turns
from meshlib.registry.names import is_within

if TYPE_CHECKING:
    from meshlib.compiler.destinations import Destinations
    from meshlib.compiler.gateway_servers import OneServer
    from meshlib.compiler.routes import Destination
    from meshlib.registry.service import Service, ServicePort

ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""One of which a client offers that speaks mTLS of the mesh; nobody here could ask for its certificate."""


def passed_through(
    server: OneServer, services: Iterable[tuple[Service, Sequence[ServicePort]]], destinations: Destinations
) -> Iterator[tuple[str, Destination]]:
    """The server name and where it leads, of each service of the mesh, port and subset."""
    allowed = [host for _, host in server.hosts]
    for service, ports in services:
        take_turns()
        if service.external or service.alias or not any(is_within(service.host, host) for host in allowed):
            continue
        rule = destinations.rule_of(service.host)
        for port in ports:
            if port.protocol == "udp":
                continue
            for subset in ("", *(rule.subsets if rule is not None else ())):
                found = destinations.of_service(service, subset, port.number, f"host {service.host}")
                if found.cluster:
                    name = f"outbound_.{port.number}_.{subset}_.{service.host}"
                    yield (
                        name,
                        replace(
                            found, cluster=_opaque(name, found.cluster, destinations), response_ops=(), request_ops=()
                        ),
                    )


def _opaque(name: str, key: str, destinations: Destinations) -> str:
    """The same cluster for TLS that has begun already: of endpoints that take it, and without any of ours."""
    cluster = destinations.clusters[key]
    takers = tuple(endpoint for endpoint in cluster.endpoints if endpoint.tls_mode == ISTIO)
    destinations.clusters[name] = replace(
        cluster,
        key=name,
        endpoints=takers,
        placement=cluster.placement if len(takers) == len(cluster.endpoints) else None,
        tls=None,
        auto_mtls=None,
        mutual=frozenset(),
        refusal="",
        why_plain="the TLS of its clients passes through",
    )
    return name
