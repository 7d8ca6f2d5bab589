"""Addresses for services that have none, by which DNS capture tells connections to them apart: of 240.240.0.0/16 and
2001:2::/48, as Istio's, which lead nowhere but to the proxy.

Which address a service has hangs on its namespace and host, and on the older ones that are there, and on nothing else: each
process and each start gives the same, and a reload changes none, but where two would have had the same one and the older is
gone. What Istio has given a ServiceEntry (``status.addresses``) it keeps."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import xxhash

from meshlib.registry.service import Service

IPV4, IPV6 = ipaddress.ip_network("240.240.0.0/16"), ipaddress.ip_network("2001:2::/48")
HOSTS = 254
"""Of each 240.240.N.0/24: the first and the last are none."""
PLACES = 256 * HOSTS

Key = tuple[str, str]


class AutomaticAddresses:
    """Of all services, as they change."""

    def __init__(self) -> None:
        self._wanting: dict[str, dict[Key, tuple[str, Sequence[str]]]] = {}  # by host: age, and what is given already
        self._given: Mapping[Key, tuple[str, ...]] = {}

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
        keys = before.keys() | self._given.keys()
        return {host for host, namespace in keys if before.get((host, namespace)) != self._given.get((host, namespace))}

    def of(self, service: Service) -> Service:
        """The service with its addresses."""
        given = self._given.get((service.host, service.namespace))
        return service if given is None or service.addresses else replace(service, addresses=given)


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
