"""Warm-up: how an endpoint's share grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.slow_start import SlowStart


@pytest.mark.parametrize(
    ("aggression", "age", "factor"),
    [(1.0, 0, 0.1), (1.0, 5, 0.1), (1.0, 50, 0.5), (1.0, 100, 1.0), (2.0, 25, 0.5), (0.5, 50, 0.25), (1.0, 500, 1.0)],
)
def test_the_share_follows_envoys_curve(aggression, age, factor):
    assert SlowStart(100.0, aggression, 10.0).factor(age) == pytest.approx(factor)


@given(st.floats(0.1, 10), st.floats(0, 100), st.floats(0, 200), st.floats(0, 200))
def test_the_share_never_shrinks_and_stays_between_its_bounds(aggression, minimum, one, other):
    warmth = SlowStart(100.0, aggression, minimum)
    young, old = sorted((one, other))
    assert minimum / 100 - 1e-9 <= warmth.factor(young) <= warmth.factor(old) <= 1.0


def test_the_defaults_are_istios_and_the_window_ends_when_it_says():
    assert SlowStart(100.0) == SlowStart(100.0, 1.0, 10.0)
    assert SlowStart(100.0, 1.0, 0.0).factor(99.0) == pytest.approx(0.99)
    assert SlowStart(0.0).factor(0.0) == 1.0


def test_an_endpoint_of_this_very_moment_gets_something():
    assert SlowStart(100.0, 1.0, 0.0).factor(0.0) == SlowStart(100.0, 1.0, 0.0).factor(-1.0) == pytest.approx(0.00001)
