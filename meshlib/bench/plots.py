"""The kinds of plots that a report has: bars of rounds, distributions of latency, lines over a size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshlib.bench import svg
from meshlib.bench.fit import Fit
from meshlib.bench.result import Measure, Row

BEYOND = 10
"""A percentile is drawn as long as so many requests took longer: one that hangs on fewer is an accident."""
LEFT, RIGHT = 52, 16


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is drawn wherever it is: ``tone`` is a class of the page (t0 .. t7), ``dashed`` tells two of one apart."""

    tone: str
    shape: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A series over sizes, with the fit that was found for it."""

    name: str
    look: Look
    points: tuple[tuple[float, Measure], ...]
    fit: Fit | None = None


def bars(rows: Sequence[Row], measure: str, looks: Mapping[str, Look], title: str, name: str) -> str:
    """A bar for each row's median, whiskers from quartile to quartile, a dot for each round."""
    shown = [(row, row.measures[measure]) for row in rows if measure in row.measures]
    unit = shown[0][1].unit
    labels, step, top = 196.0, 34.0, 8.0
    highest = max(max(each.values) for _, each in shown)
    low, high = svg.bounds([0.0, highest], log=False)
    axis = svg.Axis(low, high, labels + 10, svg.WIDTH - 66)
    bottom = top + step * len(shown)
    parts = _grid_x(axis, top, bottom, unit)
    for n, (row, each) in enumerate(shown):
        y = top + step * n + step / 2
        lines = svg.folded(row.name, labels)
        parts += [
            svg.text(labels, y + 4 + 14 * (i - (len(lines) - 1) / 2), said, "name", "end")
            for i, said in enumerate(lines)
        ]
        tone = looks[row.name].tone
        tip = f"{row.name}: median {svg.number(each.median)} {unit}, half of {len(each.values)} rounds between "
        tip += f"{svg.number(each.low)} and {svg.number(each.high)}"
        parts.append(svg.bar(axis.start, y - 9, axis.at(each.median) - axis.start, 18, f"bar {tone}", tip))
        parts += [svg.dot(axis.at(value), y, 2, "round") for value in each.values]
        if each.low != each.high:
            left, right = axis.at(each.low), axis.at(each.high)
            parts += [svg.line(left, y, right, y, "whisker")]
            parts += [svg.line(x, y - 5, x, y + 5, "whisker") for x in (left, right)]
        furthest = max(axis.at(value) for value in each.values)
        parts.append(svg.text(furthest + 8, y + 4, svg.number(each.median), "value"))
    described = "; ".join(f"{row.name} {svg.number(each.median)} {unit}" for row, each in shown)
    return svg.picture(bottom + 42, title, described, parts, name)


def distribution(rows: Sequence[Row], looks: Mapping[str, Look], title: str, name: str) -> str:
    """Latency by percentile, both axes logarithmic: the nearer to the right, the rarer the request."""
    curves = [(row, percentiles(row.latencies)) for row in rows if row.latencies]
    curves = [(row, found) for row, found in curves if found]
    least = min((1 - part for _, found in curves for part, _ in found), default=0.1)
    ends = [p for p in (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999) if 1 - p >= least * (1 - 1e-9)] or [0.5]
    top, bottom = 22.0, 300.0
    right = max(-math.log10(least), 0.35)
    x = svg.Axis(0.0, right, LEFT, svg.WIDTH - RIGHT)
    y = svg.Axis(*svg.bounds([value for _, found in curves for _, value in found], log=True), bottom, top, log=True)
    parts = _grid_y(y, "ms")
    for part in (0.0, *ends):
        at = x.at(-math.log10(1 - part))
        parts += [
            svg.line(at, top, at, bottom, "grid"),
            svg.text(at, bottom + 17, f"p{part * 100:.6g}", "tick", "middle"),
        ]
    parts.append(svg.text((x.start + x.end) / 2, bottom + 36, "requests that were at least as fast", "unit", "middle"))
    for row, found in curves:
        look = looks[row.name]
        tip = f"{row.name}: {_said(found)}; {sum(n for _, n in row.latencies):,} requests"
        points = [(x.at(-math.log10(1 - part)), y.at(value)) for part, value in found]
        parts.append(svg.path(points, _line_class(look), tip))
        for part in ends:
            value = at_part(found, part)
            if value is not None:
                tip = f"{row.name}: p{part * 100:.6g} {svg.number(value)} ms"
                place = (x.at(-math.log10(1 - part)), y.at(value))
                parts.append(svg.mark(*place, look.shape, f"mark {look.tone}", tip))
    described = "; ".join(f"{row.name}: " + _said(found) for row, found in curves)
    return svg.picture(bottom + 46, title, described, parts, name)


