"""Whether two samples differ, and by how much, told from their spread: no assumption about how noise is distributed.

Two rows of rounds, of a before and an after, are compared by all ratios after/before of one round each (Hodges and Lehmann):
their median is the estimate. The interval around it takes away as many of the smallest and the greatest ratios as chance alone
allows (the exact distribution of Mann and Whitney's U), so that in at most ``1 - CONFIDENCE`` of all comparisons of two things
that are alike it leaves out 1. With fewer than four rounds on each side no interval of that confidence exists.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
FEWEST = 4
"""Rounds of each side below which nothing can be told: of 3 against 3, one in ten orders is the most extreme by chance."""
MOST = 400
"""Values of a side that are looked at: of more, so many in even steps of their order."""
EXACT = 40
"""Rounds of a side up to which U's distribution is counted; beyond, it is near enough a normal one."""


@dataclass(frozen=True, slots=True)
class Change:
    """``ratio`` of after to before (0.9: a tenth less) and the interval it lies in with ``CONFIDENCE``; None, None: there are
    too few rounds for one."""

    ratio: float
    low: float | None
    high: float | None


def change(before: Sequence[float], after: Sequence[float]) -> Change:
    """What became of a measure. ValueError: a side is empty, or has a value that is not above 0: there are no ratios of it."""
    if not before or not after or min(before) <= 0 or min(after) <= 0:
        raise ValueError("ratios are of values above 0, and of at least one on each side")
    before, after = _thinned(before), _thinned(after)
    # by their logarithms: the middle of a half and a double is 1
    differences = sorted(math.log(b) - math.log(a) for a in before for b in after)
    middle = len(differences) // 2
    center = differences[middle] if len(differences) % 2 else (differences[middle - 1] + differences[middle]) / 2
    cut = _left_out(len(before), len(after))
    if cut is None:
        return Change(math.exp(center), None, None)
    return Change(math.exp(center), math.exp(differences[cut]), math.exp(differences[-1 - cut]))


def apart(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether the two differ by more than chance: what a verdict on a regression needs at least. False with too few rounds."""
    found = change(before, after)
    return found.low is not None and found.high is not None and (found.low > 1 or found.high < 1)


def rounds_needed(before: int, after: int, found: Change, margin: float) -> int | None:
    """How many more rounds of each side would tell, should they be like those so far: until the interval is so narrow that it
    leaves out 1, or lies within the margin on both sides of 1, whichever is sooner. None: no number that anybody would wait
    for (more than a hundred times as many).
    """
    fewest = max(0, FEWEST - min(before, after))
    if found.low is None or found.high is None:
        return fewest
    half = (math.log(found.high) - math.log(found.low)) / 2
    distance = abs(math.log(found.ratio))
    wanted = max(distance, math.log1p(margin) - distance)
    # an interval is narrower by the root of how many rounds there are
    times = (half / wanted) ** 2
    if times > 100:
        return None
    smaller = min(before, after)
    return max(1, math.ceil(smaller * times) - smaller)


def _thinned(values: Sequence[float]) -> Sequence[float]:
    if len(values) <= MOST:
        return values
    ordered = sorted(values)
    return [ordered[round(n * (len(ordered) - 1) / (MOST - 1))] for n in range(MOST)]


@functools.cache
def _left_out(n: int, m: int) -> int | None:
    """How many ratios at each end are outside the interval; None: even with all inside it is not confident enough."""
    tail = (1 - CONFIDENCE) / 2
    if max(n, m) > EXACT:
        deviation = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 - 1.959964 * deviation))
    total = math.comb(n + m, n)
    reached, cut = 0, -1
    for ways in _ways(n, m):
        reached += ways
        if reached / total > tail:
            break
        cut += 1
    return cut if cut >= 0 else None


def _ways(n: int, m: int) -> list[int]:
    """In how many orders of ``n`` and ``m`` values U is 0, 1, 2 ...: the coefficients of the Gaussian binomial."""
    ways = [0] * (n * m + 1)
    ways[0] = 1
    for i in range(1, n + 1):
        for j in range(len(ways) - 1, m + i - 1, -1):
            ways[j] -= ways[j - m - i]
        for j in range(i, len(ways)):
            ways[j] += ways[j - i]
    return ways
