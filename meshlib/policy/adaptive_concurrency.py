"""A concurrency limit that follows latency (ResiliencePolicy ``adaptiveConcurrency``): the gradient algorithm of Netflix's
concurrency-limits.

When calls take longer than they do without a queue, one has built up somewhere, and the limit shrinks in proportion; while
they do not, it grows by what a short queue allows. How long calls take without a queue is measured again from time to
time with a quarter of the limit: an average over everything would take the queue for normal in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SMOOTHING = 0.2
TOLERANCE = 1.5
"""How much longer than without a queue calls may take before the limit shrinks."""
PROBE_AFTER = 1000
"""Measurements between two looks at the latency without a queue."""
PROBE = 20
"""Measurements of a look."""


@dataclass(frozen=True, slots=True)
class GradientSettings:
    """Bounds of the limit."""

    min_limit: int = 1
    max_limit: int = 1000


class GradientLimit:
    """The caller holds a lock."""

    __slots__ = ("_base", "_before", "_best", "_left", "limit", "settings")

    def __init__(self, settings: GradientSettings) -> None:
        self.settings = settings
        self.limit = float(min(max(20, settings.min_limit), settings.max_limit))
        self._base = 0.0  # seconds without a queue; 0: not known yet
        self._best = 0.0  # the shortest of the look under way; 0: none yet
        self._before = 0.0  # the limit to come back to; 0: no look is under way
        self._left = PROBE_AFTER

    def allows(self, active: int) -> bool:
        """Whether one more call may join ``active``."""
        return active < int(self.limit)

    def record(self, seconds: float, active: int, dropped: bool = False) -> None:
        """A call took ``seconds``, with ``active`` under way when it began; ``dropped``: it failed as overload does
        (timeout, 503, 429)."""
        if dropped:
            self._set(self.limit * 0.9)
            return
        seconds = max(seconds, 1e-6)
        if self._before:
            self._look(seconds, active)
            return
        self._left -= 1
        if self._left <= 0:
            self._before, self._best, self._left = self.limit, 0.0, PROBE
            self._set(self.limit / 4)
            return
        if not self._base or seconds < self._base:
            self._base = seconds
        if active < self.limit / 2:
            return  # the limit is not what bounds the calls: nothing can be learnt about it
        gradient = max(0.5, min(1.0, TOLERANCE * self._base / seconds))
        wanted = self.limit * gradient + math.sqrt(self.limit)
        self._set(self.limit * (1 - SMOOTHING) + wanted * SMOOTHING)

    def _look(self, seconds: float, active: int) -> None:
        if active > self.limit:
            return  # it began before the look
        self._best = min(self._best, seconds) if self._best else seconds
        self._left -= 1
        if self._left <= 0:
            self._base = self._best
            self._set(self._before)
            self._before, self._left = 0.0, PROBE_AFTER

    def _set(self, limit: float) -> None:
        self.limit = max(float(self.settings.min_limit), min(float(self.settings.max_limit), limit))
