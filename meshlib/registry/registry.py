"""All services, by host, as clients of a namespace see them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from meshlib.problems import Problem
from meshlib.registry.definitions import as_seen
from meshlib.registry.service import Service


class Registry:
    """All services. One host may be defined several times, and in several namespaces (``definitions``). Never changed."""

    __slots__ = ("_by_host", "_merged", "named", "problems")

    def __init__(self, by_host: Mapping[str, tuple[Service, ...]], problems: list[Problem]) -> None:
        """``by_host`` in the order of each host's first service; of one host the oldest first."""
        self.problems = problems
        self.named: frozenset[str] = frozenset()
        """The hosts that VirtualServices and DestinationRules name, whether they are defined or not."""
        self._by_host = by_host
        self._merged: dict[str, dict[tuple[object, ...], Service | None]] = {}

    def after(
        self, changed: Mapping[str, tuple[Service, ...]], problems: list[Problem], named: frozenset[str] = frozenset()
    ) -> Registry:
        """This registry with other services for some hosts (none: the host is gone)."""
        before = self._by_host
        made = Registry.__new__(Registry)
        made.problems = problems
        made.named = named
        made._by_host = by_host = {**before, **changed}
        for host in [host for host, services in changed.items() if not services]:
            del by_host[host]
        if any(_first(services) != _first(before.get(host, ())) for host, services in changed.items() if services):
            made._by_host = dict(sorted(by_host.items(), key=lambda item: _first(item[1])))
        made._merged = {host: merged for host, merged in self._merged.items() if host not in changed}
        return made

    def lookup(self, host: str, client_namespace: str) -> Service | None:
        """The service of this very host, as the client's namespace sees it. (Istio takes no wildcard for a destination.)"""
        found = self._by_host.get(host)
        return self._seen(host, found, client_namespace) if found is not None else None

    def hosts(self) -> Collection[str]:
        """Every host that has a service."""
        return self._by_host.keys()

    def definitions(self, host: str) -> tuple[Service, ...]:
        """Every service of this very host."""
        return self._by_host.get(host, ())

    def of_namespace(self, host: str, namespace: str) -> Service | None:
        """The service of this very host that a namespace defines, whomever it is exported to."""
        return next((s for s in self._by_host.get(host, ()) if s.namespace == namespace), None)

    def visible(self, client_namespace: str, imported: Callable[[Service], bool] | None = None) -> list[Service]:
        """One service a host, those the namespace may see (and ``imported`` lets in), in a stable order."""
        found = []
        for host, services in self._by_host.items():
            chosen = services if imported is None else tuple(filter(imported, services))
            seen = self._seen(host, chosen, client_namespace)
            if seen is not None:
                found.append(seen)
        return found

    def all(self) -> list[Service]:
        """Every definition."""
        return [service for services in self._by_host.values() for service in services]

    def _seen(self, host: str, services: Sequence[Service], client_namespace: str) -> Service | None:
        if len(services) < 2:
            return services[0] if services and services[0].visible_from(client_namespace) else None
        seen = [service for service in services if service.visible_from(client_namespace)]
        if len(seen) < 2:
            return seen[0] if seen else None
        merged = self._merged.setdefault(host, {})
        own = any(service.namespace == client_namespace for service in seen)
        key = (client_namespace if own else "", *map(id, seen))
        if key not in merged:
            merged[key] = as_seen(seen, client_namespace)
        return merged[key]


def _first(services: Sequence[Service]) -> tuple[bool, object, int]:
    """Kubernetes' before others, then the oldest."""
    if len(services) == 1:
        return services[0].order
    return min((service.order for service in services), default=(True, (), 0))
