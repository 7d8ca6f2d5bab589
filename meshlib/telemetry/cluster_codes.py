"""Calls by cluster and status, for those who want Envoy's statistics: counted with the call's own series, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.telemetry.tables import CountSeries, NewCount

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange
    from meshlib.telemetry.tables import Calls


class CountedForCluster:
    """A series of calls that count for a cluster, too."""

    __slots__ = ("_count", "durations")

    def __init__(self, durations: Calls, count: CountSeries) -> None:
        self.durations = durations
        self._count = count

    def observe(self, milliseconds: float, /) -> None:
        """One call has ended."""
        self._count.inc()
        self.durations.observe(milliseconds)


class ClusterCodes:
    """How many calls to a cluster ended with which status."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], CountSeries] = {}

    def around(self, series: Calls, record: Exchange) -> Calls:
        """The series of calls like this one, which counts here too: those that came as far as a cluster. An injected abort
        did not, and a caller that gave up has no status."""
        destination = record.destination
        if destination is None or not destination.cluster or not record.status or "FI" in record.flags.split(","):
            return series
        count = self._counts.setdefault((destination.cluster, record.status), NewCount())
        return CountedForCluster(series, count)

    def read(self) -> dict[tuple[str, int], int]:
        """By cluster key and status."""
        return {key: int(count.value) for key, count in list(self._counts.items())}
