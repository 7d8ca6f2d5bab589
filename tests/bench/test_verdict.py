"""Two things that took turns: told apart, or not, and what would do."""

from __future__ import annotations

import random

import pytest

from meshlib.bench.verdict import LEAST, MANY, ratio


def test_what_disturbs_a_round_disturbs_its_neighbour_so_pairs_are_compared() -> None:
    noise = [1.0, 3.0, 1.5, 8.0, 2.0]
    found = ratio([2 * each for each in noise], noise)
    assert found is not None
    assert (found.median, found.low, found.high, found.told_apart) == (2.0, 2.0, 2.0, True)


def test_as_long_as_one_is_in_the_interval_nothing_is_concluded() -> None:
    found = ratio([1.2, 1.1, 0.9, 1.3, 1.1, 1.2, 1.1], [1.0] * 7)
    assert found is not None
    assert not found.told_apart
    assert found.rounds_needed > 7


def test_of_few_rounds_nothing_is_concluded_whatever_they_say() -> None:
    found = ratio([2.0] * (LEAST - 1), [1.0] * (LEAST - 1))
    assert found is not None
    assert not found.told_apart
    assert found.rounds_needed == LEAST


def test_of_many_rounds_the_strangest_are_left_out() -> None:
    found = ratio([2.0] * 10 + [0.1], [1.0] * 11)
    assert found is not None
    assert (found.low, found.high, found.told_apart) == (2.0, 2.0, True)


def test_the_less_there_is_between_two_the_more_rounds_it_takes() -> None:
    needed = []
    for more in (0.1, 0.05, 0.01):
        found = ratio([1 + more - 0.3, 1 + more, 1 + more, 1 + more, 1 + more + 0.3], [1.0] * 5)
        assert found is not None
        needed.append(found.rounds_needed)
    assert needed == sorted(needed)
    assert needed[0] < needed[1]


def test_no_difference_takes_a_run_that_nobody_waits_for() -> None:
    found = ratio([0.5, 1.0, 1.0, 1.0, 1.5], [1.0] * 5)
    assert found is not None
    assert found.rounds_needed == MANY


@pytest.mark.parametrize(("of", "to"), [([], []), ([1.0], []), ([1.0], [0.0])])
def test_of_nothing_there_is_no_ratio(of: list[float], to: list[float]) -> None:
    assert ratio(of, to) is None


def test_things_that_are_alike_are_told_apart_in_one_of_ten_at_most() -> None:
    rng = random.Random(7)
    told = 0
    for _ in range(1000):
        found = ratio([rng.lognormvariate(0, 0.2) for _ in range(11)], [rng.lognormvariate(0, 0.2) for _ in range(11)])
        assert found is not None
        told += found.told_apart
    assert told <= 100