def percentiles(latencies: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Part of requests, and the ms that they took at most, by rising part; those that hang on few requests are left out."""
    whole = sum(count for _, count in latencies)
    found, seen = [], 0
    for upper, count in latencies:
        seen += count
        if count and upper > 0 and whole - seen >= BEYOND:
            found.append((seen / whole, upper))
    return found


def at_part(found: Sequence[tuple[float, float]], part: float) -> float | None:
    """The ms of a percentile, between neighbours as the plot's line goes; None: the line does not reach there."""
    before: tuple[float, float] | None = None
    for here, value in found:
        if here >= part:
            if before is None or here == part:
                return value
            rare, rarer, wanted = (-math.log(1 - each) for each in (before[0], here, part))
            share = (wanted - rare) / (rarer - rare)
            return float(before[1] ** (1 - share) * value**share)
        before = here, value
    return None


def lines(series: Sequence[Line], title: str, name: str, across: str, log_y: bool = True) -> str:
    """Medians over a size, on logarithmic axes, with a bar from quartile to quartile. ``across`` says what the size is of."""
    points = [(size, each) for line in series for size, each in line.points]
    unit = points[0][1].unit
    top, bottom = 22.0, 290.0
    sizes = sorted({size for size, _ in points})
    # a size of 0 (a body of none) has no logarithm: sizes stand beside each other then
    ranked = sizes[0] <= 0 or len(sizes) == 1
    x = _places(sizes) if ranked else svg.Axis(sizes[0], sizes[-1], LEFT + 14, svg.WIDTH - RIGHT - 14, log=True)
    values = [value for _, each in points for value in (each.median, each.low, each.high)]
    log_y = log_y and all(value > 0 for value in values)
    y = svg.Axis(*svg.bounds(values, log_y), bottom, top, log=log_y)

    def across_at(size: float) -> float:
        return x.at(sizes.index(size)) if ranked else x.at(size)

    parts = _grid_y(y, unit)
    for size in sizes:
        at = across_at(size)
        parts += [svg.line(at, top, at, bottom, "grid"), svg.text(at, bottom + 17, svg.label(size), "tick", "middle")]
    parts.append(svg.text((LEFT + svg.WIDTH - RIGHT) / 2, bottom + 36, across, "unit", "middle"))
    for each in series:
        ordered = sorted(each.points, key=lambda point: point[0])
        places = [(across_at(size), y.at(measure.median)) for size, measure in ordered]
        if each.fit is not None and not ranked:
            ends = [(across_at(size), y.at(each.fit.at(size))) for size, _ in ordered]
            parts.append(svg.path(ends, f"fit {each.look.tone}"))
        else:
            parts.append(svg.path(places, _line_class(each.look)))
        for (at, height), (size, measure) in zip(places, ordered, strict=True):
            if measure.low != measure.high:
                parts.append(svg.line(at, y.at(measure.low), at, y.at(measure.high), f"error {each.look.tone}"))
            tip = f"{each.name}: {svg.number(measure.median)} {unit} at {size:,.0f} {across}"
            parts.append(svg.mark(at, height, each.look.shape, f"mark {each.look.tone}", tip))
    described = "; ".join(
        f"{each.name}: " + ", ".join(f"{size:g}: {svg.number(m.median)} {unit}" for size, m in each.points)
        for each in series
    )
    return svg.picture(bottom + 46, title, described, parts, name)


def swatch(look: Look) -> str:
    """What stands for a series in a legend."""
    parts = [
        f'<line x1="0" y1="7" x2="30" y2="7" class="{_line_class(look)}"/>',
        svg.mark(15, 7, look.shape, f"mark {look.tone}"),
    ]
    return f'<svg class="swatch" viewBox="0 0 30 14" width="30" height="14" aria-hidden="true">{"".join(parts)}</svg>'


def _places(sizes: Sequence[float]) -> svg.Axis:
    return svg.Axis(0, max(1, len(sizes) - 1), LEFT + 14, svg.WIDTH - RIGHT - 14)


def _line_class(look: Look) -> str:
    return f"line {look.tone} dashed" if look.dashed else f"line {look.tone}"


def _said(found: Sequence[tuple[float, float]]) -> str:
    told = [(wanted, at_part(found, wanted)) for wanted in (0.5, 0.9, 0.99, 0.999)]
    return ", ".join(f"p{wanted * 100:g} {svg.number(value)} ms" for wanted, value in told if value is not None)


def _grid_x(axis: svg.Axis, top: float, bottom: float, unit: str) -> list[str]:
    parts = []
    for tick in axis.ticks():
        at = axis.at(tick)
        parts += [svg.line(at, top, at, bottom, "grid"), svg.text(at, bottom + 17, svg.label(tick), "tick", "middle")]
    return [*parts, svg.text((axis.start + axis.end) / 2, bottom + 35, unit, "unit", "middle")]


def _grid_y(axis: svg.Axis, unit: str) -> list[str]:
    parts = []
    for tick in axis.ticks(7):
        at = axis.at(tick)
        parts += [
            svg.line(LEFT, at, svg.WIDTH - RIGHT, at, "grid"),
            svg.text(LEFT - 8, at + 4, svg.label(tick), "tick", "end"),
        ]
    return [*parts, svg.text(4, axis.end - 10, unit, "unit")]
