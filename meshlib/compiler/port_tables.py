"""The virtual hosts of one port, as istiod lists them in a sidecar's route configuration.

A service of the registry that has the port for HTTP (or for what may turn out to be HTTP) is a virtual host: with the rules of
the VirtualService that claims it, else with its default route. It answers to its short forms, its addresses and, when it is
headless, to the names of its pods. A VirtualService that serves a service there brings its other hosts along, and on port 80
every VirtualService does: such hosts answer to the very name that the resource writes. Where names meet, the order of the
VirtualServices decides, and services without one come last.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.claims import Claims
from meshlib.compiler.routes import VirtualHost
from meshlib.pace import take_turns
from meshlib.registry.names import dial_names

if TYPE_CHECKING:
    from meshlib.registry.service import Service, ServicePort
    from meshlib.resources.virtual_service import VirtualService

Names = dict[str, VirtualHost]
Served = Mapping[str, tuple["Service", "ServicePort"]]
"""The services of one port, by host."""


class NamesOf:
    """The names by which a client of a namespace calls a service."""

    def __init__(self, client_namespace: str, domain: str) -> None:
        self._client = client_namespace
        self._domain = domain

    def __call__(self, service: Service) -> tuple[list[str], list[str]]:
        """(its own name and addresses, its short forms)."""
        own: list[str] = []
        short: list[str] = []
        for host in (service.host, *service.aliases):
            first, *forms = dial_names(host, self._client, self._domain)
            own.append(first)
            short += forms
        if service.headless:
            own += [f"*.{name}" for name in own]
            short += [f"*.{name}" for name in short]
        own += [address for address in service.addresses if is_ip(address)]
        return own, short


class PortHosts:
    """Makes the virtual hosts of one port. ``compiled`` gives the virtual host of (host, port, its service or None, the
    VirtualServices that may serve it); None when none has a rule for this client."""

    def __init__(
        self,
        port: int,
        served: Served,
        claims: Claims,
        compiled: Callable[[str, int, Service | None, Sequence[VirtualService]], VirtualHost | None],
        names_of: NamesOf,
        contested: set[str],
    ) -> None:
        self._contested = contested
        self._port = port
        self._served = served
        self._claims = claims
        self._compiled = compiled
        self._names_of = names_of
        self._ends: list[str] | None = None  # hosts of the port backwards: a wildcard's suffix is a prefix of them
        self._wildcards = [host for host in served if host.startswith("*")]

    def names(self, *, every_protocol: bool, outside: Callable[[str], bool] | None) -> tuple[Names, Names]:
        """(exact names, wildcards by suffix). ``every_protocol``: ports that are not HTTP count as if they were. ``outside``
        says which hosts are there though only a VirtualService names them, whatever else it serves; None: no host is."""
        port = self._port
        claimed: dict[int, list[tuple[Service, VirtualHost]]] = {}
        unclaimed: list[tuple[Service, VirtualHost]] = []
        serving: dict[int, VirtualService] = {}  # by position
        position = self._claims.position
        for service, there in self._served.values():
            take_turns()
            if not (every_protocol or there.takes_http):
                continue
            claimants = self._claims.of(service.host)
            for claimant in claimants:
                serving[position[id(claimant)]] = claimant
            vhost = self._compiled(service.host, port, service, claimants)
            if vhost is None:
                continue
            winner = next((c for c in claimants if c.id == vhost.resource), None)
            if winner is None:
                unclaimed.append((service, vhost))
            else:
                claimed.setdefault(position[id(winner)], []).append((service, vhost))
        names = _Filling({s.host for made in (unclaimed, *claimed.values()) for s, _ in made}, self._contested)
        bringing = enumerate(self._claims.services) if outside is not None else sorted(serving.items())
        for number, resource in bringing:
            take_turns()
            for host in self._unserved(resource):
                if number not in serving and outside is not None and not outside(host):
                    continue
                extra = self._compiled(host, port, None, (resource,))
                if extra is None:
                    break  # it has no rule for this client
                names.add(extra, (host,))
            for service, vhost in claimed.get(number, ()):
                names.add(vhost, *self._names_of(service))
        for service, vhost in unclaimed:
            take_turns()
            names.add(vhost, *self._names_of(service))
        return names.exact, names.wildcards

    def _unserved(self, resource: VirtualService) -> Iterator[str]:
        """The hosts of a VirtualService that no service of this port has."""
        for host in self._claims.hosts_of(resource):
            if host.startswith("*"):
                if not self._some_service_is(host):
                    yield host
            elif host not in self._served:
                yield host

    def _some_service_is(self, pattern: str) -> bool:
        """Whether a wildcard covers a service of this port, or is covered by one."""
        if self._ends is None:
            self._ends = sorted(host.removeprefix("*")[::-1] for host in self._served)
        end = pattern[:0:-1]
        at = bisect_left(self._ends, end)
        if at < len(self._ends) and self._ends[at].startswith(end):
            return True
        return any(pattern.endswith(host[1:]) for host in self._wildcards)


class _Filling:
    """Names are given once: to the first that asks. A short form never takes the full name of another service. ``contested``
    hears of the names for which that decides."""

    def __init__(self, full_names: set[str], contested: set[str]) -> None:
        self._contested = contested
        self.exact: Names = {}
        self.wildcards: Names = {}
        self._full_names = full_names

    def add(self, vhost: VirtualHost, own: Iterable[str], short: Iterable[str] = ()) -> None:
        for name in own:
            self._add(name, vhost)
        for name in short:
            if name not in self._full_names:
                self._add(name, vhost)
            else:
                self._contested.add(name)

    def _add(self, name: str, vhost: VirtualHost) -> None:
        table, key = (self.wildcards, name[1:]) if name.startswith("*") else (self.exact, name)
        if table.setdefault(key, vhost) is not vhost:
            self._contested.add(key)


def is_ip(text: str) -> bool:
    """Whether a name or address is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
