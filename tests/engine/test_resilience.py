"""ResiliencePolicy through whole exchanges: what each mechanism does, and that in shadow mode it does nothing but tell."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine import deadlines
from meshlib.engine.call import CallerTimeouts
from meshlib.engine.drivers import finish, run
from meshlib.engine.outcome import Failure
from tests.support.resilience import ANSWER, BREAKER, HOST, bench, guard, hold, policy, statuses
from tests.support.resources import pod, service
from tests.support.scripted import Bench

# -- circuit breaker --------------------------------------------------------------------------------------------------


def test_an_open_breaker_refuses_calls_until_a_trial_succeeds():
    made = bench(circuitBreaker=BREAKER)
    assert statuses(made, 500, Failure.RESET) == [500, Failure.RESET]
    script = made.script(200)
    outcome, call = made.call(script)
    assert (outcome.status, outcome.whole, call.record.flags) == (503, b"circuit breaker open", "UO")
    assert (b"x-envoy-overloaded", b"true") in outcome.headers
    assert script.sends == []
    made.clock.advance(10)
    assert statuses(made, 200, 200) == [200, 200]
    assert guard(made).counts == {
        ("circuitBreaker", "open"): 1,
        ("circuitBreaker", "refused"): 1,
        ("circuitBreaker", "closed"): 1,
    } | {k: v for k, v in guard(made).counts.items() if k[1] == "half-open"}


def test_what_is_the_callers_own_doing_does_not_open_the_breaker():
    made = bench(circuitBreaker={**BREAKER, "failureThreshold": 1})
    assert statuses(made, 404, Failure.INVALID_REQUEST, Failure.REQUEST_BODY_FAILED, 200)[-1] == 200


def test_a_breaker_is_of_the_whole_service_and_survives_a_reload():
    resources = [service("reviews"), pod("reviews", "v1", 1), policy(circuitBreaker=BREAKER)]
    made = Bench(*resources)
    statuses(made, 500, 500)
    made.apply(*resources, pod("reviews", "v1", 2))
    assert statuses(made, 200) == [503]
    made.apply(service("reviews"), pod("reviews", "v1", 1), policy(circuitBreaker={**BREAKER, "failureThreshold": 9}))
    assert statuses(made, 200) == [200]


def test_a_cancelled_trial_is_no_verdict():
    made = bench(circuitBreaker={**BREAKER, "failureThreshold": 1})
    statuses(made, 500)
    made.clock.advance(10)
    _, exchange = made.begin()
    next(exchange)
    exchange.close()
    assert statuses(made, 200) == [200]


# -- bulkhead ---------------------------------------------------------------------------------------------------------


def test_a_full_bulkhead_refuses_and_frees_with_the_calls():
    made = bench(bulkhead={"maxConcurrent": 2})
    calls = [hold(made), hold(made)]
    script = made.script(200)
    script.on_acquire = lambda effect: None if effect.slots.enqueue(lambda: None) is None else True
    outcome, call = made.call(script)
    assert (outcome.status, outcome.whole, call.record.flags) == (503, b"bulkhead full", "UO")
    for exchange in calls:
        exchange.close()
    assert statuses(made, 200) == [200]
    assert guard(made).bulkhead.in_use == 0


def test_a_call_may_wait_for_its_place_as_long_as_its_timeout_allows():
    made = bench(bulkhead={"maxConcurrent": 1, "maxWaiting": 1}, rule={"timeout": "3s"})
    first = hold(made)
    script = made.script(200)
    script.on_acquire = lambda effect: False  # nobody leaves
    assert made.call(script)[0].whole == b"bulkhead full"
    assert script.acquired[0].timeout == pytest.approx(3.0)

    def leave(effect: Any) -> bool:
        effect.slots.enqueue(lambda: None)
        first.close()  # hands its place to the first in line
        return True

    script.on_acquire = leave
    assert made.call(script)[0].status == 200
    assert guard(made).bulkhead.in_use == 0


def test_a_call_that_a_reload_finds_under_way_is_counted_until_it_ends_and_no_longer():
    resources = [service("reviews"), pod("reviews", "v1", 1)]
    made = Bench(*resources, policy(bulkhead={"maxConcurrent": 2}))
    call = hold(made)
    made.apply(*resources, policy(bulkhead={"maxConcurrent": 3}))
    assert guard(made).status()["active"] == 1
    call.close()
    assert guard(made).status()["active"] == 0


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_retries_stop_at_the_budget_and_the_answer_is_the_upstreams():
    made = bench(
        retryBudget={"percent": 50, "minPerSecond": 0}, rule={"retries": {"attempts": 1, "retryOn": "5xx"}}, pods=2
    )
    sends = []
    for _ in range(8):
        script = made.script(500)
        outcome, _ = made.call(script)
        assert outcome.status == 500
        sends.append(len(script.sends))
    assert sum(sends) - 8 == 4


# -- adaptive concurrency ---------------------------------------------------------------------------------------------


def test_calls_beyond_the_limit_are_refused():
    made = bench(adaptiveConcurrency={"minLimit": 2, "maxLimit": 2})
    calls = [hold(made), hold(made)]
    outcome, call = made.call(made.script(200))
    assert (outcome.status, outcome.whole, call.record.flags) == (503, b"reached concurrency limit", "UO")
    for exchange in calls:
        exchange.close()
    assert statuses(made, 200) == [200]
    assert guard(made).active == 0


# -- deadline ---------------------------------------------------------------------------------------------------------


def test_the_deadline_of_the_request_being_served_bounds_the_call_and_is_sent_on():
    made = bench(deadline={"header": "X-Left"}, rule={"timeout": "9s"})
    script = made.script(200, took=0.5)
    with deadlines.until(made.clock.now + 2.0):
        _, call = made.call(script)
    assert script.sends[0].timeout == pytest.approx(2.0)
    assert call.request.deadlines == [("x-left", 2.0)]


def test_each_attempt_says_what_is_left_then():
    made = bench(deadline={}, rule={"retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}})
    with deadlines.until(made.clock.now + 2.0):
        _, call = made.call(made.script(500, took=0.5))
    left = [seconds for _, seconds in call.request.deadlines]
    assert left[0] == 2.0
    assert left[0] > left[1] + 0.49 > left[2] + 0.9


def test_a_deadline_that_has_passed_calls_nobody():
    made = bench(deadline={})
    script = made.script(200)
    with deadlines.until(made.clock.now - 1.0):
        outcome, call = made.call(script)
    assert (outcome.failure, call.record.flags, script.sends) == (Failure.TIMEOUT, "UT", [])


def test_the_routes_own_timeout_is_told_too_and_nothing_is_told_without_any():
    made = bench(deadline={}, rule={"timeout": "3s"})
    assert made.call(made.script(200))[1].request.deadlines == [("x-request-deadline", 3.0)]
    assert bench(deadline={}).call(made.script(200))[1].request.deadlines == []


def test_an_inner_deadline_does_not_extend_the_outer_one():
    with deadlines.until(5.0), deadlines.until(9.0):
        assert deadlines.around() == 5.0
    assert deadlines.around() is None


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({"x-left": "1500"}, 1.5),
        ({"x-left": "nonsense", "grpc-timeout": "2S"}, 2.0),
        ({"x-request-deadline": "100"}, 0.1),
        ({}, None),
    ],
)
def test_inbound_headers_are_read(headers, left):
    assert deadlines.seconds_left(headers, ["x-left"]) == left


# -- peak EWMA --------------------------------------------------------------------------------------------------------


def test_the_fast_endpoint_is_preferred():
    made = bench(loadBalancer={"peakEwma": {"decay": "10s"}}, pods=2)

    def behave(effect: Any) -> Any:
        slow = effect.endpoint.key.endswith(":1")
        return made.script(200, took=1.0 if slow else 0.01).send(effect)

    script = made.script(behave, took=0.0)
    for _ in range(30):
        made.call(script)
    assert script.tried[4:].count("127.0.0.1:2") > 20


# -- shadow -----------------------------------------------------------------------------------------------------------

SHADOWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "circuitBreaker": ({"circuitBreaker": {"failureThreshold": 1, "mode": "shadow"}}, {}),
    "bulkhead": ({"bulkhead": {"maxConcurrent": 1, "mode": "shadow"}}, {}),
    "retryBudget": (
        {"retryBudget": {"percent": 0, "minPerSecond": 0, "mode": "shadow"}},
        {"retries": {"attempts": 1, "retryOn": "5xx", "backoff": "1ms"}},
    ),
    "hedging": ({"hedging": {"delay": "1ms", "mode": "shadow"}}, {}),
    "adaptiveConcurrency": ({"adaptiveConcurrency": {"minLimit": 1, "maxLimit": 1, "mode": "shadow"}}, {}),
    "deadline": ({"deadline": {"mode": "shadow"}}, {}),
    "fallback": ({"fallback": {**ANSWER, "mode": "shadow"}}, {}),
    "loadBalancer": ({"loadBalancer": {"peakEwma": {}, "mode": "shadow"}}, {}),
}


@pytest.mark.parametrize("mechanism", SHADOWS)
def test_in_shadow_a_mechanism_tells_and_touches_nothing(mechanism):
    spec, rule = SHADOWS[mechanism]

    def story(made: Bench) -> list[Any]:
        told = []
        held = made.begin()[1]
        next(held)
        for outcome in (503, 500, 200, 503, 200):
            script = made.script(outcome, took=0.5)
            call, exchange = made.begin(timeouts=CallerTimeouts(read=30.0))
            with deadlines.until(made.clock.now + 1.0):
                delivered = run(exchange, script)
                finish(exchange)
            told.append(
                (
                    delivered.outcome.status,
                    call.record.flags,
                    script.tried,
                    [s.timeout for s in script.sends],
                    call.request.deadlines,
                )
            )
        held.close()
        return told

    with_policy, without = bench(rule=rule, **spec), bench(rule=rule)
    assert story(with_policy) == story(without)
    counts = guard(with_policy).counts
    assert any(name == mechanism and verdict.startswith("would have") for name, verdict in counts), counts


# -- seeing it --------------------------------------------------------------------------------------------------------


def test_explain_and_status_show_the_policy():
    import meshlib

    spec = {"circuitBreaker": BREAKER, "hedging": {"delay": "50ms", "mode": "shadow"}, "bulkhead": {"maxConcurrent": 5}}
    resources = [service("reviews"), pod("reviews", "v1", 1), policy(**spec)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        explanation = mesh.explain(url="http://reviews:9080/")
        (target,) = explanation.to_dict()["destinations"]
        assert target["resilience"]["resource"] == "ResiliencePolicy/default/p"
        text = str(explanation)
        assert "by ResiliencePolicy/default/p: circuitBreaker closed, bulkhead 0 of 5, hedging (shadow)" in text
        (status,) = mesh.status()["resilience"]
        assert (status["circuit_breaker"], status["shadow"]) == ("closed", ["hedging"])


def test_what_mechanisms_do_is_counted_in_a_metric():
    import httpx
    import prometheus_client

    import meshlib

    registry = prometheus_client.CollectorRegistry()
    resources = [service("reviews"), pod("reviews", "v1", 1), policy(circuitBreaker={"failureThreshold": 1})]
    with (
        meshlib.Mesh.from_resources(resources, registry=registry) as mesh,
        mesh.client(transport=httpx.MockTransport(lambda request: httpx.Response(500))) as client,
    ):
        for _ in range(3):
            client.get("http://reviews:9080/")
    labels = {"service": HOST, "mechanism": "circuitBreaker", "mode": "enforce", "verdict": "refused"}
    assert registry.get_sample_value("meshlib_resilience_total", labels) == 2


def test_two_policies_for_a_host_are_reported():
    made = bench(policy("q", bulkhead={"maxConcurrent": 1}), circuitBreaker=BREAKER)
    (problem,) = [p for p in made.live.snapshot.problems if p.code == "resilience-overlap"]
    assert "already has ResiliencePolicy/default/p" in problem.message
