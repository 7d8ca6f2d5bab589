"""``endpoints="dns"``: inside Kubernetes every Service is called at the name that the cluster's DNS has for it.

A Service that nothing gives endpoints to is one address, its name; so is a host that VirtualServices and DestinationRules name
and nothing defines, on whatever port it is called. DNS knows no labels, so subsets that ask for some have no endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.registry.names import DOMAIN, is_ip, resolve
from meshlib.registry.service import ANY_PORT, CLUSTER_DNS, LOCAL, NO_LABELS, Endpoint, Service, ServicePort
from meshlib.resources.typed import DESTINATION_RULE, VIRTUAL_SERVICE

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.virtual_service import VirtualService

HTTP_PORT = 80
_OLDEST = ("", "", "", 0)


class NamedHosts:
    """The hosts that VirtualServices of the mesh and DestinationRules name, in full. ``destinations``: also those that rules
    lead to. Not for several threads at once."""

    def __init__(self, domain: str = DOMAIN, *, destinations: bool = False) -> None:
        self._domain = domain
        self._destinations = destinations
        self._named: Counter[str] = Counter()
        self._hosts_now: frozenset[str] | None = frozenset()

    def __contains__(self, host: str) -> bool:
        return host in self._named

    @property
    def hosts(self) -> frozenset[str]:
        """All of them; the same object until one comes or goes."""
        if self._hosts_now is None:
            self._hosts_now = frozenset(self._named)
        return self._hosts_now

    def change(self, resource: Resource, *, there: bool) -> list[str]:
        """One resource has come, or is gone; the hosts that are named now and were not, or the other way round."""
        changed = []
        for host in dict.fromkeys(self._hosts(resource)):
            before = self._named[host]
            self._named[host] += 1 if there else -1
            if not self._named[host]:
                del self._named[host]
            if before == (0 if there else 1):
                changed.append(host)
        if changed:
            self._hosts_now = None
        return changed

    def _hosts(self, resource: Resource) -> Iterator[str]:
        named: Iterable[str] = ()
        if DESTINATION_RULE.is_kind_of(resource):
            named = (resource.spec.host,)
        elif VIRTUAL_SERVICE.is_kind_of(resource) and (not resource.spec.gateways or "mesh" in resource.spec.gateways):
            named = [*(resource.spec.hosts or ()), *(_led_to(resource) if self._destinations else ())]
        for name in named:
            if name and "*" not in name and not is_ip(name):
                yield resolve(name, resource.namespace, self._domain)


def _led_to(service: VirtualService) -> Iterator[str]:
    for rule in service.spec.http or ():
        take_turns()
        yield from (model.host for model in rule.destinations())
    for l4_rule in (*(service.spec.tls or ()), *(service.spec.tcp or ())):
        yield from (d.destination.host for d in l4_rule.route or () if d.destination is not None)


def by_name(host: str, definitions: list[Service], named: bool, client_namespace: str) -> list[Service]:
    """What there is of a host when DNS is asked for what nothing else gives."""
    if definitions:
        return [_at_its_name(service) if _lacks(service) else service for service in definitions]
    if not named:
        return definitions
    labels = host.split(".")
    return [
        Service(
            host=host,
            namespace=labels[1] if labels[2:3] == ["svc"] else client_namespace,
            kind=LOCAL,
            ports=(ServicePort(HTTP_PORT),),
            endpoints={ANY_PORT: ()},
            resource='endpoints="dns"',
            age_key=_OLDEST,
            resolution=CLUSTER_DNS,
        )
    ]


def _lacks(service: Service) -> bool:
    """Whether it is a Service without endpoints. (Of a headless one the name is dialled anyway.)"""
    return service.kind == "kubernetes" and not (service.alias or service.headless or any(service.endpoints.values()))


def _at_its_name(service: Service) -> Service:
    endpoints = {p.number: (Endpoint(service.host, p.number, NO_LABELS),) for p in service.ports}
    return replace(service, endpoints=endpoints, resolution=CLUSTER_DNS)
