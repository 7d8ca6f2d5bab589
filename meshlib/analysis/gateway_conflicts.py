"""Gateways that are in each other's way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.analysis.codes import GATEWAYS_CONFLICT
from meshlib.analysis.finding import Finding
from meshlib.analysis.index import INGRESS_LABELS, Index
from meshlib.pace import take_turns
from meshlib.resources.typed import GATEWAY

if TYPE_CHECKING:
    from meshlib.resources.gateway import Gateway

_Selector = frozenset[tuple[str, str]]
_MANY = 4
"""Other gateways that a message names."""


def conflicts(index: Index) -> Iterator[Finding]:
    """Servers that two gateways have on the same port, for the same host and workloads."""
    by_host = _by_host(index)
    overlap: dict[tuple[_Selector, _Selector], bool] = {}
    for gateway in index.analyzed(GATEWAY):
        take_turns()
        mine = _selector(gateway)
        for position, server in enumerate(gateway.spec.servers or ()):
            if server.port is None or not server.port.number:
                continue
            others: dict[str, None] = {}
            shared: dict[str, None] = {}
            for host in server.hosts or ():
                alike = by_host.get((server.port.number, host, server.bind or ""))
                for selector, found in alike.near(mine) if alike is not None else ():
                    pair = (mine, selector)
                    if pair not in overlap:
                        overlap[pair] = _same_workloads(index, mine, selector)
                    if overlap[pair]:
                        names = [other.id for other in found[: _MANY + 1] if other.id != gateway.id]
                        others.update(dict.fromkeys(names))
                        shared.update(dict.fromkeys([host] if names else ()))
            if others:
                shown = " and ".join(list(others)[:_MANY]) + (" and others" if len(others) > _MANY else "")
                yield Finding(
                    GATEWAYS_CONFLICT,
                    gateway,
                    ("spec", "servers", position, "hosts"),
                    f"{shown} {'has' if len(others) == 1 else 'have'} a server on port {server.port.number} for "
                    f"{', '.join(shared)} on the same workloads",
                    "put the servers into one Gateway, or give them other hosts",
                )


def _by_host(index: Index) -> dict[tuple[int, str, str], _Alike]:
    """Gateways by port, host and address that they listen on."""
    by_host: dict[tuple[int, str, str], _Alike] = {}
    for gateway in index.of(GATEWAY):
        take_turns()
        hosts_of: dict[int, dict[str, str]] = {}
        for server in gateway.spec.servers or ():
            if server.port is not None and server.port.number:
                # Istio keeps the last server of a port
                hosts_of[server.port.number] = dict.fromkeys(server.hosts or (), server.bind or "")
        for number, hosts in hosts_of.items():
            for host, bind in hosts.items():
                by_host.setdefault((number, host, bind), _Alike()).add(gateway)
    return by_host


class _Alike:
    """Gateways with a server for the same host, by their selectors."""

    def __init__(self) -> None:
        self._gateways: dict[_Selector, list[Gateway]] = {}
        self._by_label: dict[tuple[str, str] | None, list[_Selector]] = {}

    def add(self, gateway: Gateway) -> None:
        selector = _selector(gateway)
        if selector not in self._gateways:
            for label in selector or (None,):
                self._by_label.setdefault(label, []).append(selector)
        self._gateways.setdefault(selector, []).append(gateway)

    def near(self, selector: _Selector) -> Iterator[tuple[_Selector, list[Gateway]]]:
        """Those whose selector may be as wide as this one, or wider or narrower: they have a label in common, or one of the
        two has none."""
        if not selector:
            yield from self._gateways.items()
            return
        candidates = (known for label in (*selector, None) for known in self._by_label.get(label, ()))
        for known in dict.fromkeys(candidates):
            yield known, self._gateways[known]


def _selector(gateway: Gateway) -> _Selector:
    return frozenset((gateway.spec.selector or {}).items())


def _same_workloads(index: Index, one: _Selector, other: _Selector) -> bool:
    """The same selector; or one that narrows the other, where a workload has the labels of both."""
    if one == other:
        return True
    if not (one <= other or other <= one):
        return False
    both = dict(one | other)
    return both.items() <= INGRESS_LABELS.items() or bool(index.workloads.select(both))
