"""The bounds behind the verdicts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.demo.odds import bounds, misses


def _tail_above(n: int, p: float, k: int) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1, n + 1))


@given(st.integers(1, 120), st.floats(0.01, 0.99))
def test_bounds_leave_out_less_than_the_tail_and_no_more_than_needed(n: int, p: float) -> None:
    tail = 1e-3
    low, high = bounds(n, p, tail)
    assert 0 <= low <= high <= n
    assert _tail_above(n, p, high) < tail
    assert _tail_above(n, p, high - 1) >= tail * 0.999999
    mirrored = bounds(n, 1 - p, tail)
    assert mirrored == (n - high, n - low)


def test_certain_words_must_be_seen_always_and_impossible_ones_never() -> None:
    assert bounds(200, 1.0) == (200, 200)
    assert bounds(200, 0.0) == (0, 0)
    assert misses({"v1": 199, "v2": 1}, {"v1": 1.0}) == [
        "v2: 1 of 200, expected none",
        "v1: 199 of 200, expected 200",
    ]


@pytest.mark.parametrize("v2", [3, 20, 40])
def test_a_90_10_split_allows_what_chance_allows(v2: int) -> None:
    assert misses({"v1": 200 - v2, "v2": v2}, {"v1": 0.9, "v2": 0.1}) == []


@pytest.mark.parametrize("v2", [0, 45, 100, 200])
def test_a_90_10_split_refuses_what_chance_does_not_give(v2: int) -> None:
    assert misses({"v1": 200 - v2, "v2": v2}, {"v1": 0.9, "v2": 0.1})


def test_no_observation_is_no_pass() -> None:
    assert misses({}, {"v1": 1.0}) == ["nothing was observed"]
