"""A retry budget over time (ResiliencePolicy ``retryBudget``): retries as a share of the calls of the last seconds."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 10
"""Seconds that count."""


@dataclass(frozen=True, slots=True)
class WindowedBudgetSettings:
    """``percent`` of the calls of the last ten seconds, and ``min_per_second`` whatever the traffic."""

    percent: float = 20.0
    min_per_second: int = 10


class WindowedBudget:
    """Calls and retries by second, in a ring. The caller holds a lock."""

    __slots__ = ("_calls", "_retries", "_second", "settings")

    def __init__(self, settings: WindowedBudgetSettings) -> None:
        self.settings = settings
        self._calls = [0] * WINDOW
        self._retries = [0] * WINDOW
        self._second = 0

    def _advance(self, now: float) -> int:
        second = int(now)
        for passed in range(max(self._second + 1, second - WINDOW + 1), second + 1):
            self._calls[passed % WINDOW] = self._retries[passed % WINDOW] = 0
        self._second = max(second, self._second)
        return self._second % WINDOW

    def call(self, now: float) -> None:
        """A call begins."""
        self._calls[self._advance(now)] += 1

    def standing(self, now: float) -> tuple[int, float]:
        """Retries of the last ten seconds, and how many there may be."""
        self._advance(now)
        settings = self.settings
        return sum(self._retries), sum(self._calls) * settings.percent / 100.0 + settings.min_per_second * WINDOW

    def allows(self, now: float) -> bool:
        """Whether one more retry fits."""
        retries, allowed = self.standing(now)
        return retries + 1 <= allowed

    def retry(self, now: float) -> None:
        """A retry begins."""
        self._retries[self._advance(now)] += 1
