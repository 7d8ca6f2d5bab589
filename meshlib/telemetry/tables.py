"""Metrics as tables: plain numbers for each set of labels, which prometheus_client renders when it is scraped.

To a call prometheus_client's own counters cost more than the whole retry policy. Here a call adds to two numbers, and all
else is done by who looks. Nothing here takes a lock, so that whatever holds one of a registry may meet a call that ends:
adding to a number of an object is one step to other threads, as CPython looks for those at calls and backward jumps only.
(An interpreter without the GIL gets a lock.)

Where prometheus_client writes its values to files, for PROMETHEUS_MULTIPROC_DIR, nobody scrapes the process: there its own
counters stand in for the tables (``written_elsewhere``), and a call writes at once.
"""

from __future__ import annotations

import os
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshlib.clock import SystemClock
from meshlib.telemetry.label_sets import Admitted, LabelSets
from meshlib.telemetry.own_labels import BothCounted, BothObserved, OwnLabels

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram, Metric

    from meshlib.telemetry.table_families import Counted, Exemplar, Observed

Labels = tuple[str, ...]

now = SystemClock().time


class Count(Protocol):
    """What goes up: one series of a counter, prometheus_client's own or a table's."""

    def inc(self, amount: float = 1, /) -> None: ...


class Counts(Protocol):
    """A counter by labels, prometheus_client's own or a table."""

    def labels(self, *labels: str) -> Count: ...


class Calls(Protocol):
    """One series of calls: how many, and how long they took."""

    def observe(self, milliseconds: float, /) -> None:
        """One call has ended."""
        ...


class CallsByLabels(Protocol):
    def labels(self, *labels: str) -> Calls: ...

    def timed(self, names: Labels, values: Labels) -> Calls:
        """The series of the histogram alone, with labels of its own names."""
        ...


class CountedCalls(CallsByLabels, Protocol):
    def counted(self, names: Labels, values: Labels) -> Count:
        """The series of the counter alone, with labels of its own names."""
        ...


class CountsByNames(Counts, Protocol):
    def counted(self, names: Labels, values: Labels) -> Count:
        """The series with labels of its own names."""
        ...


class Owed(Protocol):
    """What is noted of calls, and not added to their series yet."""

    def settle(self) -> None: ...


