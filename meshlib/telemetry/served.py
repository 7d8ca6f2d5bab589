"""Calls of HTTP, noted when they end and added to their series many at a time.

Three histograms for each call, one after the other, cost as much as all else that is done for one that is served (row
asgi-cost of the benchmarks). A call only appends three numbers here, or one, where its sizes are those of most. They are added
when there are many, sorted, which needs one look for each bucket; and before anybody reads the series (``tables.py``), so that
a scrape misses nothing.

As in the tables nothing takes a lock: to append, and to take what was appended, is one step to other threads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from meshlib.telemetry.tables import CallSeries

MOST = 3 * 128
"""Numbers that wait: three a call. As many again, of calls with the same sizes: one each."""
FEW = 3 * 16
"""The same where there is little to be noted, which is of nearly all label sets where there are many: what waits is memory."""
MOST_LARGE = 256
"""How many may have ``MOST``: those that are filled first."""

_large: list[int] = []


class Served:
    """Duration and sizes of the calls with one set of labels: ``noted`` has (milliseconds, bytes of the request, bytes of the
    response) of each, flat; ``took`` has the milliseconds of those with ``sent`` and ``received`` bytes."""

    __slots__ = ("_series", "exemplify", "most", "noted", "received", "sent", "took")

    def __init__(self, durations: CallSeries, requests: CallSeries, responses: CallSeries) -> None:
        self._series = durations, requests, responses
        self.exemplify = durations.exemplify
        """A call that is noted is the example of those that take as long."""
        self.noted: list[float] = []
        self.took: list[float] = []
        self.sent = self.received = -1
        self.most = FEW

    def note(self, took: float, sent: int, received: int) -> None:
        """One more call: its milliseconds, bytes of the request and bytes of the response."""
        if (
            sent == self.sent and received == self.received
        ):  # no call from here on: another thread may take what is noted
            noted = self.took
            noted.append(took)
        else:
            numbers = took, sent, received
            noted = self.noted
            noted.extend(numbers)
        if len(noted) >= self.most:
            self.filled()

    def filled(self) -> None:
        """There is no room for more."""
        if self.most == FEW and len(_large) < MOST_LARGE:
            _large.append(1)  # one step: threads may do so at once, and a few too many are no matter
            self.most = MOST
            return
        self.settle()

    def settle(self) -> None:
        """Add what is noted."""
        took, self.took, sent, received = self.took, [], self.sent, self.received
        noted, self.noted = self.noted, []
        durations, requests, responses = self._series
        if took:
            _add(durations, sorted(took))
            _add_same(requests, sent, len(took))
            _add_same(responses, received, len(took))
        if noted:
            for n, series in enumerate(self._series):
                _add(series, sorted(noted[n::3]))
            sent, received = int(noted[-2]), int(noted[-1])
            if not self.took:  # no call from here on: nobody has noted anything of the old sizes
                self.sent = sent
                self.received = received


def served_of(durations: CallSeries, requests: CallSeries, responses: CallSeries) -> Served:
    """That of these series: the same for every mesh and thread that asks."""
    owed = durations.owed
    if not owed:
        owed.append(Served(durations, requests, responses))  # several threads may: the first counts
    requests.owed = responses.owed = owed
    found = owed[0]
    assert isinstance(found, Served)
    return found


def served_by(durations: object, requests: object, responses: object) -> Served | None:
    """That of three series which are plain numbers of this process; None: there are others (files of prometheus_client, an
    interpreter without the GIL)."""
    if type(durations) is CallSeries and type(requests) is CallSeries and type(responses) is CallSeries:
        return served_of(durations, requests, responses)
    return None


def _add(series: CallSeries, values: list[float]) -> None:
    """As ``CallSeries.observe`` would, one after the other. Only buckets between the least and the greatest are looked at: of
    sizes these are mostly the same one."""
    counts, bounds, before = series.counts, series.bounds, 0
    bucket, last = bisect_left(bounds, values[0]), bisect_left(bounds, values[-1])
    while bucket < last:
        upto = bisect_right(values, bounds[bucket], before)
        counts[bucket] += upto - before
        before = upto
        bucket += 1
    rest, total = len(values) - before, sum(values)
    counts[last] += rest
    series.sum += total


def _add_same(series: CallSeries, value: int, times: int) -> None:
    """The same for one value."""
    series.counts[bisect_left(series.bounds, value)] += times
    series.sum += value * times
