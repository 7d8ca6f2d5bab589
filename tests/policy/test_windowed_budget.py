"""A retry budget over the last ten seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.windowed_budget import WindowedBudget, WindowedBudgetSettings


def test_a_windowed_budget_is_a_share_of_the_last_ten_seconds():
    budget = WindowedBudget(WindowedBudgetSettings(percent=20.0, min_per_second=0))
    for _ in range(50):
        budget.call(100.0)
    taken = 0
    while budget.allows(105.0):
        budget.retry(105.0)
        taken += 1
    assert taken == 10
    assert not budget.allows(109.9)
    assert not budget.allows(110.0)  # the calls are forgotten, and with them the right to retry


def test_some_retries_a_second_are_always_allowed():
    budget = WindowedBudget(WindowedBudgetSettings(percent=0.0, min_per_second=2))
    taken = 0
    while budget.allows(0.5):
        budget.retry(0.5)
        taken += 1
    assert taken == 20


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=300))
def test_retries_never_exceed_the_budget_whenever_they_come(steps):
    budget = WindowedBudget(WindowedBudgetSettings(25.0, 0))
    now, calls, retries = 50.0, [], []
    for pause, is_call in steps:
        now += pause
        if is_call:
            budget.call(now)
            calls.append(now)
        elif budget.allows(now):
            budget.retry(now)
            retries.append(now)
        recent = [t for t in retries if int(t) > int(now) - 10]
        assert len(recent) <= 0.25 * len([t for t in calls if int(t) > int(now) - 20]) + 1e-9


def test_what_is_ten_seconds_old_no_longer_counts():
    budget = WindowedBudget(WindowedBudgetSettings(percent=100.0, min_per_second=0))
    budget.call(100.0)
    budget.call(103.9)
    assert budget.allows(109.9)
    budget.retry(109.9)
    assert budget.allows(109.9)
    budget.retry(109.9)
    assert not budget.allows(109.9)
    assert not budget.allows(112.9)  # the first call is gone, its retry is not
    budget.call(113.0)
    budget.call(113.0)
    budget.call(113.0)
    assert budget.allows(113.9)
    budget.retry(113.9)
    assert not budget.allows(113.9)


def test_after_a_long_silence_nothing_is_left():
    budget = WindowedBudget(WindowedBudgetSettings(percent=100.0, min_per_second=0))
    for second in range(20):
        budget.call(float(second))
    assert budget.allows(20.0)
    assert not budget.allows(10_000.0)


def test_a_clock_of_another_thread_that_is_a_little_behind_forgets_nothing():
    budget = WindowedBudget(WindowedBudgetSettings(percent=100.0, min_per_second=0))
    budget.call(105.0)
    budget.retry(104.0)
    assert not budget.allows(104.0)
    assert not budget.allows(105.0)


def test_the_defaults_are_a_fifth_and_ten_a_second():
    settings = WindowedBudgetSettings()
    assert (settings.percent, settings.min_per_second) == (20.0, 10)


def test_before_the_first_call_of_all_there_is_nothing_to_retry():
    budget = WindowedBudget(WindowedBudgetSettings(percent=100.0, min_per_second=0))
    assert not budget.allows(0.0)
    budget.call(0.0)
    assert budget.allows(0.9)
    budget.retry(0.9)
    assert not budget.allows(9.9)


def test_who_looks_sees_the_retries_of_the_window_and_what_is_allowed():
    budget = WindowedBudget(WindowedBudgetSettings(percent=50.0, min_per_second=1))
    for _ in range(4):
        budget.call(100.0)
    budget.retry(101.0)
    assert budget.standing(102.0) == (1, 12.0)
    assert budget.standing(120.0) == (0, 10.0), "all of it is too long ago"
