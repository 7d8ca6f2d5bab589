"""Envoy's retry budget."""

from __future__ import annotations

import pytest

from meshlib.policy.retry_budget import RetryBudget


@pytest.mark.parametrize(
    ("percent", "minimum", "retries", "active", "allowed"),
    [(20, 3, 2, 0, True), (20, 3, 3, 0, False), (20, 0, 1, 10, True), (20, 0, 2, 10, False), (0, 0, 0, 100, False)],
)
def test_envoys_budget_is_a_share_of_what_is_under_way(percent, minimum, retries, active, allowed):
    assert RetryBudget(percent, minimum).allows(retries, active, 0) is allowed
    assert RetryBudget(percent, minimum).allows(retries, 0, active) is allowed  # those in line count as well
