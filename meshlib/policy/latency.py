"""Latency percentiles over the last seconds, in constant memory: two rotating histograms with logarithmic buckets."""

from __future__ import annotations

import math

SHORTEST = 1e-5
GROWTH = 1.08
BUCKETS = 256
_SCALE = 1.0 / math.log(GROWTH)


class Latencies:
    """A percentile is at most 8 % too high. ``window`` in seconds: what is older than two of them is forgotten."""

    __slots__ = ("_counts", "_older", "_started", "_window")

    def __init__(self, window: float = 30.0) -> None:
        self._window = window
        self._started = 0.0
        self._counts = [0] * BUCKETS
        self._older = [0] * BUCKETS

    def record(self, seconds: float, now: float) -> None:
        """One measurement."""
        if now - self._started >= self._window:
            self._rotate(now)
        bucket = int(math.log(seconds / SHORTEST) * _SCALE) + 1 if seconds > SHORTEST else 0
        self._counts[bucket if bucket < BUCKETS else BUCKETS - 1] += 1

    def _rotate(self, now: float) -> None:
        fresh = now - self._started < 2 * self._window
        self._older = self._counts if fresh else [0] * BUCKETS
        self._counts = [0] * BUCKETS
        self._started = now

    def percentile(self, percent: float, now: float, at_least: int = 20) -> float | None:
        """Seconds within which ``percent`` of the measurements were; None when fewer than ``at_least`` are known."""
        if now - self._started >= self._window:
            self._rotate(now)
        total = sum(self._counts) + sum(self._older)
        if total < at_least:
            return None
        wanted = total * percent / 100.0
        reached = 0
        while wanted > 0 and reached < BUCKETS:
            wanted -= self._counts[reached] + self._older[reached]
            reached += 1
        return float(SHORTEST * GROWTH ** (reached - 1))
