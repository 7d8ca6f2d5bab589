"""Plots: what stands in them, and percentiles that too few requests hold up are not drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.bench.plots import BEYOND, Line, Look, at_part, bars, distribution, lines, percentiles, swatch
from meshlib.bench.result import CLOSED, P50, Measure, Row

LOOK = Look("t0", "circle")
EVEN = tuple((float(n), 10) for n in range(1, 101))
ROW = Row("library", "a", None, "", 1, 0, False, 0, CLOSED, {P50: Measure("ms", (1.0, 2.0, 3.0))}, EVEN)


def test_a_bar_tells_its_median_quartiles_and_rounds() -> None:
    drawn = bars([ROW, replace(ROW, name="b", measures={})], P50, {"a": LOOK}, "Title", "p1")
    assert "a: median 2.00 ms, half of 3 rounds between 1.50 and 2.50" in drawn
    assert drawn.count('class="round"') == 3
    assert ">b<" not in drawn


def test_bars_are_as_long_as_their_values() -> None:
    rows = [
        replace(ROW, name=name, measures={P50: Measure("ms", (value,))}) for name, value in (("a", 2.0), ("b", 1.0))
    ]
    drawn = bars(rows, P50, {"a": LOOK, "b": LOOK}, "Title", "p1")
    long, short = (float(part.split('"')[0]) for part in drawn.split('width="')[1:3])
    assert long == pytest.approx(2 * short, rel=0.01)


def test_percentiles_end_where_ten_requests_are_beyond() -> None:
    found = percentiles(EVEN)
    assert found[0] == (0.01, 1.0)
    assert found[-1] == (0.99, 99.0)
    assert percentiles(((1.0, BEYOND - 1),)) == []
    assert percentiles(()) == []


@given(st.lists(st.tuples(st.floats(0.01, 1e3), st.integers(0, 500)), max_size=30))
def test_percentiles_rise(buckets: list[tuple[float, int]]) -> None:
    found = percentiles(sorted(buckets))
    assert found == sorted(found)
    for part in (0.5, 0.9):
        value = at_part(found, part)
        assert value is None or found[0][1] * (1 - 1e-9) <= value <= found[-1][1] * (1 + 1e-9)


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert at_part([(0.4, 1.0), (0.6, 4.0)], 0.5) == pytest.approx(4 ** (0.182321557 / 0.405465108))
    assert at_part([(0.4, 1.0), (0.6, 4.0)], 0.6) == 4.0
    assert at_part([(0.6, 4.0)], 0.5) == 4.0
    assert at_part([(0.6, 4.0)], 0.9) is None


def test_a_distribution_has_a_mark_at_each_named_percentile_that_is_held_up() -> None:
    drawn = distribution([ROW], {"a": LOOK}, "Title", "p1")
    assert ">p90<" in drawn
    assert ">p99<" in drawn
    assert ">p99.9<" not in drawn
    assert "a: p99 99.0 ms" in drawn
    assert "1,000 requests" in drawn


def test_lines_go_through_medians_and_ranks_stand_for_a_size_of_nothing() -> None:
    line = Line("a", LOOK, ((0.0, Measure("ms", (1.0,))), (1024.0, Measure("ms", (2.0, 4.0)))))
    drawn = lines([line], "Title", "p1", "bytes")
    assert "a: 1.00 ms at 0 bytes" in drawn
    assert "a: 3.00 ms at 1,024 bytes" in drawn
    assert drawn.count("error t0") == 1


def test_two_of_a_tone_are_told_apart() -> None:
    assert "dashed" in swatch(Look("t2", "triangle", True))
    assert "dashed" not in swatch(LOOK)
