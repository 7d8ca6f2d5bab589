"""Which VirtualServices an egress listener imports, in the order that decides between them, and which hosts they claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.rules import sort_claims
from meshlib.compiler.scope import export_rank, exported_to, names_gateway
from meshlib.pace import take_turns
from meshlib.registry.names import is_within, overlap, resolve

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService


class VisibleVirtualServices:
    """The VirtualServices of the mesh gateway that a namespace sees (exportTo), with their hosts in full: those of the
    namespace alone first, then what is exported to it by name, then public ones, each the oldest first."""

    def __init__(self, services: Iterable[VirtualService], client: str, domain: str) -> None:
        visible = []
        for s in services:
            take_turns()
            if s.spec.hosts and names_gateway(s.spec.gateways) and exported_to(s.spec.export_to, s.namespace, client):
                visible.append(s)
        ordered = sort_claims(visible, lambda v: export_rank(v.spec.export_to, v.namespace, client))
        self.hosts = [(s, [resolve(host, s.namespace, domain) for host in s.spec.hosts or ()]) for s in ordered]

    def imported(self, sees: Callable[[str, Sequence[str]], bool]) -> Claims:
        """Those that ``sees`` (namespace, hosts) lets in."""
        return Claims([(s, hosts) for s, hosts in self.hosts if sees(s.namespace, hosts)])


class Claims:
    """Who claims which host. An exact claim shadows every wildcard one, even where it has no rule for a client; of wildcards
    the longest counts, and of equal ones the first alone."""

    def __init__(self, services: Sequence[tuple[VirtualService, Sequence[str]]]) -> None:
        self.services = [service for service, _ in services]
        self.exact: dict[str, list[VirtualService]] = {}
        self.wildcards: dict[str, list[VirtualService]] = {}
        self.position: dict[int, int] = {}
        self.hosts: list[Sequence[str]] = []
        for service, hosts in services:
            take_turns()
            self.position[id(service)] = len(self.hosts)
            self.hosts.append(hosts)
            for host in hosts:
                (self.wildcards if host.startswith("*") else self.exact).setdefault(host, []).append(service)
        self._lengths = sorted({len(pattern) for pattern in self.wildcards}, reverse=True)

    def of(self, host: str) -> Sequence[VirtualService]:
        """Those whose http rules may serve a host of the registry (which may be a wildcard), best first."""
        if not host.startswith("*"):
            found = self.exact.get(host)
            if found is not None:
                return found
        for length in self._lengths:
            suffix = length - 1
            if suffix < len(host) or (suffix == len(host) and not host.startswith("*")):
                found = self.wildcards.get("*" + host[len(host) - suffix :])
                if found is not None:
                    return found[:1]
        return ()

    def touching(self, host: str) -> list[VirtualService]:
        """Those one of whose hosts covers a host or is covered by it, in order: their tls and tcp rules count for it."""
        found = {self.position[id(s)]: s for s in self.exact.get(host, ())}
        patterns = [p for p in self.wildcards if overlap(p, host)] if self.wildcards else []
        if host.startswith("*"):
            patterns += [name for name in self.exact if is_within(name, host)]
        for pattern in patterns:
            for table in (self.wildcards, self.exact):
                found.update((self.position[id(s)], s) for s in table.get(pattern, ()))
        return [found[position] for position in sorted(found)]

    def hosts_of(self, service: VirtualService) -> Sequence[str]:
        """The hosts of one of them, in full."""
        return self.hosts[self.position[id(service)]]

    def tables(self) -> tuple[Mapping[str, list[VirtualService]], Mapping[str, list[VirtualService]]]:
        """(exact hosts, wildcards) with their claimants."""
        return self.exact, self.wildcards
