"""ResiliencePolicy through whole exchanges: what each mechanism does, and that in shadow mode it does nothing but tell."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine import deadlines
from meshlib.engine.call import CallerTimeouts
from meshlib.engine.drivers import finish, run
from meshlib.engine.outcome import Failure, Outcome
from tests.support.mesh_config import config_map
from tests.support.resources import pod, service, to, virtual_service
from tests.support.scripted import Bench

HOST = "reviews.default.svc.cluster.local"


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], **spec},
    }


def bench(*extra: dict[str, Any], pods: int = 3, rule: Any = None, **spec: Any) -> Bench:
    rules = [virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}, **(rule or {})})]
    return Bench(
        service("reviews"),
        *[pod("reviews", "v1", n + 1) for n in range(pods)],
        *rules,
        *([policy(**spec)] if spec else []),
        *extra,
    )


def guard(made: Bench) -> Any:
    assert made.live is not None
    made.live.cluster(f"outbound|9080||{HOST}")
    return made.live.guards[HOST]


def statuses(made: Bench, *outcomes: Any) -> list[Any]:
    found = []
    for outcome in outcomes:
        answer, _ = made.call(made.script(outcome))
        found.append(answer.status or answer.failure)
    return found


# -- circuit breaker --------------------------------------------------------------------------------------------------

BREAKER = {"failureThreshold": 2, "resetTimeout": "10s"}


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


def hold(made: Bench) -> Any:
    """A call that is under way."""
    _, exchange = made.begin()
    next(exchange)
    return exchange


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


# -- hedging ----------------------------------------------------------------------------------------------------------


def by_turn(*steps: tuple[Any, float]) -> Any:
    """A script's outcomes with their own duration each."""
    left = list(steps)

    def behave(made: Bench) -> Any:
        def one(effect: Any) -> Any:
            what, took = left.pop(0)
            return made.script(what, took=took).send(effect)

        return made.script(one, took=0.0)

    return behave


def test_a_slow_try_gets_company_and_the_first_answer_wins():
    made = bench(hedging={"delay": "100ms"})
    script = by_turn((200, 5.0), (201, 0.05))(made)
    outcome, call = made.call(script)
    assert (outcome.status, made.clock.now) == (201, pytest.approx(made.clock.now))
    assert len(set(script.tried)) == 2
    assert [a.failure or a.status for a in call.record.attempts] == ["lost to a hedge", 201]
    state = made.state(f"outbound|9080||{HOST}")
    assert (state.active, [e.active for e in state.endpoints.values()]) == (0, [0, 0, 0])


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ((200, 0.05), (201, 0.0), 200),  # no hedge at all
        ((200, 0.3), (201, 5.0), 200),  # the first wins after all
        ((500, 0.3), (201, 0.5), 201),  # an error does not win while another try runs
        ((Failure.RESET, 0.3), (201, 0.5), 201),
        ((200, 0.3), (503, 0.1), 200),
        ((500, 0.3), (503, 0.5), 503),  # all failed: the last
    ],
)
def test_who_wins(first, second, status):
    made = bench(hedging={"delay": "100ms"})
    outcome, _ = made.call(by_turn(first, second)(made))
    assert outcome.status == status


@pytest.mark.parametrize(
    ("method", "more", "sends"), [("POST", {}, 1), ("POST", {"unsafeMethods": True}, 2), ("GET", {}, 2)]
)
def test_unsafe_methods_are_hedged_only_when_asked(method, more, sends):
    made = bench(hedging={"delay": "100ms", **more})
    script = by_turn((200, 1.0), (200, 1.0))(made)
    made.call(script, method=method)
    assert len(script.sends) == sends


def test_a_hedge_takes_a_connection_slot_or_does_not_happen():
    from tests.support.resources import destination_rule

    made = bench(destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 1}}), hedging={"delay": "100ms"})
    script = by_turn((200, 1.0), (200, 1.0))(made)
    made.call(script)
    assert len(script.sends) == 1
    assert made.state(f"outbound|9080||{HOST}").slots.in_use == 0


def test_a_hedge_that_lost_gives_its_connection_slot_back():
    from tests.support.resources import destination_rule

    made = bench(destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 2}}), hedging={"delay": "100ms"})
    script = by_turn((200, 5.0), (201, 0.05))(made)
    assert made.call(script)[0].status == 201
    assert made.state(f"outbound|9080||{HOST}").slots.in_use == 0


def test_a_cancelled_race_gives_everything_back():
    made = bench(hedging={"delay": "100ms"})
    _, exchange = made.begin()
    race = next(exchange)
    race.tries.another()
    state = made.state(f"outbound|9080||{HOST}")
    assert state.active == 2
    exchange.close()
    assert state.active == 0


