"""Gateways: selectors that find no workload, and ports that no Service leads to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshlib.analysis.codes import NOT_FOUND, PORT_NOT_ON_SERVICE
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import INGRESS, INGRESS_LABELS, INGRESS_PORTS, Index, Workload, selector_text
from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.pace import take_turns
from meshlib.resources.typed import GATEWAY


def workloads_and_ports(index: Index) -> Iterator[Finding]:
    """Selectors that find no workload, and ports that the Service before the workload does not have."""
    exposed: dict[str, set[int]] = {}
    for gateway in index.analyzed(GATEWAY):
        take_turns()
        selector = gateway.spec.selector or {}
        found = index.runs(gateway)
        if not found:
            first = next(iter(sorted(selector)), "")
            loc: Loc = ("spec", "selector", first)
            message = f"no workload has the labels {selector_text(selector)} of this gateway's selector"
            yield Finding(NOT_FOUND, gateway, loc, message, _selector_hint(index, selector))
            continue
        text = selector_text(selector)
        if text not in exposed:
            exposed[text] = _ports(index, found)
        for position, server in enumerate(gateway.spec.servers or ()):
            if server.port is None or not server.port.number or server.port.number in exposed[text]:
                continue
            ports = ", ".join(str(port) for port in sorted(exposed[text]))
            yield Finding(
                PORT_NOT_ON_SERVICE,
                gateway,
                ("spec", "servers", position, "port", "number"),
                f"port {server.port.number} is not a port of a Service before the workloads of {text or 'any label'}",
                f"ports there: {ports}" if ports else "no Service selects these workloads",
            )


def _selector_hint(index: Index, selector: Mapping[str, str]) -> str:
    for key, value in sorted(selector.items()):
        values = [*index.workloads.values_of(key), *(v for k, v in INGRESS_LABELS.items() if k == key)]
        if value not in values:
            near = Nearest(values).of(value)
            return did_you_mean(f"{key}: {near}") if near else f"{key} is {', '.join(values[:10])}" if values else ""
    return ""


def _ports(index: Index, found: list[Workload]) -> set[int]:
    """The ports, and their targets, of all Services that select one of the workloads."""
    ports: set[int] = set()
    if INGRESS in found:
        ports.update(INGRESS_PORTS)
    for workload in found:
        for service in index.services_of(workload):
            for port in service.spec.ports or ():
                if (port.protocol or "TCP").upper() != "TCP":
                    continue
                target = port.target_port
                if isinstance(target, str) and target.isdigit():
                    target = int(target)
                ports.add(port.port)
                if isinstance(target, int) and target:
                    ports.add(target)
    return ports
