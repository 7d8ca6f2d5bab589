"""Destinations of VirtualServices: hosts and ports that are not there, and ports that have to be named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from meshlib.analysis.codes import INGRESS_RULES_UNAFFECTED, NOT_FOUND, PORT_REQUIRED
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.hosts import KnownHost, full_name
from meshlib.analysis.index import Index
from meshlib.analysis.nearest import did_you_mean
from meshlib.pace import take_turns
from meshlib.registry.lack import UNDEFINED, no_endpoints
from meshlib.resources.typed import VIRTUAL_SERVICE

if TYPE_CHECKING:
    from meshlib.resources.types import DestinationPort
    from meshlib.resources.virtual_service import Destination, VirtualService


class Place(NamedTuple):
    """A destination of a VirtualService, and where it stands; ``mirror`` says that copies go there."""

    model: Destination
    loc: Loc
    mirror: bool


def destinations_of(service: VirtualService) -> Iterator[Place]:
    """All of them: of tcp, tls and http routes, and of mirrors."""
    for kind in ("tcp", "tls", "http"):
        for index, rule in enumerate(getattr(service.spec, kind) or ()):
            for position, target in enumerate(rule.route or ()):
                if target.destination is not None:
                    loc = ("spec", kind, index, "route", position, "destination")
                    yield Place(target.destination, loc, False)
    for index, rule in enumerate(service.spec.http or ()):
        if rule.mirror is not None:
            yield Place(rule.mirror, ("spec", "http", index, "mirror"), True)
        for position, mirror in enumerate(rule.mirrors or ()):
            if mirror.destination is not None:
                yield Place(mirror.destination, ("spec", "http", index, "mirrors", position, "destination"), True)


def hosts_and_ports(index: Index) -> Iterator[Finding]:
    """Hosts that no Service and no ServiceEntry has, ports that the host lacks, ports that must be chosen."""
    for service in index.analyzed(VIRTUAL_SERVICE):
        take_turns()
        for place in destinations_of(service):
            if place.model.host:
                yield from _of(index, service, place)


def _of(index: Index, service: VirtualService, place: Place) -> Iterator[Finding]:
    host = place.model.host
    known = index.hosts.find(host, service.namespace, service.spec.export_to)
    what = "mirror host" if place.mirror else "host"
    if known is None:
        hint = index.hosts.hint(host, service.namespace, f"add its Service or ServiceEntry; {_lack(service, place)}")
        message = f"the {what} {host} is neither a Service nor a ServiceEntry's"
        name = full_name(host, service.namespace)
        yield Finding(NOT_FOUND, service, (*place.loc, "host"), message, hint, name)
        return
    if known.ports is None:
        return
    port = place.model.port
    numbers = [number for number, _ in known.ports]
    if port is None or not (port.number or port.name):
        if len(known.ports) > 1:
            shown = ", ".join(str(number) for number in numbers)
            yield Finding(
                PORT_REQUIRED,
                service,
                (*place.loc, "host"),
                f"{host} has several ports ({shown}) and the destination names none",
                f"add port: {{number: {numbers[0]}}}",
            )
        return
    yield from _port(service, place, port, known, numbers)


def _lack(service: VirtualService, place: Place) -> str:
    """What a call would be told of a host that nothing defines."""
    model, namespace = place.model, service.namespace
    port = (model.port.number or 0) if model.port is not None else 0
    return str(
        no_endpoints(full_name(model.host, namespace), namespace, UNDEFINED, subset=model.subset or "", port=port)
    )


def _port(
    service: VirtualService, place: Place, port: DestinationPort, known: KnownHost, numbers: list[int]
) -> Iterator[Finding]:
    names = [name for _, name in known.ports or ()]
    if (port.number in numbers) if port.number else (port.name in names):
        return
    shown = port.number or port.name
    has = ", ".join(str(number) for number in numbers)
    yield Finding(
        NOT_FOUND,
        service,
        (*place.loc, "port", "number" if port.number else "name"),
        f"{place.model.host} has no port {shown}",
        f"its ports: {has}" if has else f"{known.resource.id} has no ports",
        full_name(place.model.host, service.namespace),
    )


def ingress_rules(index: Index) -> Iterator[Finding]:
    """Routes of gateways to a host without subset, while another VirtualService splits that host into subsets: its rules
    are for callers inside the mesh only."""
    split: dict[str, list[VirtualService]] = {}
    for service in index.of(VIRTUAL_SERVICE):
        hosts = set(service.spec.hosts or ())
        for place in destinations_of(service):
            if place.loc[1] == "http" and not place.mirror and place.model.subset and place.model.host in hosts:
                known = split.setdefault(place.model.host, [])
                if not known or known[-1] is not service:
                    known.append(service)
    for service in index.analyzed(VIRTUAL_SERVICE):
        if not service.spec.gateways:
            continue
        for place in destinations_of(service):
            if place.loc[1] != "http" or place.mirror or place.model.subset:
                continue
            for other in split.get(place.model.host, ()):
                yield Finding(
                    INGRESS_RULES_UNAFFECTED,
                    service,
                    (*place.loc, "host"),
                    f"requests of a gateway to {place.model.host} do not meet the subsets of {other.id}",
                    f"name a subset here, or add the gateway and its host to {other.id}",
                )


def delegates(index: Index) -> Iterator[Finding]:
    """Delegates that do not exist."""
    known = {name for namespace, name in index.virtual_services}
    for service in index.analyzed(VIRTUAL_SERVICE):
        for position, rule in enumerate(service.spec.http or ()):
            take_turns()
            if rule.delegate is None or not rule.delegate.name:
                continue
            key = (rule.delegate.namespace or service.namespace, rule.delegate.name)
            if key in index.virtual_services:
                continue
            elsewhere = sorted(ns for ns, name in index.virtual_services if name == key[1]) if key[1] in known else []
            hint = f"there is one in namespace {elsewhere[0]}" if elsewhere else ""
            yield Finding(
                NOT_FOUND,
                service,
                ("spec", "http", position, "delegate", "name"),
                f"the delegate VirtualService {key[0]}/{key[1]} does not exist",
                hint or did_you_mean(index.near_virtual_service.of(key[1])) or "add it, or write a route",
            )
