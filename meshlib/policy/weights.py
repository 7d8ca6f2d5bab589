"""The weighted choice among a rule's destinations: drawn per request; weights need not add up to 100."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import floor


class WeightedChoice:
    """``weights`` in the order of destinations. A sole destination is always chosen, whatever its weight; among several,
    weight 0 never is. Raises ValueError for negative weights, and for several that are all 0."""

    __slots__ = ("_bounds", "total", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        if not weights or any(w < 0 for w in weights):
            raise ValueError(f"weights must be there and not negative: {list(weights)}")
        self.weights = tuple(weights) if len(weights) > 1 else (max(weights[0], 1),)
        self.total = sum(self.weights)
        if self.total == 0:
            raise ValueError(f"the weights of {len(weights)} destinations add up to 0")
        self._bounds = list(accumulate(self.weights))

    def pick(self, rng: random.Random) -> int:
        """Position of the chosen one: a uniform integer below the total, walked over the weights."""
        return bisect_right(self._bounds, floor(rng.random() * self.total))

    def pick_by_value(self, value: int) -> int:
        """The same for a given number, as Envoy does with ``header_name``: value modulo total."""
        return bisect_right(self._bounds, value % self.total)