class CountSeries:
    """A number, and when it began (seconds since 1970)."""

    __slots__ = ("began", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.began = now()

    def inc(self, amount: float = 1, /) -> None:
        self.value += amount

    def counted(self) -> float:
        """What has been counted."""
        return self.value


class CallSeries:
    """Calls by how long they took: ``counts`` of each bucket alone, and the sum in milliseconds. The number of calls is the
    sum of the counts. ``owed`` is what is noted and not added yet; ``exemplars`` has the latest of each bucket, None: none."""

    __slots__ = ("began", "bounds", "counts", "exemplars", "owed", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.began = now()
        self.owed: list[Owed] = []
        self.exemplars: list[tuple[int | bytes, int | bytes, float, float] | None] | None = None

    def observe(self, milliseconds: float) -> None:
        self.counts[bisect_left(self.bounds, milliseconds)] += 1
        self.sum += milliseconds

    def exemplify(self, milliseconds: float, trace_id: int | bytes, span_id: int | bytes) -> None:
        """A call that is observed, too, is the example of its bucket from now on: by its span, whose ids are numbers, or in
        hexadecimal."""
        exemplars = self.exemplars
        if exemplars is None:
            exemplars = self.exemplars = [None] * len(self.counts)
        exemplars[bisect_left(self.bounds, milliseconds)] = trace_id, span_id, milliseconds, now()

    def counted(self) -> float:
        """How many calls."""
        return float(sum(self.read()[0]))

    def read(self) -> tuple[list[int], float, list[Exemplar | None] | None]:
        """How many calls each bucket alone has, the sum, and exemplars, with all that is noted."""
        for each in self.owed:
            each.settle()
        total, kept = self.sum, self.exemplars
        return self.counts[:], total, None if kept is None else [each and _exemplar(*each) for each in kept]


def _exemplar(trace_id: int | bytes, span_id: int | bytes, milliseconds: float, at: float) -> Exemplar:
    trace, span = [
        each.decode() if isinstance(each, bytes) else f"{each:0{digits}x}"
        for each, digits in ((trace_id, 32), (span_id, 16))
    ]
    return {"trace_id": trace, "span_id": span}, milliseconds, at


def durations_of(calls: object) -> CallSeries | None:
    """Where the durations of calls are that are observed in ``calls``: itself, or what it hands them on to; None: elsewhere
    (in files, or nowhere)."""
    while not isinstance(calls, CallSeries):
        calls = getattr(calls, "durations", None)
        if calls is None:
            return None
    return calls


_adding = threading.Lock()
os.register_at_fork(after_in_child=_adding._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


class LockedCountSeries(CountSeries):
    """For an interpreter without the GIL."""

    __slots__ = ()

    def inc(self, amount: float = 1, /) -> None:
        with _adding:
            self.value += amount


class LockedCallSeries(CallSeries):
    """For an interpreter without the GIL."""

    __slots__ = ()

    def observe(self, milliseconds: float) -> None:
        with _adding:
            super().observe(milliseconds)


if getattr(sys, "_is_gil_enabled", lambda: True)():
    NewCount: type[CountSeries] = CountSeries
    NewCalls: type[CallSeries] = CallSeries
else:
    NewCount, NewCalls = LockedCountSeries, LockedCallSeries

S = TypeVar("S", CountSeries, CallSeries)


class _Table(Generic[S]):
    """A collector of prometheus_client, made once a registry."""

    __slots__ = ("__weakref__", "_make", "_names", "_series", "label_sets")

    def __init__(self, name: str, names: Sequence[str], make: Callable[[], S]) -> None:
        self._names = names
        self._make: Callable[[], S] = make
        self._series: dict[Labels, S] = {}
        self.label_sets = LabelSets(name, names)

    def labels(self, *labels: str) -> S:
        """The series, made when there is none yet and there is room for it (``label_sets.py``)."""
        found = self._series.get(labels)
        if found is not None:
            return found
        admitted = self.label_sets.admit(labels, self._series)
        # whoever comes first, all threads get the same
        return self._series.setdefault(admitted, self._make())

    def rows(self) -> list[tuple[Labels, S]]:
        """Every series with its labels."""
        return list(self._series.items())


class CountTable(_Table[CountSeries]):
    """A counter by labels."""

    __slots__ = ("_documentation", "_name", "_own")

    def __init__(self, name: str, documentation: str, names: Sequence[str]) -> None:
        super().__init__(name, names, lambda: NewCount())
        self._name = name
        self._documentation = documentation
        self._own: OwnLabels[CountSeries] = OwnLabels(lambda: NewCount())

    def counted(self, names: Labels, values: Labels) -> CountSeries:
        """The series with labels of these names."""
        return self.labels(*values) if names == tuple(self._names) else self._own.labels(names, values)

    def describe(self) -> Iterable[Metric]:
        """The family, without samples."""
        return [self._family([], False)]

    def collect(self) -> Iterable[Metric]:
        """The family, as of when its samples are read."""
        return [self._family(list(self._series.items()), shows_created())]

    def _family(self, series: list[tuple[Labels, CountSeries]], created: bool) -> Metric:
        from meshlib.telemetry.table_families import CountFamily

        return CountFamily(self._name, self._documentation, self._names, series, created, self._own.rows())


class CallTable(_Table[CallSeries]):
    """A counter of calls and a histogram of their duration, by the same labels. ``(name, documentation)`` of each; ``bounds``
    are the upper ends of the buckets in milliseconds."""

    __slots__ = ("_bounds", "_counter", "_counts", "_histogram", "_times")

    def __init__(
        self, counter: tuple[str, str], histogram: tuple[str, str], names: Sequence[str], bounds: Sequence[float]
    ) -> None:
        super().__init__(counter[0], names, lambda: NewCalls(bounds))
        self._counter = counter
        self._histogram = histogram
        self._bounds = bounds
        self._counts: OwnLabels[CountSeries] = OwnLabels(lambda: NewCount())
        self._times: OwnLabels[CallSeries] = OwnLabels(lambda: NewCalls(bounds))

    def counted(self, names: Labels, values: Labels) -> CountSeries:
        """The series of the counter alone, with labels of these names."""
        return self._counts.labels(names, values)

    def timed(self, names: Labels, values: Labels) -> CallSeries:
        """The series of the histogram alone, with labels of these names."""
        return self._times.labels(names, values)

    def describe(self) -> Iterable[Metric]:
        """The families, without samples."""
        return self._families([], False)

    def collect(self) -> Iterable[Metric]:
        """The families, as of when their samples are read."""
        return self._families(list(self._series.items()), shows_created())

    def _families(self, series: list[tuple[Labels, CallSeries]], created: bool) -> list[Metric]:
        from meshlib.telemetry.table_families import CountFamily, HistogramFamily

        names, alone = self._names, self._counts.among(self._names)
        counters: list[tuple[Labels, Counted]] = [
            (labels, BothCounted(each, alone.pop(labels)) if labels in alone else each) for labels, each in series
        ]
        timed = self._times.among(names)
        histograms: list[tuple[Labels, Observed]] = [
            (labels, BothObserved(each, timed.pop(labels)) if labels in timed else each) for labels, each in series
        ]
        return [
            CountFamily(*self._counter, names, [*counters, *alone.items()], created, self._counts.beside(names)),
            HistogramFamily(
                *self._histogram, names, self._bounds, [*histograms, *timed.items()], created, self._times.beside(names)
            ),
        ]


class SizeTable(_Table[CallSeries]):
    """A histogram of bytes by labels. A series is one of calls, whose "milliseconds" are bytes."""

    __slots__ = ("_bounds", "_documentation", "_name", "_own")

    def __init__(self, name: str, documentation: str, names: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, names, lambda: NewCalls(bounds))
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._own: OwnLabels[CallSeries] = OwnLabels(lambda: NewCalls(bounds))

    def timed(self, names: Labels, values: Labels) -> CallSeries:
        """The series with labels of these names."""
        return self.labels(*values) if names == tuple(self._names) else self._own.labels(names, values)

    def describe(self) -> Iterable[Metric]:
        """The family, without samples."""
        return [self._family([], False)]

    def collect(self) -> Iterable[Metric]:
        """The family, as of when its samples are read."""
        return [self._family(list(self._series.items()), shows_created())]

    def _family(self, series: list[tuple[Labels, CallSeries]], created: bool) -> Metric:
        from meshlib.telemetry.table_families import HistogramFamily

        return HistogramFamily(
            self._name, self._documentation, self._names, self._bounds, series, created, self._own.rows()
        )


class WrittenCounts:
    """Series of a counter that prometheus_client writes to its files. ``make`` makes a counter with labels of other names, that
    is registered nowhere: the files are read by name and labels."""

    __slots__ = ("_admitted", "_counter", "_make", "_own")

    def __init__(self, counter: Counter, make: Callable[[Sequence[str]], Counter]) -> None:
        self._counter = counter
        self._make = make
        self._own: dict[Labels, Counter] = {}
        self._admitted = Admitted(counter._name, counter._labelnames)

    def labels(self, *labels: str) -> Count:
        """The series."""
        return self._counter.labels(*self._admitted.of(labels))

    def counted(self, names: Labels, values: Labels) -> Count:
        """The series with labels of these names."""
        return _own(self._own, names, self._make).labels(*values)


class WrittenSizes:
    """Series of bytes that prometheus_client writes to its files. ``make`` makes a histogram with labels of other names, that
    is registered nowhere."""

    __slots__ = ("_admitted", "_histogram", "_make", "_own")

    def __init__(self, histogram: Histogram, make: Callable[[Sequence[str]], Histogram] | None = None) -> None:
        self._histogram = histogram
        self._make = make
        self._own: dict[Labels, Histogram] = {}
        self._admitted = Admitted(histogram._name, histogram._labelnames)

    def timed(self, names: Labels, values: Labels) -> WrittenSizes:
        """The series with labels of these names."""
        return WrittenSizes(_own(self._own, names, self._make).labels(*values))

    def labels(self, *labels: str) -> WrittenSizes:
        """The series."""
        return WrittenSizes(self._histogram.labels(*self._admitted.of(labels)))

    def observe(self, size: float) -> None:
        """One message of so many bytes."""
        self._histogram.observe(size)


class WrittenCalls:
    """Series of calls that prometheus_client writes to its files."""

    __slots__ = ("_admitted", "_count", "_counter", "_counters", "_histogram", "_time", "_times")

    def __init__(
        self,
        counter: Counter,
        histogram: Histogram,
        count: Callable[[Sequence[str]], Counter] | None = None,
        time: Callable[[Sequence[str]], Histogram] | None = None,
    ) -> None:
        self._counter = counter
        self._histogram = histogram
        self._count, self._time = count, time
        self._counters: dict[Labels, Counter] = {}
        self._times: dict[Labels, Histogram] = {}
        self._admitted = Admitted(histogram._name, histogram._labelnames)

    def counted(self, names: Labels, values: Labels) -> Count:
        """The series of the counter alone, with labels of these names."""
        return _own(self._counters, names, self._count).labels(*values)

    def timed(self, names: Labels, values: Labels) -> WrittenSizes:
        """The series of the histogram alone, with labels of these names."""
        return WrittenSizes(_own(self._times, names, self._time).labels(*values))

    def labels(self, *labels: str) -> WrittenCalls:
        """The series."""
        admitted = self._admitted.of(labels)
        return WrittenCalls(self._counter.labels(*admitted), self._histogram.labels(*admitted))

    def observe(self, milliseconds: float) -> None:
        """One call has ended."""
        self._counter.inc()
        self._histogram.observe(milliseconds)

    def samples(self) -> Iterable[tuple[str, dict[str, str], float]]:
        """(Ending of the name, labels, value) of each number of the histogram that this process has."""
        before = len(self._histogram._name)
        for family in self._histogram.collect():
            for sample in family.samples:
                yield sample.name[before:], sample.labels, sample.value


W = TypeVar("W")


def _own(there: dict[Labels, W], names: Labels, make: Callable[[Sequence[str]], W] | None) -> W:
    found = there.get(names)
    if found is None:
        assert make is not None, "a series has no series"
        found = there.setdefault(names, make(names))
    return found


def written_elsewhere() -> bool:
    """Whether prometheus_client keeps its values elsewhere than in this process: in the files of PROMETHEUS_MULTIPROC_DIR, or
    wherever the application's own value class does."""
    from prometheus_client import values

    return values.ValueClass is not values.MutexValue


def shows_created() -> bool:
    """Whether prometheus_client shows when a series began (its ``disable_created_metrics``)."""
    from prometheus_client import Counter

    (family,) = Counter("probe", "Registered nowhere.", registry=None).collect()
    return any(sample.name == "probe_created" for sample in family.samples)
