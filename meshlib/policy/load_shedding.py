"""When a server has more to do than it can (ResiliencePolicy ``spec.inbound.loadShedding``), and whom it turns away first.

What is looked at is how late things run: callbacks of an event loop, or requests that stood in line for a thread of a pool.
The busy CPU says nothing of handlers that block, and an average nothing of the few that do: a loop whose handlers
block for 300 ms now and then is on time half of the time. So what counts is the 99th percentile of short windows.
"""

from __future__ import annotations

import math

WINDOW = 0.1
"""Seconds whose measurements are looked at together."""

SHARES = {"low": 0.5, "normal": 0.8, "high": 1.0}
"""How much of each limit requests of a priority may use up, where there are priorities: who matters less is turned away first.
``critical`` ones are never turned away."""
PRIORITIES = ("critical", "high", "normal", "low")


class Lateness:
    """How late one loop or pool runs. Not for several threads at once: the caller sees to that."""

    __slots__ = ("_began", "_due", "_last", "_last_ended", "_samples")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._began = -math.inf
        self._last = 0.0  # the 99th percentile of the window before
        self._last_ended = -math.inf
        self._due = math.inf  # when the next measurement was to come

    def expect(self, due: float) -> None:
        """The next measurement is to come at ``due``."""
        self._due = due

    def record(self, late: float, now: float) -> None:
        """Something ran ``late`` seconds late."""
        if now - self._began >= WINDOW:
            self._end(now)
        self._samples.append(late)

    def stop(self) -> None:
        """Nothing more is to come for now: that it does not come means nothing."""
        self._due = math.inf

    def seconds(self, now: float) -> float:
        """The 99th percentile of the last window, or of the one under way when that is more; or how late what was to come is by
        now."""
        if now - self._began >= WINDOW:
            self._end(now)
        last = self._last if now - self._last_ended < WINDOW else 0.0
        return max(last, _percentile(self._samples), now - self._due, 0.0)

    def _end(self, now: float) -> None:
        if self._samples:
            self._last, self._last_ended = _percentile(self._samples), min(now, self._began + WINDOW)
            self._samples = []
        self._began = now


def _percentile(samples: list[float]) -> float:
    """The 99th, by nearest rank."""
    if not samples:
        return 0.0
    return sorted(samples)[math.ceil(0.99 * len(samples)) - 1]


def share_of(priority: str) -> float | None:
    """Of the limits, what requests of a priority may use; None: they are never turned away."""
    return SHARES.get(priority)


def may_join(active: int, limit: int, share: float) -> bool:
    """Whether one more of these may join ``active``. Of each limit at least one may be used by all."""
    return active < max(1, int(limit * share))


def is_late(seconds: float, limit: float, share: float) -> bool:
    """Whether what runs so late is too late for these."""
    return seconds >= limit * share
