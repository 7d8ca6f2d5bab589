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
