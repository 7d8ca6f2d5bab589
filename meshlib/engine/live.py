"""``Live``: a snapshot with its clusters at work; the one reference that a reload swaps."""

from __future__ import annotations

import random
from threading import RLock
from typing import TYPE_CHECKING

from meshlib.engine.cluster import BoundCluster, ClusterState
from meshlib.engine.guard import Guard, Report, Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.compiler.snapshot import Snapshot


class Live:
    """A snapshot and its bound clusters. Clusters are bound when first used: a client of a thousand services talks to
    a few. ``on_bind`` hears of each cluster that is bound (the resolver looks after its names); ``storage`` makes the
    storage of a circuit breaker and ``report`` hears what guards do."""

    __slots__ = ("_lock", "_now", "_on_bind", "_report", "_storage", "bound", "guards", "snapshot", "states")

    def __init__(
        self,
        snapshot: Snapshot,
        now: float,
        previous: Live | None = None,
        on_bind: Callable[[BoundCluster], None] | None = None,
        storage: Storage | None = None,
        report: Report | None = None,
    ) -> None:
        self.snapshot = snapshot
        self._storage = storage
        self._report = report
        self.guards: dict[str, Guard] = {}
        self._now = now
        self._lock = RLock()
        self._on_bind = on_bind
        self.bound: dict[str, BoundCluster] = {}
        self.states: dict[str, ClusterState] = {}
        if previous is not None:
            with previous._lock:
                self.states = {key: s for key, s in previous.states.items() if key in snapshot.clusters}
                before = dict(previous.bound)
                self.guards = {
                    host: guard if guard.settings == wanted else Guard(wanted, guard, storage, report)
                    for host, guard in previous.guards.items()
                    if (wanted := snapshot.resilience.get(host)) is not None
                }
            # clusters that the reload did not touch stay as they are; others in use are bound at once, so that their
            # endpoints and limits count from its first moment
            for key in self.states:
                old = before.get(key)
                same_guard = old is not None and old.guard is self.guards.get(old.spec.host)
                if old is not None and same_guard and snapshot.clusters[key] is old.spec:
                    self.bound[key] = old
                else:
                    self._inherit(self._bind(key), old)

    @staticmethod
    def _inherit(bound: BoundCluster, old: BoundCluster | None) -> None:
        """Connections are kept when nothing about connecting has changed."""
        if old is None or (old.spec.limits, old.spec.tls, old.spec.http2) != (
            bound.spec.limits,
            bound.spec.tls,
            bound.spec.http2,
        ):
            return
        members = set(bound.endpoints)
        for key, target in list(old.targets.items()):
            if (key[0] if isinstance(key, tuple) else key) in members:
                bound.targets[key] = target

    def cluster(self, key: str) -> BoundCluster:
        """The bound cluster; ``key`` is one of the snapshot's."""
        return self.bound.get(key) or self._bind(key)

    def after_fork(self) -> None:
        """In a forked child: forget what belongs to the parent's threads, keep what was learnt (ejections, balancers)."""
        self._lock = RLock()
        for state in self.states.values():
            state.after_fork()
        for guard in self.guards.values():
            guard.after_fork()

    def _guard(self, host: str) -> Guard | None:
        wanted = self.snapshot.resilience.get(host)
        if wanted is None:
            return None
        found = self.guards.get(host)
        if found is None:
            found = self.guards[host] = Guard(wanted, None, self._storage, self._report)
        return found

    def _bind(self, key: str) -> BoundCluster:
        with self._lock:
            found = self.bound.get(key)
            if found is None:
                state = self.states.get(key)
                if state is None:
                    state = self.states[key] = ClusterState(key)
                spec = self.snapshot.clusters[key]
                found = self.bound[key] = BoundCluster(spec, state, self._now, self._guard(spec.host))
                if self._on_bind is not None and self.snapshot.clusters[key].resolution in ("dns", "logical_dns"):
                    self._on_bind(found)
            return found


def seeded(seed: int | None) -> random.Random:
    """The mesh's random numbers: all of them replay from ``seed``."""
    return random.Random(seed)