def test_a_percentile_needs_experience():
    made = bench(hedging={"percentile": 90})
    for _ in range(30):
        made.call(made.script(200, took=0.01))
    script = by_turn((200, 1.0), (201, 0.01))(made)
    assert made.call(script)[0].status == 201


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


# -- fallback ---------------------------------------------------------------------------------------------------------

ANSWER = {"response": {"status": 200, "body": "none today", "headers": {"X-Stale": "1"}}}


@pytest.mark.parametrize("outcome", [502, 503, 504, Failure.CONNECT_FAILED, Failure.RESET, Failure.TIMEOUT])
def test_a_call_that_failed_for_good_is_answered_by_the_fallback(outcome):
    made = bench(fallback=ANSWER, rule={"timeout": "1s"})
    answer, call = made.call(made.script(outcome))
    assert (answer.status, answer.whole, (b"x-stale", b"1") in answer.headers) == (200, b"none today", True)
    assert call.record.flags.endswith("FB")
    assert made.state(f"outbound|9080||{HOST}").active == 0


@pytest.mark.parametrize("outcome", [200, 404, 500, Failure.INVALID_REQUEST])
def test_other_answers_are_left_alone(outcome):
    answer, _ = bench(fallback=ANSWER).call(bench().script(outcome))
    assert (answer.status or answer.failure) == outcome


def test_the_fallback_comes_after_the_retries():
    made = bench(fallback=ANSWER, rule={"retries": {"attempts": 2, "retryOn": "5xx"}})
    script = made.script(503)
    made.call(script)
    assert len(script.sends) == 3


def test_refusals_of_other_mechanisms_fall_back_too():
    made = bench(fallback=ANSWER, circuitBreaker={**BREAKER, "failureThreshold": 1})
    made.call(made.script(500))
    script = made.script(200)
    assert made.call(script)[0].whole == b"none today"
    assert script.sends == []


def test_another_destination_may_be_the_fallback():
    made = bench(
        service("cache"), pod("cache", "v1", 77), fallback={"destination": {"host": "cache", "port": {"number": 9080}}}
    )
    script = made.script(503, 200)
    answer, call = made.call(script)
    assert (answer.status, call.record.host) == (200, "cache.default.svc.cluster.local")
    assert [a.status for a in call.record.attempts] == [503, 200]
    assert script.tried[-1].endswith(":77")
    assert call.outcome is answer  # whose bytes metrics and access logs count


def test_a_fallback_destination_is_called_as_often_as_the_mesh_config_says():
    cache = [service("cache"), pod("cache", "v1", 77)]
    policy = {"destination": {"host": "cache", "port": {"number": 9080}}}
    for mesh, tries in (([], 3), ([config_map(defaultHttpRetryPolicy={"attempts": 0})], 1)):
        made = bench(*cache, *mesh, fallback=policy, rule={"retries": {"attempts": 0}})
        script = made.script(*[Outcome(Failure.CONNECT_FAILED)] * 4)
        made.call(script)
        assert [endpoint for endpoint in script.tried if endpoint.endswith(":77")] == ["127.0.0.1:77"] * tries


def test_the_failed_call_is_over_before_the_fallback_begins():
    made = bench(
        service("cache"), pod("cache", "v1", 77), fallback={"destination": {"host": "cache", "port": {"number": 9080}}}
    )
    seen = []

    def behave(effect: Any) -> Any:
        seen.append(made.state(f"outbound|9080||{HOST}").active)
        return made.script(503 if len(seen) == 1 else 200).send(effect)

    made.call(made.script(behave))
    assert seen == [1, 0]


def test_the_body_of_the_failed_answer_is_dropped():
    class Body:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    body = Body()
    made = bench(fallback=ANSWER)
    assert made.call(made.script(Outcome(status=503, body=body)))[0].status == 200
    assert body.aborted


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
    "bulkhead": ({"bulkhead": {"maxConcurrent": 0, "mode": "shadow"}}, {}),
    "retryBudget": (
        {"retryBudget": {"percent": 0, "minPerSecond": 0, "mode": "shadow"}},
        {"retries": {"attempts": 1, "retryOn": "5xx", "backoff": "1ms"}},
    ),
    "hedging": ({"hedging": {"delay": "1ms", "mode": "shadow"}}, {}),
    "adaptiveConcurrency": ({"adaptiveConcurrency": {"minLimit": 0, "maxLimit": 0, "mode": "shadow"}}, {}),
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
