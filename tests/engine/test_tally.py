"""Every attempt is counted once by what came of it, and what is seldom is counted where it happens."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.drivers import finish, run
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.tally import RESULTS, Tally, result_of
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.scripted import Bench

KEY = "outbound|9080||reviews.default.svc.cluster.local"
NONE = dict.fromkeys(RESULTS, 0)


def bench(*extra: dict[str, Any], retries: int = 0, pods: int = 2) -> Bench:
    retry = {"attempts": retries, **({"retryOn": "5xx,reset,connect-failure"} if retries else {})}
    rule = {"route": [to("reviews")], "retries": retry}
    return Bench(
        service("reviews"),
        *[pod("reviews", "v1", n + 1) for n in range(pods)],
        virtual_service("reviews", rule),
        *extra,
    )


def attempts(made: Bench) -> dict[str, int]:
    assert made.live is not None
    state = made.live.cluster(KEY).state
    counted = state.tally.attempts(state.ended)
    assert sum(counted.values()) == state.ended == state.requests
    return {result: count for result, count in counted.items() if count}


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (200, "response"),
        (404, "response"),
        (500, "server_error"),
        (503, "server_error"),
        (Failure.CONNECT_FAILED, "connect_failed"),
        (Failure.CONNECT_TIMEOUT, "connect_failed"),
        (Failure.RESET, "reset"),
        (Failure.PROTOCOL_ERROR, "reset"),
        (Failure.REFUSED, "reset"),
        (Failure.REQUEST_BODY_FAILED, "abandoned"),
        (Failure.CLOSED, "abandoned"),
    ],
)
def test_an_attempt_counts_by_what_came_of_it(outcome, result):
    made = bench()
    made.call(made.script(outcome))
    assert attempts(made) == {result: 1}


def test_each_attempt_of_a_retried_call_counts():
    made = bench(retries=3)
    made.call(made.script(503, Failure.RESET, Failure.CONNECT_FAILED, 200))
    assert attempts(made) == {"server_error": 1, "reset": 1, "connect_failed": 1, "response": 1}


def test_a_grpc_status_counts_as_the_http_status_that_stands_for_it():
    unavailable = Outcome(status=200, whole=b"")
    unavailable.grpc_status = 14
    made = bench()
    made.call(made.script(unavailable))
    assert attempts(made) == {"server_error": 1}
    assert result_of(unavailable) == "server_error"


def test_the_routes_timeout_is_the_endpoints_and_the_callers_own_is_not():
    rule = {"route": [to("reviews")], "timeout": "1s", "retries": {"attempts": 0}}
    made = Bench(service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", rule))
    made.call(made.script(Failure.TIMEOUT))
    made.call(made.script(Failure.TIMEOUT), timeouts=CallerTimeouts(None, 0.5, None, None))
    assert attempts(made) == {"timeout": 1, "abandoned": 1}


def test_a_stale_connection_that_is_replaced_counts_beside_the_attempt_that_follows():
    made = bench()
    made.call(made.script(Outcome(Failure.RESET, "closed", stale=True), 200))
    assert attempts(made) == {"stale": 1, "response": 1}


def test_a_call_that_is_cancelled_while_it_waits_has_abandoned_its_attempt():
    made = bench()
    _, exchange = made.begin()
    next(exchange)
    exchange.close()
    assert attempts(made) == {"abandoned": 1}


def test_a_response_that_is_dropped_unread_was_a_response():
    made = bench()
    _, exchange = made.begin()
    run(exchange, made.script(Outcome(status=200, body=object())))  # type: ignore[arg-type]
    exchange.close()
    assert attempts(made) == {"response": 1}


@pytest.mark.parametrize(("status", "result"), [(200, "reset"), (500, "server_error")])
def test_a_response_that_is_cut_short_counts_once(status, result):
    made = bench()
    _, exchange = made.begin()
    run(exchange, made.script(Outcome(status=status, body=object())))  # type: ignore[arg-type]
    finish(exchange, Failure.RESET)
    assert attempts(made) == {result: 1}


def test_the_number_of_responses_never_shrinks_while_errors_have_their_bodies_under_way():
    tally = Tally()
    assert tally.attempts(ended=5) == NONE | {"response": 5}
    tally.note("server_error")  # its head is there, its body is not: the attempt has not ended
    assert tally.attempts(ended=5) == NONE | {"response": 5, "server_error": 1}
    assert tally.attempts(ended=6) == NONE | {"response": 5, "server_error": 1}


def test_what_limits_refuse_is_counted_by_limit():
    made = bench(
        destination_rule("reviews", connectionPool={"http": {"http2MaxRequests": 1, "maxRetries": 1}}), retries=1
    )
    assert made.live is not None
    state = made.live.cluster(KEY).state
    _, first = made.begin()
    next(first)
    made.call(made.script(200))
    assert state.tally.overflows == {"requests": 1}
    first.close()
    state.retries_active = 1
    made.call(made.script(503))
    assert state.tally.overflows == {"requests": 1, "retries": 1}


def test_a_full_line_for_connections_is_an_overflow():
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}
    made = bench(destination_rule("reviews", connectionPool=pool))
    assert made.live is not None
    state = made.live.cluster(KEY).state
    assert state.slots is not None
    state.slots.try_acquire()
    script = made.script(200)
    script.on_acquire = lambda effect: None  # the line is full
    outcome, _ = made.call(script)
    assert outcome.status == 503
    assert state.tally.overflows == {"pending": 1}


def test_a_call_without_a_usable_endpoint_and_each_ejection_are_counted():
    outlier = {"consecutive5xxErrors": 1, "baseEjectionTime": "10s", "interval": "10s", "maxEjectionPercent": 100}
    made = bench(destination_rule("reviews", outlierDetection=outlier), pods=1)
    made.call(made.script(500))
    made.call(made.script(200))
    assert made.live is not None
    tally = made.live.cluster(KEY).state.tally
    assert (tally.ejections, tally.no_endpoint) == ({"consecutive 5xx": 1}, 1)
    made.clock.advance(30.0)
    made.call(made.script(200))
    assert tally.ejections == {"consecutive 5xx": 1}, "a return is not an ejection"


def test_in_a_forked_child_the_parents_attempts_are_abandoned():
    made = bench()
    _, exchange = made.begin()
    next(exchange)
    assert made.live is not None
    made.live.after_fork()
    assert attempts(made) == {"abandoned": 1}
    exchange.close()


def test_a_try_that_lost_to_a_hedge_is_nobodys_fault():
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], "hedging": {"delay": "100ms", "maxHedges": 1}},
    }
    made = bench(policy)
    script = made.script(200)
    took = iter([5.0, 0.1])
    send = script.send

    def slow_first(effect):
        script.took = next(took)
        return send(effect)

    script.send = slow_first  # type: ignore[method-assign]
    made.call(script)
    assert attempts(made) == {"abandoned": 1, "response": 1}
