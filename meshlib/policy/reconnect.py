"""How long to wait before a source of identity is asked again: longer after each failure, spread by chance, so that the
workloads of a machine do not all come back at the same moment."""

from __future__ import annotations

import random

FIRST = 0.5
"""Seconds before the first retry, at most."""
LONGEST = 30.0
"""Seconds between retries, at most."""
FACTOR = 2.0


def delay(failures: int, rng: random.Random, first: float = FIRST, longest: float = LONGEST) -> float:
    """Seconds to wait after so many failures in a row (1 or more): half of a time that doubles with each, and a random part
    of the other half."""
    doublings = min(max(failures, 1) - 1, 32)
    most = min(longest, first * FACTOR**doublings)
    return most * (0.5 + 0.5 * rng.random())


def renewal(not_before: float, not_after: float, rng: random.Random) -> float:
    """When a certificate is to be renewed (in the seconds that it is dated in): between 50 and 80 % of its life, by chance."""
    return not_before + (not_after - not_before) * (0.5 + 0.3 * rng.random())
