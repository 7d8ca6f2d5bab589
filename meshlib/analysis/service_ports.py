"""Ports of Services whose name does not tell their protocol, and Services that share workloads and disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from meshlib.analysis.codes import DEPLOYMENT_PORTS, DEPLOYMENT_PROTOCOLS, EXTERNAL_NAME_PORT, PORT_NAME
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import DEPLOYMENT, SERVICE

if TYPE_CHECKING:
    from meshlib.resources.kubernetes import ServicePort

_PROTOCOLS = frozenset(("tcp", "udp", "grpc", "http", "http_proxy", "http2", "https", "tls", "mongo", "redis", "mysql"))
_APP_PROTOCOLS = frozenset(("kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"))
_WELL_KNOWN = frozenset((25, 53, 3306, 27017))
_INJECT = "sidecar.istio.io/inject"
_MANAGED = "gateway.istio.io/managed"
_CONTROLLERS = ("istio.io-gateway-controller", "istio.io-mesh-controller", "istio.io-eastwest-controller")


def port_names(index: Index) -> Iterator[Finding]:
    """Names without a protocol that Istio knows: it guesses from the first bytes then."""
    for service in index.analyzed(SERVICE):
        take_turns()
        if _of_istio(service.labels) or service.labels.get(_MANAGED) in _CONTROLLERS:
            continue
        external = service.spec.type == "ExternalName"
        for position, port in enumerate(service.spec.ports or ()):
            if _tells_protocol(port) and not (external and port.name == "tcp"):
                continue
            loc: Loc = ("spec", "ports", position, "name" if port.name else "port")
            shown = f"the name {port.name} of port {port.port}" if port.name else f"port {port.port} has no name: it"
            if external:
                message = f"{shown} may keep Istio from forwarding its traffic to the external name"
                yield Finding(EXTERNAL_NAME_PORT, service, loc, message, "name: http, or another protocol than tcp")
            else:
                message = f"{shown} does not begin with a protocol, so Istio guesses its protocol"
                hint = f"name: http-{port.name or 'x'}, or appProtocol: http"
                yield Finding(PORT_NAME, service, loc, message, hint)


def _of_istio(labels: Mapping[str, str]) -> bool:
    return "istio" in labels or labels.get("release") == "istio"


def _tells_protocol(port: ServicePort) -> bool:
    if (port.protocol or "").upper() == "UDP":
        return True
    name = port.app_protocol if port.app_protocol is not None else port.name or ""
    if port.app_protocol is not None and name in _APP_PROTOCOLS:
        return True
    lower = name.lower()
    return lower.startswith("grpc-web") or lower.partition("-")[0] in _PROTOCOLS or port.port in _WELL_KNOWN


def shared_workloads(index: Index) -> Iterator[Finding]:
    """Deployments with several Services that disagree about the protocol of a port, or lead two ports to one target."""
    for deployment in index.analyzed(DEPLOYMENT):
        take_turns()
        template = deployment.spec.template
        metadata = template.metadata if template is not None else None
        if metadata is None or not metadata.labels or deployment.labels.get(_MANAGED) == _CONTROLLERS[1]:
            continue
        if "false" in (metadata.labels.get(_INJECT), (metadata.annotations or {}).get(_INJECT)):
            continue  # not in the mesh
        protocols: dict[int, dict[str, list[str]]] = {}
        targets: dict[str, dict[int, str]] = {}
        for service in index.services_selecting(metadata.labels, deployment.namespace):
            for port in service.spec.ports or ():
                names = protocols.setdefault(port.port, {}).setdefault(port.protocol or "TCP", [])
                names.append(service.name)
                targets.setdefault(str(port.target_port or port.port), {})[port.port] = service.name
        for number, found in protocols.items():
            if len(found) > 1:
                names = sorted(name for names in found.values() for name in names)
                message = f"Services of this deployment have port {number} with different protocols: {', '.join(names)}"
                yield Finding(DEPLOYMENT_PROTOCOLS, deployment, ("metadata", "name"), message, "give one another port")
        for target, ports in targets.items():
            if len(ports) > 1:
                shown = ", ".join(f"{name} port {number}" for number, name in sorted(ports.items()))
                message = f"several ports of Services lead to port {target} of this deployment: {shown}"
                yield Finding(DEPLOYMENT_PORTS, deployment, ("metadata", "name"), message, "give them the same port")
