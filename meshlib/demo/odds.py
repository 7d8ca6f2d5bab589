"""Is an observed count what a probability allows? Exact binomial bounds, so that a verdict means something.

A category with probability 0 or 1 must be hit never or always. Others may lie within bounds that a correct mesh leaves
less than twice in a million runs (``TAIL`` on either side).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

TAIL = 1e-6


@cache
def bounds(n: int, p: float, tail: float = TAIL) -> tuple[int, int]:
    """Smallest and largest count that n draws with probability p give, but for ``tail`` of the cases at either end."""
    if p <= 0:
        return 0, 0
    if p >= 1:
        return n, n
    low, seen = 0, 0.0
    while seen + _mass(n, low, p) < tail:
        seen += _mass(n, low, p)
        low += 1
    high, seen = n, 0.0
    while seen + _mass(n, high, p) < tail:
        seen += _mass(n, high, p)
        high -= 1
    return low, high


def _mass(n: int, k: int, p: float) -> float:
    """Probability of exactly k hits, by logarithms: n may be large."""
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


def misses(observed: Mapping[str, int], expected: Mapping[str, float]) -> list[str]:
    """What contradicts ``expected`` (probability by label), one sentence each; empty: the observation is as asked."""
    n = sum(observed.values())
    if n == 0:
        return ["nothing was observed"]
    found = [f"{label}: {observed[label]} of {n}, expected none" for label in observed if expected.get(label, 0.0) <= 0]
    for label, p in expected.items():
        low, high = bounds(n, round(p, 9))
        count = observed.get(label, 0)
        if p > 0 and not low <= count <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            found.append(f"{label}: {count} of {n}, expected {wanted}")
    return found
