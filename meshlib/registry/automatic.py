"""Addresses for services that have none, by which DNS capture tells connections to them apart: of 240.240.0.0/16 and
2001:2::/48, as Istio's, which lead nowhere but to the proxy.

Which address a service has hangs on its namespace and host, and on the older ones that are there, and on nothing else: each
process and each start gives the same, and a reload changes none, but where two would have had the same one and the older is
gone. What Istio has given a ServiceEntry (``status.addresses``) it keeps."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import xxhash

from meshlib.problems import Problem, Severity
from meshlib.registry.service import Service

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

IPV4, IPV6 = ipaddress.ip_network("240.240.0.0/16"), ipaddress.ip_network("2001:2::/48")
HOSTS = 254
"""Of each 240.240.N.0/24: the first and the last are none."""
PLACES = 256 * HOSTS
MOST_SAID = 100
"""Resources of which it is said that they get none."""

Key = tuple[str, str]


class AutomaticAddresses:
    """Of all services, as they change."""

    def __init__(self) -> None:
        self._wanting: dict[str, dict[Key, tuple[str, Sequence[str]]]] = {}  # by host: age, and what is given already
        self._given: Mapping[Key, tuple[str, ...]] = {}
        self._without: Collection[Key] = ()  # for whom no place is left

    def renew(self, redefined: Mapping[str, Iterable[Service]]) -> Iterable[str]:
        """These hosts have these definitions now. The hosts of which the addresses are other ones than before."""
        changed = False
        for host, definitions in redefined.items():
            new = _wanting(definitions)
            changed |= new != self._wanting.get(host, {})
            if new:
                self._wanting[host] = new
            else:
                self._wanting.pop(host, None)
        if not changed:
            return ()
        before, self._given = self._given, _allocated(self._wanting.values())
        wanting = sum(map(len, self._wanting.values()))
        self._without = () if wanting == len(self._given) else self._left_out()
        keys = before.keys() | self._given.keys()
        return {host for host, namespace in keys if before.get((host, namespace)) != self._given.get((host, namespace))}

    def of(self, service: Service) -> Service:
        """The service with its addresses."""
        given = self._given.get((service.host, service.namespace))
        return service if given is None or service.addresses else replace(service, addresses=given)

    def problems(self, made: Iterable[tuple[Resource, Sequence[Service]]]) -> Iterator[Problem]:
        """Of resources, with the services of each: that there is no address left for a host of theirs; of ``MOST_SAID`` of
        them."""
        if not self._without:
            return
        said = 0
        for resource, services in made:
            hosts = [s.host for s in services if s.automatic is not None and (s.host, s.namespace) in self._without]
            if hosts:
                said += 1
                if said > MOST_SAID:
                    return
                yield _none_left(resource, ", ".join(dict.fromkeys(hosts)), len(self._without))

    def _left_out(self) -> Collection[Key]:
        return {key for of_host in self._wanting.values() for key in of_host if key not in self._given}


def _none_left(resource: Resource, hosts: str, without: int) -> Problem:
    origin = resource.origin
    own = "clusterIP" if resource.kind == "Service" else "addresses"
    return Problem(
        "no-automatic-address",
        Severity.WARNING,
        origin.file,
        origin.line,
        origin.column,
        resource.id,
        f"no automatic address is left for {hosts}: older ones have all {PLACES:,}, and {without:,} "
        f"{'host has' if without == 1 else 'hosts have'} none. DNS capture does not tell it apart",
        f"give it {own} of its own, or let others do without: networking.istio.io/enable-autoallocate-ip: 'false' is the label",
    )


def _wanting(definitions: Iterable[Service]) -> dict[Key, tuple[str, Sequence[str]]]:
    """Of one host, those definitions that are to have addresses: where another of the namespace has any, that is enough."""
    found: dict[Key, tuple[str, Sequence[str]]] = {}
    enough: set[Key] = set()
    for service in definitions:
        key = service.host, service.namespace
        if service.automatic is None:
            if service.addresses or service.headless or service.alias:
                enough.add(key)
            continue
        age, given = service.age_key[0], service.automatic
        if key in found:
            age, given = min(age, found[key][0]), (*found[key][1], *given)
        found[key] = age, given
    return {key: wanted for key, wanted in found.items() if key not in enough}


def _allocated(wanting: Iterable[Mapping[Key, tuple[str, Sequence[str]]]]) -> Mapping[Key, tuple[str, ...]]:
    """The oldest first, each the first place that is free from its own on. Beyond ``PLACES`` there is none left."""
    given: dict[Key, tuple[str, ...]] = {}
    open_ones: list[tuple[str, str, str]] = []
    taken: set[str] = set()
    for of_host in wanting:
        for (host, namespace), (age, addresses) in of_host.items():
            if addresses:
                given[host, namespace] = tuple(dict.fromkeys(addresses))
                taken.update(addresses)
            else:
                open_ones.append((age, namespace, host))
    for _, namespace, host in sorted(open_ones):
        place = xxhash.xxh32_intdigest(f"{namespace}/{host}".encode()) % PLACES
        for step in range(PLACES):
            four, six = _addresses((place + step) % PLACES)
            if four not in taken:
                taken.add(four)
                given[host, namespace] = four, six
                break
        else:
            break
    return given


def _addresses(place: int) -> tuple[str, str]:
    third, fourth = divmod(place, HOSTS)
    return f"240.240.{third}.{fourth + 1}", str(ipaddress.IPv6Address(f"2001:2::f0f0:{third:x}{fourth + 1:02x}"))
