"""How something grows with a size: a power law, by least squares on the logarithms of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEADY, LINEAR = 0.15, (0.85, 1.15)
"""Exponents that are called constant, and linear: what a factor (a logarithm, a cache that is outgrown) bends is inside."""


@dataclass(frozen=True, slots=True)
class Fit:
    """``factor * size ** exponent``. ``r2``: the part of the logarithms' variance that it explains; ``tail``: the exponent of
    the greater half of the sizes alone, where what every size pays no longer hides growth."""

    factor: float
    exponent: float
    r2: float
    tail: float

    def at(self, size: float) -> float:
        """What it says for a size."""
        return float(self.factor * size**self.exponent)

    @property
    def word(self) -> str:
        """How it grows at great sizes: constant, less than linearly, linearly, more than linearly."""
        if self.tail <= STEADY:
            return "constant"
        if self.tail < LINEAR[0]:
            return "less than linearly"
        return "linearly" if self.tail <= LINEAR[1] else "more than linearly"

    def __str__(self) -> str:
        return f"n^{self.exponent:.2f} (greater half n^{self.tail:.2f}), R² {self.r2:.3f}: {self.word}"


def power_law(sizes: Sequence[float], values: Sequence[float]) -> Fit | None:
    """That which fits best; None with fewer than three different sizes, or where a size or a value is not above 0."""
    pairs = sorted(zip(sizes, values, strict=True))
    if len({size for size, _ in pairs}) < 3 or any(size <= 0 or value <= 0 for size, value in pairs):
        return None
    xs, ys = [math.log(size) for size, _ in pairs], [math.log(value) for _, value in pairs]
    slope, start = _line(xs, ys)
    middle = (len(xs) - 1) // 2
    greater = (xs[middle:], ys[middle:])
    tail = _line(*greater)[0] if greater[0][0] < greater[0][-1] else slope
    mean = sum(ys) / len(ys)
    whole = sum((y - mean) ** 2 for y in ys)
    left = sum((y - start - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return Fit(math.exp(start), slope, 1.0 if whole == 0 else max(0.0, 1 - left / whole), tail)


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope and start."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
    return slope, y - slope * x
