"""The outbound exchange, on a fake clock and without a network."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.drivers import finish, run, run_brief
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.exchange import exchange_of
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.taken import Taken
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.scripted import Bench

PODS = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v1", 2), pod("reviews", "v2", 3)]
SUBSETS = destination_rule("reviews", "v1", "v2")
V1 = "outbound|9080|v1|reviews.default.svc.cluster.local"
ALL = "outbound|9080||reviews.default.svc.cluster.local"


def bench(rule: dict, *more: dict, seed: int = 7) -> Bench:
    return Bench(*PODS, *(more or (SUBSETS,)), virtual_service("reviews", rule), seed=seed)


def idle(b: Bench, cluster: str) -> bool:
    state = b.state(cluster)
    return state.active == 0 and state.retries_active == 0 and all(e.active == 0 for e in state.endpoints.values())


# -- routing and local answers ----------------------------------------------------------------------------------------


def test_no_rule_matches_is_404_with_flag_nr_and_nothing_is_sent():
    b = bench({"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("reviews", "v2")]})
    script = b.script(200)
    outcome, call = b.call(script)
    assert (outcome.status, outcome.whole, call.record.flags, script.sends) == (404, b"", "NR", [])
    assert call.record.rule is None


def test_unknown_subset_is_503_with_flag_nc():
    b = bench({"route": [to("reviews", "v9")]})
    outcome, call = b.call(b.script(200))
    assert (outcome.status, call.record.flags) == (503, "NC")


def test_subset_without_endpoints_is_503_no_healthy_upstream():
    b = Bench(
        *PODS, destination_rule("reviews", "v1", "v7"), virtual_service("reviews", {"route": [to("reviews", "v7")]})
    )
    outcome, call = b.call(b.script(200))
    assert (outcome.status, outcome.whole, call.record.flags) == (503, b"no healthy upstream", "UH")


def test_weights_are_drawn_per_call_and_replay_from_the_seed():
    rule = {"route": [to("reviews", "v1", 75), to("reviews", "v2", 25)]}

    def draw(seed: int) -> list[str]:
        b = bench(rule, seed=seed)
        return [b.call(b.script(200))[1].record.subset for _ in range(2000)]

    first = draw(1)
    assert first == draw(1) != draw(2)
    assert 1420 <= first.count("v1") <= 1580


# -- retries ----------------------------------------------------------------------------------------------------------


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


# -- timeouts ---------------------------------------------------------------------------------------------------------


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


# -- faults -----------------------------------------------------------------------------------------------------------


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


# -- limits -----------------------------------------------------------------------------------------------------------


def test_more_requests_than_http2_max_requests_overflow_with_envoys_answer():
    policy = destination_rule("reviews", "v1", connectionPool={"http": {"http2MaxRequests": 1}})
    b = bench({"route": [to("reviews", "v1")]}, policy)
    _, first = b.begin()
    run(first, b.script(Outcome(status=200, body=object())))  # its body is still being read
    outcome, call = b.call(b.script(200))
    assert (outcome.status, call.record.flags) == (503, "UO")
    assert (b"x-envoy-overloaded", b"true") in outcome.headers
    assert outcome.whole.endswith(b"reset reason: overflow")
    finish(first)
    assert b.call(b.script(200))[0].status == 200


def test_a_call_waits_in_line_for_a_connection_slot_and_gives_it_back():
    policy = destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}})
    b = bench({"route": [to("reviews", "v1")]}, policy)
    slots = b.state(V1).slots
    assert slots.try_acquire()
    script = b.script(200)
    outcome, _ = b.call(script, timeouts=CallerTimeouts(pool=5.0))
    assert (outcome.status, len(script.acquired), script.acquired[0].timeout) == (200, 1, 5.0)


def test_a_full_line_is_an_overflow():
    policy = destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}})
    b = bench({"route": [to("reviews", "v1")]}, policy)
    b.state(V1).slots.try_acquire()
    script = b.script(200)
    script.on_acquire = lambda effect: None
    outcome, call = b.call(script)
    assert (outcome.status, call.record.flags) == (503, "UO")


def test_a_call_that_waits_longer_than_its_pool_timeout_fails_as_pool_timeout():
    policy = destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}})
    b = bench({"route": [to("reviews", "v1")]}, policy)
    b.state(V1).slots.try_acquire()
    script = b.script(200)
    script.on_acquire = lambda effect: False
    outcome, _ = b.call(script, timeouts=CallerTimeouts(pool=0.1))
    assert outcome.failure is Failure.POOL_TIMEOUT


@pytest.mark.parametrize("whose", ["the route's", "the caller's"])
def test_a_place_that_comes_when_all_the_time_is_gone_is_given_back_and_nothing_is_sent(whose):
    policy = destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}})
    b = bench({"route": [to("reviews", "v1")], **({"timeout": "2s"} if whose == "the route's" else {})}, policy)
    slots = b.state(V1).slots
    assert slots.try_acquire()
    script = b.script(200)

    def late(effect: Any) -> bool:
        b.clock.advance(2.0)
        return True  # the place of the call before it

    script.on_acquire = late
    outcome, call = b.call(script, timeouts=CallerTimeouts(read=None if whose == "the route's" else 2.0))
    assert (outcome.failure, script.sends) == (Failure.TIMEOUT, [])
    assert f"{whose} " in outcome.detail
    assert (slots.in_use, b.state(V1).active) == (0, 0)


# -- bookkeeping ------------------------------------------------------------------------------------------------------


def test_an_exchange_closed_at_any_effect_gives_everything_back():
    policy = destination_rule(
        "reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}}, outlierDetection={"consecutive5xxErrors": 5}
    )
    rule = {"route": [to("reviews", "v1")], "retries": {"attempts": 3, "retryOn": "5xx"}}
    for stop_after in range(8):
        b = bench(rule, policy)
        _, exchange = b.begin()
        effect = next(exchange)
        for _ in range(stop_after):
            if type(effect) is Deliver:
                break
            if type(effect) is Send:
                effect.outcome = Outcome(status=503, whole=b"")
            effect = next(exchange)
        exchange.close()
        assert idle(b, V1), stop_after
        assert b.state(V1).slots.in_use == 0


def test_an_answer_cut_in_its_body_is_held_against_the_endpoint():
    policy = destination_rule("reviews", "v1", outlierDetection={"consecutive5xxErrors": 1, "maxEjectionPercent": 100})
    b = bench({"route": [to("reviews", "v1")]}, policy)
    call, exchange = b.begin()
    run(exchange, b.script(Outcome(status=200, body=object())))
    finish(exchange, Failure.RESET)
    assert call.record.flags == "UC"
    assert b.state(V1).endpoints[call.record.endpoint].ejected


def test_an_ejected_endpoint_gets_no_calls_until_it_returns():
    policy = destination_rule(
        "reviews",
        "v1",
        outlierDetection={
            "consecutive5xxErrors": 3,
            "interval": "1s",
            "baseEjectionTime": "30s",
            "maxEjectionPercent": 100,
        },
    )
    b = bench({"route": [to("reviews", "v1")]}, policy)
    bad = "127.0.0.1:1"

    def answer(effect):
        return 503 if effect.endpoint.key == bad else 200

    for _ in range(60):
        b.call(b.script(answer))
    assert b.state(V1).endpoints[bad].ejected
    script = b.script(200)
    for _ in range(50):
        b.call(script)
    assert set(script.tried) == {"127.0.0.1:2"}
    b.clock.advance(32)
    for _ in range(50):
        b.call(script)
    assert bad in script.tried


def test_a_call_ends_on_the_configuration_it_began_with():
    b = bench({"route": [to("reviews", "v1")]})
    call, exchange = b.begin()
    b.apply(*PODS, SUBSETS, virtual_service("reviews", {"route": [to("reviews", "v2")]}))
    script = b.script(200)
    run(exchange, script)
    finish(exchange)
    assert call.record.subset == "v1"
    assert b.call(b.script(200))[1].record.subset == "v2"


def test_ejections_survive_a_reload():
    policy = destination_rule("reviews", "v1", outlierDetection={"consecutive5xxErrors": 1, "maxEjectionPercent": 100})
    rule = virtual_service("reviews", {"route": [to("reviews", "v1")]})
    b = Bench(*PODS, policy, rule)
    _, call = b.call(b.script(503))
    bad = call.record.endpoint
    b.apply(*PODS, policy, rule, service("other"))
    assert b.state(V1).endpoints[bad].ejected
    script = b.script(200)
    for _ in range(20):
        b.call(script)
    assert bad not in script.tried


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"mode": "SIMPLE", "credentialName": "secret"}, "TLS secret secret"),
    ],
)
def test_tls_that_cannot_be_had_fails_the_call_instead_of_going_out_in_plaintext(tls, words):
    b = bench({"route": [to("reviews", "v1")]}, destination_rule("reviews", "v1", tls=tls))
    script = b.script(200)
    outcome, call = b.call(script)
    assert (outcome.failure, call.record.flags, script.sends) == (Failure.CONNECT_FAILED, "UF", [])
    assert words in outcome.detail
    (problem,) = [p for p in b.live.snapshot.problems if p.code == "tls-not-available"]
    assert problem.path == "DestinationRule/default/reviews"


FAILS = Failure.CONNECT_FAILED


@pytest.mark.parametrize(
    ("settings", "results", "ejected_after"),
    [
        ({"consecutive5xxErrors": 3}, [200, 500, 500, 200, 500, 500, 200, 500], None),
        ({"consecutive5xxErrors": 3}, [200, 500, 500, 200, 500, 500, 500], 7),
        ({"consecutive5xxErrors": 3}, [200, FAILS, 500, 200, 500, FAILS, 200, 500], None),
        ({"consecutiveGatewayErrors": 2, "consecutive5xxErrors": 0}, [200, 503, 200, 503, 404, 503], None),
        ({"consecutiveGatewayErrors": 2, "consecutive5xxErrors": 0}, [200, 503, 404, 503, 503], 5),
        (
            {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2, "consecutive5xxErrors": 0},
            [200, FAILS, 200, FAILS, 200, FAILS],
            None,
        ),
        (
            {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2, "consecutive5xxErrors": 0},
            [200, FAILS, 200, FAILS, FAILS],
            5,
        ),
    ],
)
def test_only_failures_in_a_row_eject_whatever_came_before(settings, results, ejected_after):
    policy = destination_rule("reviews", outlierDetection={"maxEjectionPercent": 100, **settings})
    rule = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}})
    b = Bench(service("reviews"), pod("reviews", "v1", 1), policy, rule)
    for number, result in enumerate(results, 1):
        _, call = b.call(b.script(result, took=0.0))
        (endpoint,) = b.state(call.record.destination.cluster).endpoints.values()
        assert endpoint.ejected == (ejected_after == number), number


def test_addresses_outside_that_callers_dial_are_not_remembered_without_bound(monkeypatch):
    monkeypatch.setattr("meshlib.engine.cluster.MAX_PASSTHROUGH_ENDPOINTS", 5)
    b = bench({"route": [to("reviews")]})
    script = b.script(200)
    for number in range(20):
        _, call = b.call(script, f"http://{number}.example.com/")
    assert script.tried == [f"{number}.example.com:80" for number in range(20)]
    assert len(b.state(call.record.destination.cluster).endpoints) == 5


# -- brief exchanges --------------------------------------------------------------------------------------------------


def brief(b: Bench, script: Any, **what: Any) -> tuple[Any, Any]:
    """One call whose driver takes brief exchanges: what it ended with, and the call."""
    call, _ = b.begin(**what)
    exchange = exchange_of(call, brief=True)
    ended = run_brief(exchange, script)
    if type(ended) is Deliver:
        finish(exchange)
    return ended, call


def test_a_brief_exchange_ends_with_its_only_attempt_when_the_response_is_whole():
    b = bench({"route": [to("reviews", "v1")]})
    script = b.script(200)
    ended, call = brief(b, script)
    assert ended is script.sends[0]
    assert (ended.outcome.status, call.record.endpoint) == (200, ended.endpoint.key)
    assert idle(b, V1)


LASTING = {
    "a response that is to be read": ({}, Outcome(status=200, body=object())),
    "a failure": ({"retries": {"attempts": 0}}, Failure.CONNECT_FAILED),
    "a second attempt": ({"retries": {"attempts": 1, "retryOn": "5xx"}}, 503),
    "another connection": ({}, Outcome(Failure.RESET, stale=True)),
    "headers of the response": ({"headers": {"response": {"add": {"x": "y"}}}}, 200),
}


@pytest.mark.parametrize("why", LASTING)
def test_a_brief_exchange_delivers_as_others_do_where_it_has_more_to_do(why):
    settings, first = LASTING[why]
    b = bench({"route": [to("reviews", "v1")], **settings})
    ended, _ = brief(b, b.script(first, 200))
    assert type(ended) is Deliver
    assert idle(b, V1)


def test_a_brief_exchange_with_a_connection_slot_delivers_as_others_do():
    pool = {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}}}
    b = bench({"route": [to("reviews", "v1")]}, {**SUBSETS, "spec": {**SUBSETS["spec"], **pool}})
    assert type(brief(b, b.script(200))[0]) is Deliver
    slots = b.state(V1).slots
    assert slots is not None
    assert slots.try_acquire()  # the one there is


@pytest.mark.parametrize("seed", range(15))
def test_brief_exchanges_do_and_say_what_others_do(seed):
    dice = random.Random(seed)
    rule = {
        "route": [to("reviews", "v1", 50), to("reviews", "v2", 50)],
        **dice.choice([{}, {"timeout": "1s"}, {"retries": {"attempts": 2, "retryOn": "5xx,reset"}}]),
        **dice.choice([{}, {}, {"fault": {"abort": {"percentage": {"value": 30}, "httpStatus": 500}}}]),
        **dice.choice([{}, {}, {"rewrite": {"uri": "/other"}}]),
    }
    policy = {"outlierDetection": {"consecutive5xxErrors": 2, "maxEjectionPercent": 100}}
    tried = {**SUBSETS, "spec": {**SUBSETS["spec"], "trafficPolicy": policy}}
    what = [dice.choice([200, 200, 404, 503, Failure.RESET, Failure.CONNECT_FAILED]) for _ in range(60)]
    told = []
    for short in (False, True):
        b = bench(rule, tried, seed=seed)
        rows: list[Any] = []
        for turn in range(60):
            script = b.script(*what[turn:], *what[:turn])
            if short:
                ended, call = brief(b, script)
                outcome = ended.outcome
            else:
                outcome, call = b.call(script)
            rows.append((outcome.failure, outcome.status, call.record.to_dict(), script.sleeps, script.tried))
            assert idle(b, V1)
        told.append((rows, [(e.key, e.ejected) for e in b.state(V1).endpoints.values()], b.rng.random()))
    assert told[0] == told[1]
