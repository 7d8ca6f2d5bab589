"""Hosts that several VirtualServices of the mesh claim: which of them serves a client is then a matter of age and place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.analysis.codes import MESH_HOSTS_CONFLICT
from meshlib.analysis.finding import Finding
from meshlib.analysis.gateway_hosts import MESH
from meshlib.analysis.hosts import EVERYWHERE, full_name, matches, scopes
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import VIRTUAL_SERVICE

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService

    _Claim = tuple[VirtualService, int]
    """A VirtualService, and the position of the host in its ``spec.hosts``."""


def conflicting_hosts(index: Index) -> Iterator[Finding]:
    """Each VirtualService once, at the first of its hosts that another one claims too."""
    claims: dict[tuple[str, str], list[_Claim]] = {}
    for service in index.of(VIRTUAL_SERVICE):
        take_turns()
        gateways = service.spec.gateways or ()
        if gateways and MESH not in gateways:
            continue
        for scope in scopes(service.spec.export_to, service.namespace):
            for position, host in enumerate(service.spec.hosts or ()):
                claims.setdefault((scope, full_name(host, service.namespace)), []).append((service, position))
    public = [host for scope, host in claims if scope == EVERYWHERE]
    wildcards = [host for host in public if host.startswith("*")]
    said: set[str] = set()
    for (scope, host), mine in claims.items():
        take_turns()
        all_of_it = list(mine)
        if scope != EVERYWHERE:
            # what everybody sees, this namespace sees too
            others = public if host.startswith("*") else [*([host] if (EVERYWHERE, host) in claims else []), *wildcards]
            for other in others:
                if matches(host, other):
                    all_of_it += claims[EVERYWHERE, other]
        if len({service.id for service, _ in all_of_it}) < 2:
            continue
        for service, position in all_of_it:
            if service.id not in said:
                said.add(service.id)
                yield _finding(service, position, host, [s for s, _ in all_of_it if s.id != service.id])


def _finding(service: VirtualService, position: int, host: str, others: list[VirtualService]) -> Finding:
    names = list(dict.fromkeys(other.id for other in others))
    shown = " and ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Finding(
        MESH_HOSTS_CONFLICT,
        service,
        ("spec", "hosts", position),
        f"{shown} claim{'s' if len(names) == 1 else ''} {host} too: for one client only one of them acts",
        "put their rules into one VirtualService, or delegate from one to the others",
    )
