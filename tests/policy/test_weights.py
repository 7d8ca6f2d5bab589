"""The weighted choice: shares are proportions, whatever they add up to."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.weights import WeightedChoice


def test_weights_are_proportions_whatever_they_sum_to():
    rng = random.Random(5)
    choice = WeightedChoice([3, 0, 1])
    picks = [choice.pick(rng) for _ in range(40_000)]
    assert picks.count(1) == 0
    expected = [30_000, 10_000]
    chi_square = sum((picks.count(i) - e) ** 2 / e for i, e in zip((0, 2), expected, strict=True))
    assert chi_square < 10.83  # p = 0.001


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any), st.integers(0, 10**6))
def test_a_value_falls_into_the_cumulative_interval_as_in_envoy(weights, value):
    picked = WeightedChoice(weights).pick_by_value(value)
    left = value % sum(weights)
    for position, weight in enumerate(weights):
        if left < weight:
            assert picked == position
            return
        left -= weight


def test_a_sole_destination_is_always_chosen_whatever_its_weight():
    assert {WeightedChoice([0]).pick(random.Random(1)) for _ in range(50)} == {0}


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2]])
def test_weights_that_choose_nothing_are_refused(weights):
    with pytest.raises(ValueError):
        WeightedChoice(weights)
