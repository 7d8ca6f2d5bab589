"""The circuit breaker of a service, decision by decision."""

from __future__ import annotations

import pytest

from meshlib.policy.breaker import Breaker, BreakerSettings


def breaker(threshold: int = 3, reset: float = 10.0) -> Breaker:
    return Breaker(BreakerSettings(threshold, reset))


def test_failures_in_a_row_open_the_breaker():
    made = breaker()
    for success in (False, False, True, False, False):
        assert made.admit(0.0)
        made.record(success, 0.0)
    assert made.state == "closed"
    made.record(False, 0.0)
    assert (made.state, made.admit(0.0), made.admit(9.9)) == ("open", False, False)


@pytest.mark.parametrize(("success", "state"), [(True, "closed"), (False, "open")])
def test_after_its_timeout_one_trial_decides(success, state):
    made = breaker(1)
    made.record(False, 100.0)
    assert made.admit(110.0)
    assert (made.state, made.admit(110.0)) == ("half-open", False)
    made.record(success, 111.0)
    assert (made.state, made.admit(111.0)) == (state, success)


def test_a_trial_without_verdict_leaves_room_for_another():
    made = breaker(1)
    made.record(False, 0.0)
    assert made.admit(10.0)
    made.abandon()
    assert made.admit(10.0)


def test_late_results_of_calls_from_before_change_nothing_while_open():
    made = breaker(1)
    made.record(False, 0.0)
    made.record(True, 1.0)
    made.record(False, 2.0)
    assert made.state == "open"
    assert made.admit(10.0)  # counted from when it opened, not from the late failure


def test_the_failure_that_reaches_the_threshold_opens_it_and_the_reset_is_to_the_second():
    made = breaker(2, 10.0)
    made.record(False, 100.0)
    assert made.admit(100.0)
    made.record(False, 101.0)
    assert made.state == "open"
    assert not made.admit(110.999)
    assert made.admit(111.0)


def test_a_success_clears_the_count():
    made = breaker(2)
    for success in (False, True, False, True, False):
        made.record(success, 0.0)
    assert (made.state, made.storage.counter) == ("closed", 1)


def test_closed_again_it_counts_from_nothing_and_open_again_it_waits_anew():
    made = breaker(2, 10.0)
    made.record(False, 0.0)
    made.record(False, 0.0)
    assert made.admit(10.0)
    made.record(True, 10.0)
    made.record(False, 11.0)
    assert made.state == "closed"
    made.record(False, 12.0)
    assert not made.admit(21.9)
    assert made.admit(22.0)
    made.record(False, 23.0)
    assert not made.admit(32.9)
    assert made.admit(33.0)


def test_a_trial_of_another_process_does_not_take_ours():
    mine = breaker(1, 10.0)
    mine.record(False, 0.0)
    other = Breaker(mine.settings, mine.storage)
    assert mine.admit(10.0)
    assert other.state == "half-open"
    assert other.admit(10.0)
    assert not other.admit(10.0)


def test_the_defaults():
    assert BreakerSettings() == BreakerSettings(5, 30.0, "")
