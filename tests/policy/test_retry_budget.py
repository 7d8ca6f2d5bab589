"""Envoy's retry budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.retry_budget import RetryBudget


@pytest.mark.parametrize(
    ("percent", "minimum", "retries", "active", "allowed"),
    [(20, 3, 2, 0, True), (20, 3, 3, 0, False), (20, 0, 1, 10, True), (20, 0, 2, 10, False), (0, 0, 0, 100, False)],
)
def test_envoys_budget_is_a_share_of_what_is_under_way(percent, minimum, retries, active, allowed):
    assert RetryBudget(percent, minimum).allows(retries, active, 0) is allowed
    assert RetryBudget(percent, minimum).allows(retries, 0, active) is allowed  # those in line count as well


def test_the_defaults_are_envoys_and_have_words():
    assert RetryBudget() == RetryBudget(20.0, 3)
    assert RetryBudget().text == "20 % of active requests, at least 3"


@given(st.floats(0, 100), st.integers(0, 20), st.integers(0, 1000), st.integers(0, 1000))
def test_retries_that_are_let_through_one_by_one_end_at_the_share_rounded_down(percent, minimum, active, pending):
    budget, retries = RetryBudget(percent, minimum), 0
    while budget.allows(retries, active, pending):
        retries += 1
    assert retries == max(minimum, int(percent * (active + pending) / 100.0))


def test_the_limit_follows_what_is_under_way():
    budget = RetryBudget(50.0, 3)
    assert [budget.limit(active, 1) for active in (0, 5, 6, 19)] == [3, 3, 3, 10]
