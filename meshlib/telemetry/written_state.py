"""The state of meshes in the files of PROMETHEUS_MULTIPROC_DIR, where nobody scrapes the process: what changed is added to
counters, and gauges are set, whenever somebody says so (a mesh does, every ten seconds and when it is closed).

How the gauges of several processes become one: what is used and held is added up (connections, attempts under way); of what
each process knows for itself, the worst counts (the fewest usable endpoints, the oldest configuration, the soonest expiry).
Gauges are those of live processes: gunicorn's ``child_exit`` hook has to tell prometheus_client of the others
(``mark_process_dead``), as for the application's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from meshlib.telemetry import mesh_metrics as metrics
from meshlib.telemetry.mesh_metrics import OWNER, Family, Sample, StateCollector

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

Owned = tuple[tuple[str, ...], Sample]
Series = tuple[Family, tuple[str, ...]]

ADDED_UP = frozenset((
    metrics.ACTIVE,
    metrics.BULKHEAD,
    metrics.BUDGET,
    metrics.CALLS,
    metrics.CONNECTIONS,
    metrics.PENDING,
    metrics.RETRIES_ACTIVE,
))  # fmt: skip
"""Gauges of which each process has a part. (Limits hold for each process, and are not added up.)"""
LEAST = frozenset((
    metrics.CONFIG_SUCCESS,
    metrics.CONCURRENCY,
    metrics.EXPIRY,
    metrics.HEALTHY,
    metrics.MAX_BUDGET,
    metrics.READY,
    metrics.TRUST,
    metrics.USABLE,
))  # fmt: skip
"""Gauges of which the least is the worst; of the others the greatest is."""

Mode = Literal["counter", "livesum", "livemin", "livemax", "sum"]
"""How the series of several processes become one: a counter's, or by prometheus_client's names those of gauges. ``sum``: of
processes that have ended, too, which is for what only grows and has no name that a counter may have."""


def mode_of(family: Family) -> Mode:
    """Of our own families."""
    if family.counts:
        return "counter"
    return "livesum" if family in ADDED_UP else "livemin" if family in LEAST else "livemax"


class WrittenState:
    """Writes what ``samples`` has: the state of the meshes of one registry. ``owner`` are the names of its owner's labels."""

    def __init__(
        self,
        samples: Callable[[], Iterable[Owned]],
        owner: Sequence[str] = OWNER,
        mode: Callable[[Family], Mode] = mode_of,
    ) -> None:
        self._samples = samples
        self._owner = tuple(owner)
        self._mode = mode
        self._lock = threading.RLock()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[Family, Gauge] = {}
        self._written: dict[Series, float] = {}

    def write(self) -> None:
        """As of now. Nothing can be taken out of the files: a series that is gone gets the value that has no weight."""
        with self._lock:
            found = self._read()
            for (family, labels), number in found.items():
                if self._grows(family):
                    before = self._written.get((family, labels), 0.0)
                    series = self._counter(family) if self._mode(family) == "counter" else self._gauge(family)
                    # smaller than before: a cluster that had gone is back, and begins anew
                    series.labels(*labels).inc(number - before if number >= before else number)
                else:
                    self._gauge(family).labels(*labels).set(number)
            for family, labels in self._written.keys() - found.keys():
                if not self._grows(family):
                    no_weight = float("inf") if self._mode(family) == "livemin" else 0.0
                    self._gauge(family).labels(*labels).set(no_weight)
            self._written = found

    def after_fork(self) -> None:
        """In a forked child: what was counted before is its parent's to write."""
        self._lock = threading.RLock()
        self._written = self._read()

    def _read(self) -> dict[Series, float]:
        return {(family, (*owner, *values)): number for owner, (family, values, number) in self._samples()}

    def _grows(self, family: Family) -> bool:
        return self._mode(family) in ("counter", "sum")

    def _counter(self, family: Family) -> Counter:
        from prometheus_client import Counter

        found = self._counters.get(family.name)
        if found is None:
            found = Counter(family.name, family.documentation, (*self._owner, *family.labels), registry=None)
            self._counters[family.name] = found
        return found

    def _gauge(self, family: Family) -> Gauge:
        from prometheus_client import Gauge

        found = self._gauges.get(family)
        if found is None:
            names = (*self._owner, *family.labels)
            mode = self._mode(family)
            assert mode != "counter"
            found = Gauge(family.name, family.documentation, names, registry=None, multiprocess_mode=mode)
            self._gauges[family] = found
        return found


def writer_of(
    collector: StateCollector, owner: Sequence[str] = OWNER, mode: Callable[[Family], Mode] = mode_of
) -> WrittenState:
    """What writes the state of the meshes of a registry; one a registry."""
    if not isinstance(collector.writer, WrittenState):
        collector.writer = WrittenState(collector.samples, owner, mode)
    return collector.writer
