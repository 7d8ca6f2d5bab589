"""ServiceEntries: TCP ports that nothing can be told apart by, and entries that disagree about a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from meshlib.analysis.codes import ADDRESSES_REQUIRED, PROTOCOLS_CONFLICT
from meshlib.analysis.finding import Finding
from meshlib.analysis.hosts import EVERYWHERE, scopes
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import SERVICE_ENTRY

if TYPE_CHECKING:
    from meshlib.resources.service_entry import ServiceEntry


def addresses(index: Index) -> Iterator[Finding]:
    """TCP ports of an entry without addresses: such traffic is told apart by address only."""
    if index.mesh_config.allocates_addresses:
        return
    for entry in index.analyzed(SERVICE_ENTRY):
        take_turns()
        if entry.spec.addresses or _allocated(entry.status):
            continue
        for position, port in enumerate(entry.spec.ports or ()):
            if (port.protocol or "TCP").upper() == "TCP":
                yield Finding(
                    ADDRESSES_REQUIRED,
                    entry,
                    ("spec", "ports", position, "protocol" if port.protocol else "number"),
                    f"port {port.number} is TCP{'' if port.protocol else ' (no protocol is given)'} and the entry has no "
                    "addresses: Istio cannot tell its traffic from that of others",
                    "add addresses, or give its protocol (HTTP, TLS, ...)",
                )


def _allocated(status: object) -> bool:
    return isinstance(status, Mapping) and bool(status.get("addresses"))


def protocols(index: Index) -> Iterator[Finding]:
    """Entries with the same host and port and different protocols."""
    found: dict[tuple[str, str, int], list[tuple[str, ServiceEntry, int]]] = {}
    for entry in index.of(SERVICE_ENTRY):
        take_turns()
        for scope in scopes(entry.spec.export_to, entry.namespace):
            for host in entry.spec.hosts or ():
                for position, port in enumerate(entry.spec.ports or ()):
                    if port.number:
                        claim = ((port.protocol or "").upper(), entry, position)
                        found.setdefault((scope, host, port.number), []).append(claim)
    said: set[str] = set()
    for (scope, host, number), mine in found.items():
        claims = mine if scope == EVERYWHERE else [*mine, *found.get((EVERYWHERE, host, number), ())]
        names = sorted({protocol or "(none)" for protocol, _, _ in claims})
        if len(names) < 2:
            continue
        for _, entry, position in claims:
            if entry.id in said:
                continue
            said.add(entry.id)
            others = ", ".join(dict.fromkeys(other.id for _, other, _ in claims if other is not entry)) or "itself"
            yield Finding(
                PROTOCOLS_CONFLICT,
                entry,
                ("spec", "ports", position, "protocol"),
                f"{host} port {number} is {' and '.join(names)}: other ServiceEntries ({others}) say otherwise",
                "give all of them the same protocol",
            )
