"""Whether two things that took turns are told apart, and by how much.

The figure is the median of the ratios of paired rounds: what disturbs a round disturbs its neighbours, too. Beside it stands
the interval in which the true median is with nine chances in ten or better, whatever the noise is like (order statistics). As
long as 1 is in it, the spread is larger than the difference: then nothing is concluded, and what is told is how many rounds
would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meshlib.bench.result import quantile

SURE = 0.9
LEAST = 5
"""Rounds; of fewer no interval is that sure."""
MANY = 2_000
"""Rounds; whoever needs more has no difference that matters."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """``median`` of ``rounds`` ratios, between ``low`` and ``high``."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def told_apart(self) -> bool:
        return self.rounds >= LEAST and (self.low > 1 or self.high < 1)

    @property
    def rounds_needed(self) -> int:
        """That would tell the two apart, if the difference is what it seems; ``MANY`` stands for that and more. An interval
        becomes narrower with the square root of the rounds."""
        difference = abs(self.median - 1)
        half = self.high - self.median if self.median < 1 else self.median - self.low
        if self.low > 1 or self.high < 1:
            return max(self.rounds, LEAST)
        if difference == 0 or (half / difference) ** 2 * self.rounds >= MANY:
            return MANY
        return max(LEAST, math.ceil((half / difference) ** 2 * self.rounds) + 1)


def ratio(of: Sequence[float], to: Sequence[float]) -> Ratio | None:
    """Of paired rounds; of as many as both have. None: there are none, or one of ``to`` is nothing."""
    pairs = list(zip(of, to, strict=False))
    if not pairs or any(there <= 0 for _, there in pairs):
        return None
    ratios = sorted(here / there for here, there in pairs)
    beyond = _beyond(len(ratios))
    return Ratio(quantile(tuple(ratios), 0.5), ratios[beyond], ratios[-1 - beyond], len(ratios))


def _beyond(count: int) -> int:
    """How many of the smallest, and of the largest, may be left out of the interval."""
    outside, found = 0.0, 0
    for k in range(count // 2):
        outside += 2 * math.comb(count, k) / 2**count
        if 1 - outside < SURE:
            break
        found = k
    return found
