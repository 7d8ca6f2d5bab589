"""LocalEndpoints: the endpoints that a person gives to hosts. They replace what discovery says of a host, in every definition
of it; a host that nothing defines becomes a service.

Which port of a service an address is for: the one that its entry names, else those whose number (or targetPort) is the
address's own port, else all of them. A service that nothing defines has the ports of its addresses, and may be called on any
other, too: it is not known which it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from meshlib.problems import Problem, Severity
from meshlib.registry.names import DOMAIN, resolve
from meshlib.registry.service import ANY_PORT, LOCAL, NO_LABELS, Endpoint, Service, ServicePort
from meshlib.resources.local_addresses import LocalAddress, parse_address

if TYPE_CHECKING:
    from meshlib.resources.local_endpoints import LocalEndpoints

HTTP_PORT = 80
UNIX = "unix:"
Order = tuple[bool, tuple[str, str, str, int]]
Loc = tuple[str | int, ...]


class Given(NamedTuple):
    """One address. ``port``: of the service, 0 for any; ``position`` that of its entry and its own there."""

    address: LocalAddress
    subset: str
    port: int
    position: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Claim:
    """What one resource says of a host."""

    resource: LocalEndpoints
    order: Order
    given: tuple[Given, ...]


class LocalHosts:
    """All LocalEndpoints, by host. Not for several threads at once."""

    def __init__(self, domain: str = DOMAIN) -> None:
        self._domain = domain
        self._claims: dict[str, list[_Claim]] = {}
        self._said: dict[str, list[Problem]] = {}  # by host

    def __contains__(self, host: str) -> bool:
        return host in self._claims

    def change(self, resource: LocalEndpoints, *, there: bool) -> Iterable[str]:
        """One resource has come, or is gone; the hosts that it names."""
        hosts = self._hosts(resource)
        for host, given in hosts.items():
            claims = [claim for claim in self._claims.pop(host, ()) if claim.resource is not resource]
            if there:
                claims.append(_Claim(resource, (not resource.is_argument, resource.age_key), given))
            if claims:
                self._claims[host] = sorted(claims, key=lambda claim: claim.order)
        return hosts

    @property
    def problems(self) -> list[Problem]:
        """What is to be said of the hosts for which services were made."""
        return [problem for host in sorted(self._said) for problem in self._said[host]]

    def services(self, host: str, definitions: list[Service]) -> list[Service]:
        """What there is of a host, when discovery knows these definitions: the same, with the endpoints that are given, or a
        service of its own."""
        self._said.pop(host, None)
        claims = self._claims.get(host)
        if not claims:
            return definitions
        claim, said = claims[0], list[Problem]()
        said += [_twice(host, claim, other) for other in claims[1:]]
        if any(service.ports for service in definitions):
            known = {port.number for service in definitions for port in service.ports}
            said += _unknown_ports(host, claim, known)
            if not claim.resource.is_argument and any(any(s.endpoints.values()) for s in definitions):
                said.append(_replaces(host, claim))
            made = [_relocated(service, claim) for service in definitions]
        else:
            said += _without_port(host, claim)
            made = [found] if (found := _new(host, claim, definitions)) is not None else definitions
        if said:
            self._said[host] = said
        return made

    def _hosts(self, resource: LocalEndpoints) -> dict[str, tuple[Given, ...]]:
        found: dict[str, list[Given]] = {}
        for index, entry in enumerate(resource.spec.hosts):
            there = found.setdefault(resolve(entry.host, resource.namespace, self._domain), [])
            for position, text in enumerate(entry.addresses):
                there.append(Given(parse_address(text), entry.subset or "", entry.port or 0, (index, position)))
        return {host: tuple(given) for host, given in found.items()}


def _relocated(service: Service, claim: _Claim) -> Service:
    """The service with the endpoints that are given, and no others."""
    endpoints = {port.number: tuple(_of_port(port, service.ports, claim.given)) for port in service.ports}
    return replace(
        service,
        endpoints=endpoints,
        resolution=LOCAL,
        headless=False,
        alias="",
        alias_ports=None,
        given_by=_name(claim.resource),
    )


def _of_port(port: ServicePort, ports: Sequence[ServicePort], given: Iterable[Given]) -> Iterator[Endpoint]:
    for one in given:
        if _is_for(one, port, ports):
            yield _endpoint(one, port.number)


def _is_for(one: Given, port: ServicePort, ports: Sequence[ServicePort]) -> bool:
    """Whether an address is for a port of a service that has these ports."""
    number = one.address.port
    if one.port:
        return one.port == port.number
    if number is None or number in (port.number, port.target_port):
        return True
    return not any(number in (other.number, other.target_port) for other in ports)


def _new(host: str, claim: _Claim, definitions: Sequence[Service]) -> Service | None:
    """The service of a host that nothing gives ports to; None when no address says a port."""
    sockets = [one for one in claim.given if one.address.host.startswith(UNIX)]
    anywhere = [one for one in claim.given if not one.port and (one.address.port or one in sockets)]
    numbers = dict.fromkeys(one.port for one in claim.given if one.port)
    numbers.update(dict.fromkeys(one.address.port or HTTP_PORT for one in anywhere))
    if not numbers:
        return None
    ports = tuple(ServicePort(number) for number in sorted(numbers))
    endpoints: dict[int, tuple[Endpoint, ...]] = {}
    if anywhere:
        endpoints[ANY_PORT] = tuple(_endpoint(one, 0) for one in anywhere)
    for port in ports:
        own = [one for one in claim.given if one.port in (0, port.number) and (one.port or one in anywhere)]
        endpoints[port.number] = tuple(_endpoint(one, port.number) for one in own)
    if definitions:  # an ExternalName, which has no ports
        return replace(
            definitions[0],
            ports=ports,
            endpoints=endpoints,
            resolution=LOCAL,
            headless=False,
            alias="",
            alias_ports=None,
            given_by=_name(claim.resource),
        )
    resource = claim.resource
    return Service(
        host=host,
        namespace=_namespace(host) or resource.namespace,
        kind=LOCAL,
        ports=ports,
        endpoints=endpoints,
        resource=resource.id,
        age_key=resource.age_key,
        resolution=LOCAL,
        position=min(one.position[0] for one in claim.given),
        given_by=_name(resource),
    )


def _name(resource: LocalEndpoints) -> str:
    """For people."""
    return resource.origin.file if resource.is_argument else resource.id


def _endpoint(given: Given, port: int) -> Endpoint:
    host, number = given.address
    return Endpoint(host, 0 if host.startswith(UNIX) else number or port, NO_LABELS, subset=given.subset)


def _namespace(host: str) -> str:
    """Of a Service's full name; "" for other hosts."""
    labels = host.split(".")
    return labels[1] if labels[2:3] == ["svc"] else ""


