"""Headless services: names that are dialled as they are, of which the registry knows the addresses.

Envoy would ask DNS, which need not know them. So each such name is a virtual host of its own, whose routes lead to a cluster
of the addresses that the name has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.registry.names import is_ip
from meshlib.registry.service import Endpoint

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster, Rule, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.envoy.values import Json


def at_addresses(cluster: Cluster, name: str, port: int, addresses: tuple[str, ...]) -> Cluster:
    """The cluster of the addresses that a name has, any of which will do."""
    number = cluster.dial_port or port
    return replace(
        cluster,
        key=f"{cluster.key}|{name}:{number}",
        resolution="static",
        balancer="RANDOM",
        endpoints=tuple(Endpoint(address=address, port=number) for address in addresses),
    )


class DialledNames:
    """Of a snapshot; collects the clusters that are needed beside its own."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.clusters: dict[str, Cluster] = {}

    def names_of(self, host: VirtualHost, names: list[str]) -> list[str]:
        """Those of its names whose addresses are known, if it leads to where they are dialled; names that are addresses, where
        it depends on these whether mTLS of the mesh is spoken."""
        led_to = [to.cluster for rule in host.rules for to in rule.destinations if self._passes(to.cluster)]
        if not led_to:
            return []
        by_address = any(self._snapshot.clusters[key].mutual for key in led_to)
        return [name for name in names if self._snapshot.dialled.get(name) or (by_address and is_ip(name))]

    def is_of_pods(self, domain: str) -> bool:
        """Whether a value of Host is one of any pod of a headless service, of whose pods those that have names are known by
        these."""
        name = domain.rpartition(":")[0] or domain
        return name.startswith("*.") and name[2:].removesuffix(".") in self._snapshot.dialled

    def routes(self, routes: Iterator[Json], name: str, port: int) -> Iterator[Json]:
        """The routes of a virtual host for one of its names."""
        for route in routes:
            action = route.get("route", {})
            for place, key in ((action, "cluster"), *((each, "name") for each in _weighted(action))):
                if self._passes(place.get(key, "")):
                    place[key] = self._cluster(place[key], name, port)
            yield route

    def at_address(self, rule: Rule | None, ip: str, port: int) -> dict[str, str]:
        """The clusters of a rule that lead to where is dialled, and what is one of this address alone, which alone says whether
        mTLS of the mesh is spoken there."""
        made = {}
        for to in () if rule is None else rule.destinations:
            if self._passes(to.cluster):
                spec = at_addresses(self._snapshot.clusters[to.cluster], ip, port, (ip,))
                self.clusters[spec.key] = spec
                made[to.cluster] = spec.key
        return made

    def _passes(self, key: str) -> bool:
        found = self._snapshot.clusters.get(key)
        return found is not None and found.resolution == "passthrough" and not found.dial_host and bool(found.host)

    def _cluster(self, key: str, name: str, port: int) -> str:
        made = at_addresses(self._snapshot.clusters[key], name, port, self._snapshot.dialled.get(name) or (name,))
        self.clusters[made.key] = made
        return made.key


def _weighted(action: Json) -> list[Json]:
    found: list[Json] = action.get("weighted_clusters", {}).get("clusters", [])
    return found
