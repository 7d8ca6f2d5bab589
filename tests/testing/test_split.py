"""``assert_split``: an exact test, held against sums that are made another way."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.testing import assert_split
from meshlib.testing.split import p_value

CANARY = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews}
    spec:
      hosts: [reviews]
      http:
      - fault: {abort: {percentage: {value: 100}, httpStatus: 503}}
        route:
        - {destination: {host: reviews, subset: v1}, weight: 90}
        - {destination: {host: reviews, subset: v2}, weight: 10}
    ---
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews}
    spec:
      host: reviews
      subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""


def by_fractions(counts: list[int], shares: list[Fraction]) -> Fraction:
    """The same without floats and without being clever."""

    def probability(outcome: tuple[int, ...]) -> Fraction:
        ways = math.factorial(sum(outcome))
        for count in outcome:
            ways //= math.factorial(count)
        return ways * math.prod((share**count for count, share in zip(outcome, shares, strict=True)), start=Fraction(1))

    total = sum(counts)
    seen = probability(tuple(counts))
    outcomes = (o for o in product(range(total + 1), repeat=len(counts)) if sum(o) == total)
    return sum((p for o in outcomes if (p := probability(o)) <= seen), start=Fraction(0))


@given(st.lists(st.integers(0, 7), min_size=2, max_size=3), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_the_probability_is_exact(counts, weights):
    weights = weights[: len(counts)]
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    assert p_value(counts, [float(share) for share in shares]) == pytest.approx(float(by_fractions(counts, shares)))


def test_with_very_many_outcomes_each_share_is_tested_and_nothing_is_claimed_too_soon():
    shares = [0.4, 0.3, 0.2, 0.1]
    assert p_value([400, 300, 200, 100], shares) == 1
    assert p_value([40, 30, 20, 310], shares) < 1e-9


def test_a_split_that_is_likely_passes():
    assert_split({"v1": 455, "v2": 45}, {"v1": 0.9, "v2": 0.1})
    assert_split({"v1": 455, "v2": 45}, 0.9, 0.1)


def test_an_unlikely_one_fails_with_what_was_seen_what_was_expected_and_how_likely_it_is():
    with pytest.raises(AssertionError) as wrong:
        assert_split({"v1": 60, "v2": 40}, 0.9, 0.1)
    assert str(wrong.value).splitlines() == [
        "100 calls went to: v1 60 (60 %), v2 40 (40 %)",
        "expected: v1 90 % (about 90), v2 10 % (about 10)",
        "if that were the split, a result as unlikely as this would be seen in one of 3.39e+14 runs (p = 2.9e-15); "
        "the limit is 0.001 (confidence 0.999)",
    ]


def test_confidence_is_how_sure_a_failure_is():
    counts = {"v1": 83, "v2": 17}
    assert 0.001 < p_value([83, 17], [0.9, 0.1]) < 0.05
    assert_split(counts, 0.9, 0.1)
    with pytest.raises(AssertionError, match=r"confidence 0\.95"):
        assert_split(counts, 0.9, 0.1, confidence=0.95)


def test_a_call_to_what_should_get_none_is_enough():
    with pytest.raises(AssertionError, match="that cannot be: v3 should get nothing"):
        assert_split({"v1": 90, "v2": 9, "v3": 1}, {"v1": 0.9, "v2": 0.1})
    with pytest.raises(AssertionError, match="v2 should get nothing"):
        assert_split({"v1": 1, "v2": 1}, {"v1": 1.0, "v2": 0.0})


def test_calls_are_counted_by_subset_by_host_or_in_the_order_of_the_route(mesh):
    client = mesh(CANARY, seed=1, endpoints={"reviews": {"v1": "127.0.0.1:1", "v2": "127.0.0.1:1"}}).client()
    calls = [client.get("http://reviews/") for _ in range(200)]
    assert_split(calls, {"v1": 0.9, "v2": 0.1})
    assert_split(calls, {"reviews/v1": 0.9, "reviews/v2": 0.1})
    assert_split(calls, 0.9, 0.1)
    assert_split(calls, {"reviews": 1.0})
    with pytest.raises(AssertionError, match="v1 18"):
        assert_split(calls, 0.1, 0.9)
    with pytest.raises(AssertionError, match=r"reviews\.default\.svc\.cluster\.local/v1 should get nothing"):
        assert_split([*calls, calls[0]], {"v3": 0.5, "v2": 0.5})


@pytest.mark.parametrize(
    ("counts", "expected", "said"),
    [
        ({"v1": 2, "v2": 0}, (0.9, 0.1), "2 calls cannot contradict any split at confidence 0.999: make at least 4"),
        ({}, ({"v1": 1.0},), "make at least 1"),
        ({"v1": 90, "v2": 10}, (90, 10), r"90 \+ 10 do not add up to 1"),
        ({"v1": 90, "v2": 10}, (0.9,), r"1 shares for 2 destinations \(v1, v2\)"),
        ({"v1": 90, "v2": 10}, ({"v1": 1.1, "v2": -0.1},), r"1\.1 \+ -0\.1: none is below 0, and they add up to 1"),
        ({"v1": 9, "v2": 1}, ({"v1": 0.9, "v2": float("nan")},), r"0\.9 \+ nan do not add up to 1"),
        ({"v1": 10, "v2": 0}, (0.5, 0.5), "10 calls cannot contradict any split at confidence 0.999: make at least 11"),
        ({"a": 6, "b": 0, "c": 0}, (1 / 3, 1 / 3, 1 / 3), "make at least 8"),
    ],
)
def test_a_test_that_could_not_fail_is_an_error(counts, expected, said):
    with pytest.raises(ValueError, match=said):
        assert_split(counts, *expected)


def test_a_confidence_is_a_probability():
    with pytest.raises(ValueError, match="not between 0 and 1"):
        assert_split({"v1": 1}, 1.0, confidence=99.9)


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.88, 0.12), (1 / 3, 1 / 3, 1 / 3), (0.6, 0.2, 0.2), (0.05,) * 20], ids=str
)
def test_as_many_calls_as_it_asks_for_can_fail_and_one_less_cannot(shares):
    with pytest.raises(ValueError, match="make at least") as raised:
        assert_split({str(each): 0 for each in range(len(shares))}, *shares)
    needed = int(str(raised.value).partition("at least ")[2].partition(",")[0])
    rarest = {str(each): 0 for each in range(len(shares))}
    rarest[str(len(shares) - 1)] = needed
    with pytest.raises(AssertionError):
        assert_split(rarest, *shares)
    rarest[str(len(shares) - 1)] -= 1
    with pytest.raises(ValueError, match=f"make at least {needed}"):
        assert_split(rarest, *shares)
