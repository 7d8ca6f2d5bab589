"""Plots as SVG text: axes with round ticks, bars, lines, marks. Colours are CSS classes, so that light and dark are the page's.

The law of this file: it draws numbers, and knows nothing of what they are of. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 560
CHARACTER = 6.7
"""Units that a character of a label takes at most, on average; labels are set in 12 units."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high`` of what is drawn, onto ``start`` to ``end`` of the picture. ``log``: equal ratios are equally
    long; then both have to be above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value is; those outside stick to the ends."""
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, part)) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within."""
        return log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten."""
    step = step_of((high - low) / most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def step_of(least: float) -> float:
    """The least round step that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((m * power for m in (1, 2, 2.5, 5) if m * power >= least * (1 - 1e-9)), 10 * power)


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten; where those are few, 2 and 5 times them, too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in range(first, last + 1) for f in factors if low <= f * 10.0**p <= high]
        if len(found) <= most:
            return found
    every = math.ceil(len(found) / most)
    return found[::every]


def bounds(values: Iterable[float], log: bool) -> tuple[float, float]:
    """Round ends of an axis for these; of a linear one the low end is 0 where nothing is below."""
    found = [value for value in values if value > 0] if log else list(values)
    if not found:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(found), max(found)
    if log:
        low, high = _round_down(low), _round_up(high)
        return (low, high) if high > low else (low, low * 10)
    low = min(0.0, low)
    if high <= low:
        high = low + 1
    step = step_of((high - low) / 6)
    return math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (5, 2, 1) if m * power <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9))


def number(value: float) -> str:
    """For people: 1,234, 12.3, 0.0120; three digits that count."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e12 or size < 1e-4:
        return f"{value:.2e}"
    if size >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:.{digits}f}"


def label(value: float) -> str:
    """Of a tick."""
    size = abs(value)
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if size >= scale:
            return f"{value / scale:g}{unit}"
    return f"{value:g}"


def picture(height: float, title: str, description: str, parts: Iterable[str], name: str) -> str:
    """A whole picture. ``title`` and ``description`` are what a screen reader says of it; ``name`` is unique in the page."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{name}-t {name}-d" class="plot">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, said: str, classes: str = "", anchor: str = "start") -> str:
    """A label; ``anchor`` is which end of it is at ``x``."""
    named = f' class="{classes}"' if classes else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}{where}>{escape(said)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    """A straight one."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{classes}"/>'


def path(points: Sequence[tuple[float, float]], classes: str, tip: str = "") -> str:
    """A line through all points."""
    joined = " ".join(f"{'M' if n == 0 else 'L'}{x:.1f},{y:.1f}" for n, (x, y) in enumerate(points))
    return f'<path d="{joined}" class="{classes}"{_tip(tip)}/>'


def bar(x: float, y: float, width: float, height: float, classes: str, tip: str = "") -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" rx="2" class="{classes}"'
        f"{_tip(tip)}/>"
    )


def dot(x: float, y: float, radius: float, classes: str, tip: str = "") -> str:
    """A small disc."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{classes}"{_tip(tip)}/>'


SHAPES = ("circle", "square", "triangle", "diamond", "cross", "wedge")


def mark(x: float, y: float, shape: str, classes: str, tip: str = "", size: float = 4.0) -> str:
    """A point of a series, whose shape tells it from others without colours. ValueError: no such shape."""
    s = size
    shapes = {
        "square": f"M{x - s:.1f},{y - s:.1f}h{2 * s}v{2 * s}h{-2 * s}z",
        "triangle": f"M{x:.1f},{y - s * 1.2:.1f}L{x + s * 1.2:.1f},{y + s:.1f}L{x - s * 1.2:.1f},{y + s:.1f}z",
        "wedge": f"M{x:.1f},{y + s * 1.2:.1f}L{x + s * 1.2:.1f},{y - s:.1f}L{x - s * 1.2:.1f},{y - s:.1f}z",
        "diamond": f"M{x:.1f},{y - s * 1.4:.1f}L{x + s * 1.4:.1f},{y:.1f}L{x:.1f},{y + s * 1.4:.1f}L{x - s * 1.4:.1f},{y:.1f}z",
        "cross": (
            f"M{x - s:.1f},{y - s / 3:.1f}h{s * 2 / 3:.2f}v{-s * 2 / 3:.2f}h{s * 2 / 3:.2f}v{s * 2 / 3:.2f}h{s * 2 / 3:.2f}"
            f"v{s * 2 / 3:.2f}h{-s * 2 / 3:.2f}v{s * 2 / 3:.2f}h{-s * 2 / 3:.2f}v{-s * 2 / 3:.2f}h{-s * 2 / 3:.2f}z"
        ),
    }
    if shape == "circle":
        return dot(x, y, s, classes, tip)
    if shape not in shapes:
        raise ValueError(f"no shape {shape!r}; there are {', '.join(SHAPES)}")
    return f'<path d="{shapes[shape]}" class="{classes}"{_tip(tip)}/>'


def _tip(said: str) -> str:
    return f' data-tip="{escape(said)}"' if said else ""


def folded(said: str, most: float) -> list[str]:
    """In one line of ``most`` units, or in two; what is longer still ends in dots."""
    room = int(most / CHARACTER)
    if len(said) <= room:
        return [said]
    first, rest = "", said.split(" ")
    while rest and len(first) + 1 + len(rest[0]) <= room:
        first = f"{first} {rest.pop(0)}".strip()
    second = " ".join(rest)
    if not first:
        first, second = said[:room], said[room:]
    return [first, second if len(second) <= room else f"{second[: room - 1]}…"]
