"""The rules of a WorkloadEntry, and of the endpoints of a ServiceEntry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import UNIX, is_ip, unix_socket
from meshlib.resources.validation.hosts import domain_problem
from meshlib.resources.validation.labels import labels
from meshlib.resources.validation.protocols import port_name

if TYPE_CHECKING:
    from meshlib.resources.workload import WorkloadEntry, WorkloadEntrySpec


def refusals(resource: WorkloadEntry) -> Iterator[Notice]:
    """An address, or a name for one; ports and labels."""
    return workload(resource.spec, ("spec",))


def workload(entry: WorkloadEntrySpec, loc: Loc, service_ports: Set[str] | None = None) -> Iterator[Notice]:
    """``service_ports`` are the names that the ports of a ServiceEntry have; its addresses are not names then."""
    address = entry.address or ""
    if not address and not entry.network:
        yield refused("missing-field", loc, "an endpoint has no address", "address: 10.0.0.1")
        return
    socket = address.startswith(UNIX)
    if socket:
        yield from unix_socket(address, (*loc, "address"))
        if entry.ports:
            yield refused("ports-of-socket", (*loc, "ports"), "a unix socket has no ports", "leave ports out")
        if service_ports is not None and len(service_ports) != 1:
            yield refused(
                "ports-of-socket",
                (*loc, "address"),
                f"a unix socket is for one port, and ports has {len(service_ports)}",
                "one ServiceEntry a socket",
            )
    elif address and not is_ip(address):
        if service_ports is not None:
            yield refused(
                "resolution-static",
                (*loc, "address"),
                f"{address!r} is not an IP address",
                "resolution: DNS for names",
            )
        else:
            yield from name_or_ip(address, (*loc, "address"))
    yield from port_names(entry.ports, (*loc, "ports"), service_ports)
    yield from labels(entry.labels, (*loc, "labels"))


def name_or_ip(address: str, loc: Loc) -> Iterator[Notice]:
    """What a resolver can find, or an address."""
    problem = "" if is_ip(address) else domain_problem(address)
    if problem:
        yield refused(
            "bad-host", loc, f"{address!r} is neither a name nor an IP address: {problem}", "for example 10.0.0.1"
        )


def port_names(ports: Mapping[str, int] | None, loc: Loc, service_ports: Set[str] | None) -> Iterator[Notice]:
    """Keys of ``ports`` are names that the ServiceEntry's ports have."""
    for name in ports or ():
        yield from port_name(name, (*loc, name))
        if service_ports is not None and name not in service_ports:
            known = ", ".join(sorted(service_ports)) or "none"
            yield refused(
                "unknown-port",
                (*loc, name),
                f"an endpoint maps the port {name}, which ports does not name (it names {known})",
                "use a name of spec.ports",
            )


def warnings(resource: WorkloadEntry) -> Iterator[Notice]:
    """Without an address it is reached through the gateway of its network."""
    return address_warnings(resource.spec, ("spec",))


def address_warnings(entry: WorkloadEntrySpec, loc: Loc) -> Iterator[Notice]:
    """An endpoint without an address."""
    if not entry.address and entry.network:
        yield warned(
            "no-address",
            loc,
            f"there is no address: it can be reached only through a gateway of network {entry.network}",
            "address: 10.0.0.1",
        )
