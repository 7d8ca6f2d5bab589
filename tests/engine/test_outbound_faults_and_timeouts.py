"""The outbound exchange: the time a call has, and the faults that are injected into it."""

from __future__ import annotations

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from tests.support.outbound import V1, bench, idle
from tests.support.resources import to


def test_the_routes_timeout_bounds_all_tries_together():
    rule = {
        "route": [to("reviews", "v1")],
        "timeout": "2s",
        "retries": {"attempts": 3, "retryOn": "5xx", "perTryTimeout": "1s"},
    }
    b = bench(rule)
    began = b.clock.now
    script = b.script(Failure.TIMEOUT)
    outcome, call = b.call(script)
    assert outcome.failure is Failure.TIMEOUT
    assert b.clock.now - began == pytest.approx(2.0)
    assert len(script.sends) == 2
    assert "UT" in call.record.flags
    assert "DC" not in call.record.flags


def test_an_expired_per_try_timeout_is_not_retried_by_the_default_conditions():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "perTryTimeout": "500ms"}})
    script = b.script(Failure.TIMEOUT)
    outcome, call = b.call(script)
    assert (outcome.failure, len(script.sends), call.record.flags) == (Failure.TIMEOUT, 1, "UT")
    assert script.sends[0].timeout == pytest.approx(0.5)


def test_without_a_timeout_in_the_resource_there_is_no_limit():
    b = bench({"route": [to("reviews", "v1")]})
    script = b.script(200)
    b.call(script)
    assert (script.sends[0].timeout, script.sends[0].deadline) == (None, None)


def test_the_callers_read_timeout_counts_over_all_tries_and_is_not_held_against_the_endpoint():
    rule = {"route": [to("reviews", "v1")], "retries": {"attempts": 5, "retryOn": "5xx"}}
    b = bench(rule)
    script = b.script(503, Failure.TIMEOUT, took=0.2)
    outcome, call = b.call(script, timeouts=CallerTimeouts(read=1.0))
    assert outcome.failure is Failure.TIMEOUT
    assert call.record.flags == "DC"
    assert script.sends[1].timeout < 0.8
    assert b.state(V1).failures == 0


def test_an_abort_answers_without_sending_and_is_never_retried():
    rule = {
        "route": [to("reviews", "v1")],
        "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 100}}},
        "retries": {"attempts": 3, "retryOn": "5xx"},
    }
    b = bench(rule)
    script = b.script(200)
    outcome, call = b.call(script)
    assert (outcome.status, outcome.whole, call.record.flags, script.sends) == (500, b"fault filter abort", "FI", [])


def test_delay_and_abort_may_both_hit_and_the_routes_timeout_starts_after_the_delay():
    rule = {
        "route": [to("reviews", "v1")],
        "timeout": "1s",
        "fault": {
            "delay": {"fixedDelay": "2s", "percentage": {"value": 100}},
            "abort": {"httpStatus": 500, "percentage": {"value": 100}},
        },
    }
    b = bench(rule)
    began = b.clock.now
    outcome, call = b.call(b.script(200))
    assert (outcome.status, call.record.flags, b.clock.now - began) == (500, "DI,FI", pytest.approx(2.0))


def test_a_delayed_call_goes_on_to_the_upstream_with_its_whole_timeout():
    rule = {
        "route": [to("reviews", "v1")],
        "timeout": "1s",
        "fault": {"delay": {"fixedDelay": "2s", "percentage": {"value": 100}}},
    }
    b = bench(rule)
    script = b.script(200)
    outcome, call = b.call(script)
    assert (outcome.status, call.record.flags, script.sends[0].timeout) == (200, "DI", pytest.approx(1.0))
    assert script.sends[0].deadline == pytest.approx(call.record.started + 3.0)


def test_a_caller_less_patient_than_the_delay_gives_up_in_the_middle_of_it():
    rule = {
        "route": [to("reviews", "v1")],
        "fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 100}}},
    }
    b = bench(rule)
    began = b.clock.now
    script = b.script(200)
    outcome, call = b.call(script, timeouts=CallerTimeouts(read=3.0))
    assert outcome.failure is Failure.TIMEOUT
    assert (b.clock.now - began, call.record.flags, script.sends) == (pytest.approx(3.0), "DI,DC", [])


def test_any_status_may_be_one_to_retry_on():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "200,204"}})
    script = b.script(200, 204, 201)
    outcome, _ = b.call(script)
    assert (outcome.status, len(script.sends)) == (201, 3)


def wakes_early(script):
    """Sleeps end half a millisecond early, as uvloop's do."""
    script.sleep = lambda seconds: script.clock.advance(max(0.0, seconds - 0.0005))
    return script


def test_a_caller_who_gave_up_in_a_delay_stays_gone_when_the_sleep_ends_a_little_early():
    rule = {"route": [to("reviews", "v1")], "fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 100}}}}
    b = bench(rule)
    script = wakes_early(b.script(200))
    outcome, call = b.call(script, timeouts=CallerTimeouts(read=3.0))
    assert (outcome.failure, call.record.flags, script.sends) == (Failure.TIMEOUT, "DI,DC", [])


@pytest.mark.parametrize(
    ("timeout", "patience", "flag"), [("1s", None, "UT"), ("9s", 1.0, "DC"), ("1s", 1.0, "UT")], ids=str
)
def test_a_backoff_that_ends_the_call_ends_it_when_the_sleep_ends_a_little_early(timeout, patience, flag):
    retries = {"attempts": 3, "retryOn": "5xx", "backoff": "100s"}
    b = bench({"route": [to("reviews", "v1")], "timeout": timeout, "retries": retries})
    script = wakes_early(b.script(503))
    outcome, call = b.call(script, timeouts=CallerTimeouts(read=patience))
    assert outcome.failure is Failure.TIMEOUT
    assert call.record.flags == flag
    assert len(script.sends) == 1
    assert idle(b, V1)


def test_the_share_of_faults_is_that_of_the_resource():
    rule = {"route": [to("reviews", "v1")], "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 12.5}}}}
    b = bench(rule)
    hits = sum(b.call(b.script(200))[0].status == 503 for _ in range(8000))
    assert 880 <= hits <= 1120


def test_an_abort_without_percentage_never_happens():
    b = bench({"route": [to("reviews", "v1")], "fault": {"abort": {"httpStatus": 500}}})
    assert {b.call(b.script(200))[0].status for _ in range(100)} == {200}
