"""Axes, ticks and numbers of plots."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meshlib.bench.svg import (
    SHAPES,
    Axis,
    bounds,
    folded,
    label,
    linear_ticks,
    log_ticks,
    mark,
    number,
    picture,
    step_of,
    text,
)

SIZES = st.floats(1e-9, 1e9)


@given(st.lists(SIZES, min_size=1), st.booleans())
def test_the_ends_of_an_axis_hold_all_values_and_ticks_are_between_them(values: list[float], log: bool) -> None:
    low, high = bounds(values, log)
    assert low <= min(values) * (1 + 1e-9)
    assert high >= max(values) * (1 - 1e-9)
    axis = Axis(low, high, 10, 200, log)
    assert all(10 - 1e-6 <= axis.at(value) <= 200 + 1e-6 for value in values)
    ticks = axis.ticks(6)
    assert ticks
    assert len(ticks) <= 8
    assert all(low * (1 - 1e-9) - 1e-12 <= tick <= high * (1 + 1e-9) for tick in ticks)


def test_a_linear_axis_begins_at_nothing_so_that_bars_are_as_long_as_what_they_show() -> None:
    assert bounds([90.0, 100.0], log=False)[0] == 0


def test_ends_of_nothing_and_of_one_value() -> None:
    assert bounds([], log=True) == (1.0, 10.0)
    assert bounds([], log=False) == (0.0, 1.0)
    assert bounds([0.0], log=False) == (0.0, 1.0)
    assert bounds([1.0], log=True) == (1.0, 10.0)
    assert bounds([-3.0, 0.0], log=False)[0] <= -3


@given(SIZES, st.floats(1.5, 1e6))
def test_equal_ratios_are_equally_long_on_a_logarithmic_axis(low: float, times: float) -> None:
    axis = Axis(low, low * times, 0, 100, log=True)
    assert axis.at(low * math.sqrt(times)) == pytest.approx(50)
    assert axis.at(0) == 0


@given(SIZES)
def test_steps_are_round(least: float) -> None:
    step = step_of(least)
    assert least * (1 - 1e-9) <= step <= least * 2.5 * (1 + 1e-9)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_ticks_are_round_values() -> None:
    assert linear_ticks(0, 2.5, 6) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert log_ticks(0.1, 10, 7) == [0.1, 0.2, 0.5, 1, 2, 5, 10]
    assert log_ticks(1, 1e9, 5) == pytest.approx([1, 100, 1e4, 1e6, 1e8])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (1234.5, "1,234"),
        (12.345, "12.3"),
        (0.01234, "0.0123"),
        (1.1, "1.10"),
        (-2.0, "-2.00"),
        (3e-9, "3.00e-09"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, said: str) -> None:
    assert number(value) == said


@given(st.floats(1e-3, 1e11))
def test_a_number_is_within_half_a_percent_of_what_it_says(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(("value", "said"), [(0.25, "0.25"), (999, "999"), (1000, "1k"), (50_000, "50k"), (2e6, "2M")])
def test_labels_of_ticks_are_short(value: float, said: str) -> None:
    assert label(value) == said


@given(st.text(max_size=80))
def test_texts_are_folded_into_two_lines_at_most(said: str) -> None:
    lines = folded(said, 200)
    assert len(lines) <= 2
    assert all(len(line) <= 30 for line in lines)


def test_texts_are_escaped() -> None:
    evil = "<b>&\"'"
    assert "<b>" not in text(0, 0, evil) + picture(10, evil, evil, (), "p1") + mark(0, 0, "circle", "x", evil)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_drawn(shape: str) -> None:
    assert mark(5, 5, shape, "t0").startswith("<")


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no shape 'star'; there are circle"):
        mark(0, 0, "star", "")


@given(SIZES, SIZES)
def test_a_value_outside_sticks_to_an_end(one: float, other: float) -> None:
    assume(one < other * 0.9)
    axis = Axis(one, other, 0, 100)
    assert axis.at(other * 2) == 100
    assert axis.at(-1) == 0
