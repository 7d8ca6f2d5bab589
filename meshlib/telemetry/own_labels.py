"""Series of a family that have labels of their own: Telemetries add tags to a metric, and take some away.

A family of prometheus_client has the same labels throughout; the formats do not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from meshlib.telemetry.table_families import Counted, Exemplar, Observed

Labels = tuple[str, ...]
S = TypeVar("S")


class OwnLabels(Generic[S]):
    """Series by the names of their labels, then by the values. Whoever comes first, all threads get the same."""

    __slots__ = ("_make", "_series")

    def __init__(self, make: Callable[[], S]) -> None:
        self._make = make
        self._series: dict[Labels, dict[Labels, S]] = {}

    def labels(self, names: Labels, values: Labels) -> S:
        """The series, made when there is none yet."""
        there = self._series.get(names)
        if there is None:
            there = self._series.setdefault(names, {})
        found = there.get(values)
        return there.setdefault(values, self._make()) if found is None else found

    def rows(self) -> list[tuple[Labels, list[tuple[Labels, S]]]]:
        """Every series, with the names and the values of its labels."""
        return [(names, list(there.items())) for names, there in list(self._series.items())]

    def beside(self, names: Sequence[str]) -> list[tuple[Labels, list[tuple[Labels, S]]]]:
        """Those whose labels have other names than these."""
        return [(others, rows) for others, rows in self.rows() if others != tuple(names)]

    def among(self, names: Sequence[str]) -> dict[Labels, S]:
        """Those whose labels have these names."""
        return dict(self._series.get(tuple(names), {}))


class BothCounted:
    """Two counters that are shown as one: while one of two metrics that are otherwise counted together has tags of its own,
    the other one goes on."""

    __slots__ = ("_one", "_other", "began")

    def __init__(self, one: Counted, other: Counted) -> None:
        self._one, self._other = one, other
        self.began = min(one.began, other.began)

    def counted(self) -> float:
        """Of both."""
        return self._one.counted() + self._other.counted()


class BothObserved(BothCounted):
    """Likewise of histograms with the same buckets."""

    __slots__ = ("_first", "_second")

    def __init__(self, one: Observed, other: Observed) -> None:
        super().__init__(one, other)
        self._first, self._second = one, other

    def read(self) -> tuple[list[int], float, list[Exemplar | None] | None]:
        """Of both; where both have an exemplar the second's, which is younger."""
        counts, total, kept = self._first.read()
        more, further, others = self._second.read()
        if kept is None or others is None:
            shown = kept if others is None else others
        else:
            shown = [mine if other is None else other for mine, other in zip(kept, others, strict=True)]
        return [a + b for a, b in zip(counts, more, strict=True)], total + further, shown
