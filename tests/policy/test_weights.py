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


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(any))
def test_each_has_as_many_of_the_totals_values_as_it_weighs(weights):
    choice = WeightedChoice(weights)
    assert choice.total == sum(weights)
    picks = [choice.pick_by_value(value) for value in range(choice.total)]
    assert [picks.count(position) for position in range(len(weights))] == weights
    assert picks == sorted(picks)
    assert [choice.pick_by_value(value + choice.total) for value in range(choice.total)] == picks


class Drawn:
    """A generator whose next draw is known."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(any), st.floats(0, 1, exclude_max=True))
def test_a_draw_falls_where_its_share_of_the_total_falls(weights, drawn):
    choice = WeightedChoice(weights)
    assert choice.pick(Drawn(drawn)) == choice.pick_by_value(int(drawn * choice.total))
    assert weights[choice.pick(Drawn(drawn))] > 0


def test_what_cannot_be_chosen_from_is_said():
    with pytest.raises(ValueError, match="the weights of 2 destinations add up to 0"):
        WeightedChoice([0, 0])
    with pytest.raises(ValueError, match=r"not negative: \[-1, 2\]"):
        WeightedChoice([-1, 2])
    assert (WeightedChoice([0]).weights, WeightedChoice([0]).total) == ((1,), 1)
