"""``Live``: a snapshot with its clusters at work."""

from __future__ import annotations

import random
from threading import RLock
from typing import TYPE_CHECKING, Any

from meshlib.changes import changed_keys
from meshlib.engine.check_failures import CheckFailures
from meshlib.engine.cluster import BoundCluster, endpoint_of
from meshlib.engine.cluster_state import ClusterState
from meshlib.engine.guard import Guard, Report, Storage
from meshlib.engine.locked_cluster import NewCluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.compiler.routes import Rule, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.plan import Plan
    from meshlib.policy.outlier import Ejection


class Live:
    """A snapshot and its bound clusters. Clusters are bound when first used: a client of a thousand services talks to
    a few. ``on_bind`` is called for each cluster that is bound (the resolver looks after its names); ``storage`` makes the
    storage of a circuit breaker, ``report`` hears what guards do, and ``on_ejection`` of each ejection and return, with the key
    of its cluster."""

    __slots__ = (
        "_followed",
        "_left",
        "_lock",
        "_now",
        "_on_bind",
        "_on_ejection",
        "_report",
        "_storage",
        "bound",
        "check_failures",
        "guards",
        "plain",
        "snapshot",
        "states",
        "taken",
        "tells",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        now: float,
        previous: Live | None = None,
        on_bind: Callable[[BoundCluster], None] | None = None,
        storage: Storage | None = None,
        report: Report | None = None,
        on_ejection: Callable[[str, Ejection], None] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.tells = False
        """Whether calls note what they were answered with, for those who tell of it (an access log)."""
        self._storage = storage
        self._report = report
        self._on_ejection = on_ejection
        self.guards: dict[str, Guard] = {}
        self._now = now
        self._lock = RLock()
        self._on_bind = on_bind
        self.bound: dict[str, BoundCluster] = {}
        self.plain: dict[Rule | None, Plan | None] = {}
        """Of rules that calls took: the plan, where they ask for nothing but an attempt (``plain_call.py``), or None."""
        self.taken: dict[object, tuple[VirtualHost, Rule | None, str]] = {}
        """The rules of requests that have nothing of their own, by what such requests have in common (``route_again``)."""
        self.states: dict[str, ClusterState] = {}
        self._left: dict[str, BoundCluster] = {}
        self._followed = 0
        self.check_failures: CheckFailures = CheckFailures() if previous is None else previous.check_failures
        if previous is not None:
            self._follow(previous)

    def _follow(self, previous: Live) -> None:
        """What is known of clusters stays; those in use that the reload touched are bound at once, so that their endpoints and
        limits count from its first moment. Costs what has changed."""
        before, now = previous.snapshot, self.snapshot
        with previous._lock:
            self.states, self.bound = dict(previous.states), dict(previous.bound)
            self.guards = dict(previous.guards)
            self._followed = len(self.bound)
            touched = set(now.changed_clusters(before))
            guarded = self._follow_guards(*changed_keys(before.resilience, now.resilience))
            if guarded:
                touched.update(key for key, bound in self.bound.items() if bound.spec.host in guarded)
            for key in touched:
                old = self.bound.pop(key, None)
                if old is not None:
                    self._left[key] = old
                if key not in now.clusters:
                    self.states.pop(key, None)
                elif key in self.states:
                    self._inherit(self._bind(key), old)

    def take_left_of(self, previous: Live) -> dict[str, BoundCluster]:
        """What was bound in the ``previous`` one, which this followed, and is not here as it was. Told once."""
        left, self._left = self._left, {}
        if len(previous.bound) == self._followed:
            return left
        # some were bound meanwhile
        return {key: previous.bound[key] for key in changed_keys(self.bound, dict(previous.bound))[0]}

    def _follow_guards(self, touched: list[str], gone: list[str]) -> set[str]:
        """The hosts whose guard is not what it was."""
        other = set()
        for host in (*touched, *gone):
            guard, wanted = self.guards.pop(host, None), self.snapshot.resilience.get(host)
            if guard is not None and guard.settings == wanted:
                self.guards[host] = guard
                continue
            other.add(host)
            if guard is not None and wanted is not None:
                self.guards[host] = Guard(wanted, guard, self._storage, self._report)
        return other

    @staticmethod
    def _inherit(bound: BoundCluster, old: BoundCluster | None) -> None:
        """Connections are kept when nothing about connecting has changed."""
        if old is None or (old.spec.limits, old.tls, old.spec.http2) != (
            bound.spec.limits,
            bound.tls,
            bound.spec.http2,
        ):
            return
        if bound.spec.resolution == "passthrough":
            return
        members = bound.state.endpoints
        for key, target in list(old.targets.items()):
            endpoint: Any = endpoint_of(key)
            if members.get(endpoint.key) is endpoint:
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
                    state = self.states[key] = ClusterState(key, self._on_ejection)
                spec = self.snapshot.clusters[key]
                found = self.bound[key] = NewCluster(spec, state, self._now, self._guard(spec.host))
                if self._on_bind is not None and self.snapshot.clusters[key].resolution in ("dns", "logical_dns"):
                    self._on_bind(found)
            return found


def seeded(seed: int | None) -> random.Random:
    """The mesh's random numbers: all of them replay from ``seed``."""
    return random.Random(seed)
