"""How many connections there are, by cluster: counted when somebody looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.engine.cluster import BoundCluster
    from meshlib.transport.upstream.target import Target


@dataclass(slots=True)
class PoolCount:
    """Connections with a call on them, and kept ones without."""

    busy: int = 0
    idle: int = 0


def pool_counts(clusters: Iterable[BoundCluster], connections: Iterable[tuple[Target, bool]]) -> dict[str, PoolCount]:
    """By cluster key. What leads to where no cluster of the configuration goes any more (calls under way since before a
    reload) is not counted."""
    found: dict[str, PoolCount] = {}
    key_of: dict[object, str] = {}
    for cluster in clusters:
        key = cluster.spec.key
        found[key] = PoolCount()
        key_of.update((target, key) for target in list(cluster.targets.values()))
    for target, busy in connections:
        key = key_of.get(target, "")
        if key:
            count = found[key]
            if busy:
                count.busy += 1
            else:
                count.idle += 1
    return found
