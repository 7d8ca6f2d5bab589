"""The state of meshes in the files of PROMETHEUS_MULTIPROC_DIR, where nobody scrapes the process: what changed is added to
counters, and gauges are set, whenever somebody says so (a mesh does, every ten seconds and when it is closed).

How the gauges of several processes become one: what is used and held is added up (connections, attempts under way); of what
each process knows for itself, the worst counts (the fewest usable endpoints, the oldest configuration, the soonest expiry).
Gauges are those of live processes: gunicorn's ``child_exit`` hook has to tell prometheus_client of the others
(``mark_process_dead``), as for the application's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

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


class WrittenState:
    """Writes what ``samples`` has: the state of the meshes of one registry."""

    def __init__(self, samples: Callable[[], Iterable[Owned]]) -> None:
        self._samples = samples
        self._lock = threading.RLock()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._written: dict[Series, float] = {}

    def write(self) -> None:
        """As of now. Nothing can be taken out of the files: a series that is gone gets the value that has no weight."""
        with self._lock:
            found = self._read()
            for (family, labels), number in found.items():
                if family.counts:
                    before = self._written.get((family, labels), 0.0)
                    # smaller than before: a cluster that had gone is back, and begins anew
                    self._counter(family).labels(*labels).inc(number - before if number >= before else number)
                else:
                    self._gauge(family).labels(*labels).set(number)
            for family, labels in self._written.keys() - found.keys():
                if not family.counts:
                    self._gauge(family).labels(*labels).set(float("inf") if family in LEAST else 0.0)
            self._written = found

    def after_fork(self) -> None:
        """In a forked child: what was counted before is its parent's to write."""
        self._lock = threading.RLock()
        self._written = self._read()

    def _read(self) -> dict[Series, float]:
        return {(family, (*owner, *values)): number for owner, (family, values, number) in self._samples()}

    def _counter(self, family: Family) -> Counter:
        from prometheus_client import Counter

        found = self._counters.get(family.name)
        if found is None:
            found = Counter(family.name, family.documentation, (*OWNER, *family.labels), registry=None)
            self._counters[family.name] = found
        return found

    def _gauge(self, family: Family) -> Gauge:
        from prometheus_client import Gauge

        found = self._gauges.get(family.name)
        if found is None:
            found = Gauge(
                family.name,
                family.documentation,
                (*OWNER, *family.labels),
                registry=None,
                multiprocess_mode="livesum" if family in ADDED_UP else "livemin" if family in LEAST else "livemax",
            )
            self._gauges[family.name] = found
        return found


def writer_of(collector: StateCollector) -> WrittenState:
    """What writes the state of the meshes of a registry; one a registry."""
    if not isinstance(collector.writer, WrittenState):
        collector.writer = WrittenState(collector.samples)
    return collector.writer