# -- what is to be said


def _problem(claim: _Claim, loc: Loc, code: str, message: str, hint: str) -> Problem:
    resource = claim.resource
    line, column = resource.place_of(loc)
    return Problem(code, Severity.WARNING, resource.origin.file, line, column, field_path(resource, loc), message, hint)


def field_path(resource: LocalEndpoints, loc: Loc) -> str:
    """Where somebody has written what is at ``loc``: the field of the resource, or the key of ``endpoints=``."""
    if not resource.is_argument:
        fields = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
        return f"{resource.id} {fields.removeprefix('.')}"
    entry = resource.spec.hosts[int(loc[2])]
    host = f"{entry.host}:{entry.port}" if entry.port else entry.host
    return f"[{host!r}][{entry.subset!r}]" if entry.subset else f"[{host!r}]"


def _place(given: Given, *further: str | int) -> Loc:
    return ("spec", "hosts", given.position[0], *further)


def _twice(host: str, first: _Claim, other: _Claim) -> Problem:
    why = "endpoints= goes before files" if first.resource.is_argument else "it is the older one"
    return _problem(
        other,
        _place(other.given[0], "host"),
        "host-claimed-twice",
        f"{first.resource.id} gives {host} its endpoints already, and {why}: these are not used",
        "remove the host here or there",
    )


def _replaces(host: str, claim: _Claim) -> Problem:
    message = f"it replaces the endpoints that discovery knows of {host}"
    hint = "remove the host when you no longer serve it yourself"
    return replace(
        _problem(claim, _place(claim.given[0], "host"), "endpoints-replaced", message, hint), severity=Severity.NOTICE
    )


def _unknown_ports(host: str, claim: _Claim, known: Iterable[int]) -> Iterator[Problem]:
    there = sorted(known)
    for index, port in {one.position[0]: one.port for one in claim.given if one.port}.items():
        if port not in there:
            yield _problem(
                claim,
                ("spec", "hosts", index, "port"),
                "unknown-port",
                f"{host} has no port {port} (it has {', '.join(map(str, there))}): these addresses are not used",
                "name one of its ports, or none",
            )


def _without_port(host: str, claim: _Claim) -> Iterator[Problem]:
    for one in claim.given:
        if not one.port and one.address.port is None and not one.address.host.startswith(UNIX):
            bracketed = f"[{one.address.host}]" if ":" in one.address.host else one.address.host
            yield _problem(
                claim,
                _place(one, "addresses", one.position[1]),
                "missing-port",
                f"the address {one.address.host} has no port, and no Service or ServiceEntry says which port {host} has: it is "
                "not used",
                f"write {bracketed}:8080 (its port), or define the Service",
            )
