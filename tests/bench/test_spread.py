"""Whether two samples differ: what chance alone does is not told apart, what differs is, and the rounds that would tell do."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.bench.spread import CONFIDENCE, EXACT, FEWEST, MOST, Change, apart, change, rounds_needed

VALUES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12)


@given(VALUES, VALUES)
def test_the_estimate_lies_in_its_interval(before: list[float], after: list[float]) -> None:
    found = change(before, after)
    if found.low is not None and found.high is not None:
        assert found.low <= found.ratio * (1 + 1e-9)
        assert found.ratio <= found.high * (1 + 1e-9)


@given(VALUES, VALUES)
def test_backwards_is_the_inverse(before: list[float], after: list[float]) -> None:
    there, back = change(before, after), change(after, before)
    assert there.ratio * back.ratio == pytest.approx(1)
    if there.low is not None and back.high is not None:
        assert there.low * back.high == pytest.approx(1)


@given(VALUES, VALUES, st.randoms())
def test_the_order_of_rounds_does_not_matter(before: list[float], after: list[float], random: Random) -> None:
    shuffled = random.sample(after, len(after))
    assert change(before, shuffled) == change(before, after)


@given(VALUES, st.floats(0.5, 2))
def test_all_values_times_so_much_is_that_ratio(values: list[float], times: float) -> None:
    assert change(values, values).ratio == pytest.approx(1)
    assert change([1.0] * 4, [times] * 4).ratio == pytest.approx(times)


def test_fewer_than_four_rounds_tell_nothing() -> None:
    assert change([1.0] * 3, [9.0] * 3) == Change(pytest.approx(9.0), None, None)
    assert not apart([1.0] * 3, [9.0] * 3)
    assert apart([1.0] * FEWEST, [9.0] * FEWEST)


def test_the_interval_is_that_of_the_exact_distribution() -> None:
    """By counting all orders of 5 and 4 values: so many ratios may be left out that chance does it in at most one of twenty."""
    orders = list(itertools.combinations(range(9), 5))
    smaller = [sum(i > j for i in order for j in set(range(9)) - set(order)) for order in orders]
    cut = max(u for u in range(21) if sum(s <= u for s in smaller) / len(orders) <= (1 - CONFIDENCE) / 2)
    before, after = [1.0, 2.0, 3.5, 5.0, 8.0], [1.1, 4.0, 6.0, 9.0]
    ratios = sorted(b / a for a in before for b in after)
    found = change(before, after)
    assert found.low == pytest.approx(ratios[cut])
    assert found.high == pytest.approx(ratios[-1 - cut])


@pytest.mark.parametrize("rounds", [4, 5, 9, EXACT + 1])
def test_what_does_not_differ_is_told_apart_in_one_of_twenty_at_most(rounds: int) -> None:
    random = Random(1)
    told, trials = 0, 400
    for _ in range(trials):
        one, other = ([random.lognormvariate(0, 0.3) for _ in range(rounds)] for _ in range(2))
        told += apart(one, other)
    assert told / trials < 0.075  # 5 % and what 400 trials may be off


def test_a_difference_is_found_where_there_are_rounds_enough() -> None:
    random = Random(2)
    before = [random.lognormvariate(0, 0.05) for _ in range(10)]
    assert apart(before, [random.lognormvariate(math.log(1.2), 0.05) for _ in range(10)])


@pytest.mark.parametrize(("before", "after"), [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_there_is_no_ratio_of_nothing(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        change(before, after)


def test_of_very_many_values_so_many_are_looked_at() -> None:
    many = [1.0 + n / 100_000 for n in range(100_000)]
    found = change(many, [2 * each for each in many])
    assert found.ratio == pytest.approx(2, rel=1e-3)
    assert len(many) > MOST


def test_more_rounds_are_those_to_the_fewest_first() -> None:
    assert rounds_needed(2, 3, Change(1.1, None, None), 0.02) == 2


def test_more_rounds_grow_with_the_square_of_the_spread() -> None:
    narrow = rounds_needed(10, 10, Change(1.05, math.exp(math.log(1.05) - 0.06), math.exp(math.log(1.05) + 0.06)), 0.02)
    wide = rounds_needed(10, 10, Change(1.05, math.exp(math.log(1.05) - 0.12), math.exp(math.log(1.05) + 0.12)), 0.02)
    assert narrow == math.ceil(10 * (0.06 / math.log(1.05)) ** 2) - 10
    assert wide == math.ceil(10 * (0.12 / math.log(1.05)) ** 2) - 10


def test_nobody_is_told_to_wait_for_ever() -> None:
    assert rounds_needed(5, 5, Change(1.0, 0.5, 2.0), 0.001) is None
