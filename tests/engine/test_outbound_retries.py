"""The outbound exchange: which attempts are made again, when, and where."""

from __future__ import annotations

import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.taken import Taken
from tests.support.outbound import ALL, V1, bench, idle
from tests.support.resources import destination_rule, to


def test_without_retries_in_the_resource_a_503_is_not_retried():
    b = bench({"route": [to("reviews", "v1")]})
    script = b.script(503)
    outcome, call = b.call(script)
    assert (outcome.status, len(script.sends), call.record.flags) == (503, 1, "")


def test_a_refused_connection_is_tried_on_other_endpoints_by_default_and_ends_with_uf_and_urx():
    b = bench({"route": [to("reviews")]})
    script = b.script(Failure.CONNECT_FAILED)
    outcome, call = b.call(script)
    assert outcome.failure is Failure.CONNECT_FAILED
    assert len(script.tried) == 3
    assert len(set(script.tried)) >= 2
    assert call.record.flags == "UF,URX"
    assert idle(b, ALL)


def test_retry_on_5xx_tries_again_and_delivers_the_good_answer():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 3, "retryOn": "5xx"}})
    script = b.script(503, 500, 200)
    outcome, call = b.call(script)
    assert outcome.status == 200
    assert [a.status for a in call.record.attempts] == [503, 500, 200]
    assert [s.attempt for s in script.sends] == [1, 2, 3]
    assert call.record.flags == ""


def test_retries_exhausted_deliver_the_last_answer_with_urx():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}})
    script = b.script(503)
    outcome, call = b.call(script)
    assert (outcome.status, len(script.sends), call.record.flags) == (503, 3, "URX")


def test_attempts_zero_turns_retries_off():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 0}})
    script = b.script(Failure.CONNECT_FAILED)
    _, call = b.call(script)
    assert (len(script.sends), call.record.flags) == (1, "UF")


@pytest.mark.parametrize("status", [400, 404, 409, 429])
def test_4xx_is_not_retried_by_5xx(status):
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}})
    script = b.script(status)
    b.call(script)
    assert len(script.sends) == 1


def test_backoff_is_uniform_below_25ms_times_two_to_the_retry_capped_at_ten_times():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 6, "retryOn": "5xx"}})
    ceilings = [0.025, 0.05, 0.1, 0.2, 0.25, 0.25]
    longest = [0.0] * 6
    for _ in range(200):
        script = b.script(503)
        b.call(script)
        assert all(pause <= ceiling for pause, ceiling in zip(script.sleeps, ceilings, strict=True))
        longest = [max(a, c) for a, c in zip(longest, script.sleeps, strict=True)]
    assert all(seen > 0.9 * ceiling for seen, ceiling in zip(longest, ceilings, strict=True))


def test_users_can_pass_a_tenacity_wait_strategy_for_the_backoff():
    from tenacity import wait_fixed, wait_incrementing

    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}})
    script = b.script(503)
    b.call(script, wait=wait_fixed(0.3) + wait_incrementing(0, 1))
    assert script.sleeps == pytest.approx([0.3, 1.3])


def test_a_body_that_cannot_be_replayed_is_sent_once():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}})
    script = b.script(503)
    outcome, _ = b.call(script, method="POST", replayable=False)
    assert (outcome.status, len(script.sends)) == (503, 1)


def test_post_is_retried_like_envoy_does_when_its_body_can_be_replayed():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}})
    script = b.script(503, 200)
    outcome, _ = b.call(script, method="POST")
    assert (outcome.status, len(script.sends)) == (200, 2)


def test_a_reset_is_not_retried_by_the_default_conditions():
    b = bench({"route": [to("reviews", "v1")]})
    script = b.script(Failure.RESET)
    outcome, call = b.call(script)
    assert (outcome.failure, len(script.sends), call.record.flags) == (Failure.RESET, 1, "UC")


def test_a_stale_connection_is_replaced_once_without_counting_as_retry_or_failure():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 0}})
    script = b.script(Outcome(Failure.RESET, "closed", stale=True), 200)
    outcome, _ = b.call(script)
    assert outcome.status == 200
    assert [s.attempt for s in script.sends] == [1, 1]
    assert b.state(V1).failures == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_leaving_server_has_not_worked_on_is_sent_again_up_to_five_times_and_no_retry_is_counted(method):
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 0}})
    leaving = Outcome(Failure.REFUSED, "GOAWAY", stale=True)
    script = b.script(*[leaving] * 5, 200)
    outcome, _ = b.call(script, method=method)
    assert outcome.status == 200
    assert [s.attempt for s in script.sends] == [1] * 6
    assert script.sleeps == [0.001, 0.004, 0.016, 0.064]
    assert b.state(V1).failures == 0

    script = b.script(*[leaving] * 6, 200)
    outcome, call = b.call(script, method=method)
    assert (outcome.failure, len(script.sends), call.record.flags) == (Failure.REFUSED, 6, "UR")


def test_what_a_leaving_server_has_not_worked_on_is_not_sent_again_when_its_body_is_gone_or_time_is_over():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 0}, "timeout": "10ms"})
    leaving = Outcome(Failure.REFUSED, "GOAWAY", stale=True)
    script = b.script(leaving, 200)
    b.call(script, method="POST", replayable=False)
    assert len(script.sends) == 1
    script = b.script(*[leaving] * 6, 200, took=0.0)
    b.call(script)
    assert len(script.sends) == 4  # after 0, 1 and 4 ms: 16 more are too many
    assert script.sends[-1].attempt == 1


def test_a_call_whose_connection_was_stale_keeps_its_slot_and_stands_in_no_line_again():
    policy = destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}})
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 0}}, policy)
    slots = b.state(V1).slots
    in_use, granted = [], []

    def stale(effect):
        in_use.append(slots.in_use)
        slots.enqueue(lambda: granted.append(1))  # another call comes, and has to wait
        return Outcome(Failure.RESET, "closed", stale=True)

    def answer(effect):
        in_use.append(slots.in_use)
        return Outcome(status=200, whole=b"")

    script = b.script(stale, answer)
    outcome, _ = b.call(script)
    assert (outcome.status, script.acquired, in_use) == (200, [], [1, 1])
    # given back once, to the one in line
    assert (granted, slots.in_use, slots.pending) == ([1], 1, 0)
    slots.release()
    assert slots.in_use == 0


def test_a_stale_connection_is_not_replaced_for_a_post():
    b = bench({"route": [to("reviews", "v1")]})
    script = b.script(Outcome(Failure.RESET, "closed", stale=True), 200)
    outcome, _ = b.call(script, method="POST")
    assert (outcome.failure, len(script.sends)) == (Failure.RESET, 1)


def test_the_callers_x_envoy_headers_add_conditions_and_set_the_count():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 1}})
    script = b.script(503)
    b.call(script, headers={"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "4"})
    assert len(script.sends) == 5


def test_max_retries_of_the_pool_stops_a_retry_and_delivers_what_there_is():
    policy = destination_rule("reviews", "v1", connectionPool={"http": {"maxRetries": 1}})
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}}, policy)
    other = Taken(b.live.cluster(V1), None, None)
    assert other.retry(b.clock.now)
    script = b.script(503)
    outcome, _ = b.call(script)
    assert (outcome.status, len(script.sends)) == (503, 1)
    other.give_back()
    assert idle(b, V1)


def test_an_overflow_reset_is_never_retried():
    b = bench({"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx,reset"}})
    script = b.script(Failure.OVERFLOW)
    b.call(script)
    assert len(script.sends) == 1
