"""Plain calls without a generator: they do and say what ``outbound`` does, number for number."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshlib.engine import plain_call
from meshlib.engine.call import NO_TIMEOUTS, CallerTimeouts
from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.exchange import exchange_of, goes_on
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.tally import ABANDONED
from tests.support.outbound import PODS, SUBSETS, V1, bench, idle
from tests.support.resources import destination_rule, pod, to, virtual_service
from tests.support.scripted import Bench

PLAIN = {"route": [to("reviews", "v1")]}


def short(b: Bench, script: Any, parts: bool = False, **what: Any) -> tuple[Outcome, Any, bool]:
    """One call as a driver of plain calls makes it: what came of it, and whether it needed no generator. ``parts``: by one that
    says of a usual response, part by part, that it has ended."""
    call, _ = b.begin(**what)
    send = plain_call.begun(call)
    if send is None:
        exchange = exchange_of(call, brief=True)
        begun: Any = next(exchange)
    elif type(send) is Deliver:
        return send.outcome, call, True
    else:
        send.outcome = script.send(send)
        if parts and send.outcome.usual:
            now = call.clock.monotonic()
            plain_call.over(send, now)
            plain_call.noted(call, send, now)
            return send.outcome, call, True
        if plain_call.ended(call, send):
            return send.outcome, call, True
        exchange, begun = goes_on(call, send), None
    if type(begun) is Send:
        begun.outcome = script.send(begun)
        begun = None
    if begun is None:
        begun = next(exchange, None)
        if begun is None:
            assert call.outcome is not None
            return call.outcome, call, False
    delivered = begun if type(begun) is Deliver else run(exchange, script, begun)
    finish(exchange)
    return delivered.outcome, call, False


def test_a_plain_call_is_one_attempt_and_nothing_else():
    b = bench(PLAIN)
    script = b.script(200)
    outcome, call, plain = short(b, script)
    assert plain
    assert (outcome.status, call.record.endpoint) == (200, script.tried[0])
    assert call.record.upstream_ms == pytest.approx(10.0)
    assert call.outcome is outcome
    assert idle(b, V1)


MORE = {
    "a fault": {"fault": {"delay": {"percentage": {"value": 1}, "fixedDelay": "1s"}}},
    "a header": {"headers": {"request": {"set": {"a": "b"}}}},
    "a rewrite": {"rewrite": {"uri": "/other"}},
    "a subset that is not there": {"route": [to("reviews", "v1", 50), to("reviews", "v9", 50)]},
    "an answer of its own": {"directResponse": {"status": 200}, "route": []},
    "a retry of what is well": {"retries": {"attempts": 1, "retryOn": "200"}},
}


@pytest.mark.parametrize("what", MORE)
def test_a_rule_that_asks_for_more_begins_with_the_generator(what):
    b = bench({**PLAIN, **MORE[what]})
    assert plain_call.begun(b.begin()[0]) is None


POLICIES = {
    "a limit of connections": {"connectionPool": {"tcp": {"maxConnections": 1}}},
    "a hash": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}},
}


@pytest.mark.parametrize("what", POLICIES)
def test_so_does_a_cluster_that_asks_for_more(what):
    spec = {**SUBSETS["spec"], "trafficPolicy": POLICIES[what]}
    b = bench(PLAIN, {**SUBSETS, "spec": spec})
    assert plain_call.begun(b.begin()[0]) is None


def test_so_does_a_request_that_says_how_often_it_is_to_be_tried():
    b = bench(PLAIN)
    assert plain_call.begun(b.begin(headers={"x-envoy-max-retries": "3"})[0]) is None


def test_one_beyond_the_limit_of_requests_is_responded_to_at_once():
    limited = {**SUBSETS["spec"], "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 1}}}}
    b = bench(PLAIN, {**SUBSETS, "spec": limited})
    assert plain_call.begun(b.begin()[0]) is not None
    _, call, plain = short(b, b.script(200))
    assert (plain, call.record.flags) == (True, "UO")


def test_a_reload_makes_a_rule_plain_or_takes_that_away():
    b = bench(PLAIN)
    assert plain_call.begun(b.begin()[0]) is not None
    b.apply(*PODS, SUBSETS, virtual_service("reviews", {**PLAIN, **MORE["a fault"]}))
    assert plain_call.begun(b.begin()[0]) is None
    b.apply(*PODS, SUBSETS, virtual_service("reviews", PLAIN))
    assert plain_call.begun(b.begin()[0]) is not None


def test_one_that_is_given_up_is_over_and_counted_as_abandoned_once():
    b = bench(PLAIN)
    send = plain_call.begun(b.begin()[0])
    assert type(send) is Send
    assert b.state(V1).active == 1
    plain_call.given_up(send)
    plain_call.given_up(send)
    assert idle(b, V1)
    assert b.state(V1).tally.results[ABANDONED] == 1


def test_one_that_is_given_up_after_it_went_on_is_abandoned_by_the_generator():
    b = bench(PLAIN)
    call, _ = b.begin()
    send = plain_call.begun(call)
    assert type(send) is Send
    goes_on(call, send).close()
    assert idle(b, V1)
    assert b.state(V1).tally.results[ABANDONED] == 1


OUTLIERS = {"outlierDetection": {"consecutive5xxErrors": 2, "maxEjectionPercent": 100, "baseEjectionTime": "1s"}}
MANY = {"connectionPool": {"http": {"http2MaxRequests": 1000}}}
LIMITED = {**OUTLIERS, "connectionPool": {"http": {"http2MaxRequests": 1, "maxRetries": 0}}}
TIMEOUTS = [NO_TIMEOUTS, NO_TIMEOUTS, CallerTimeouts(read=0.5), CallerTimeouts(read=0.005), CallerTimeouts(read=0.0)]


def _streamed() -> Outcome:
    class Body:
        def abort(self) -> None:
            pass

    return Outcome(status=200, body=Body())  # type: ignore[arg-type]


WHAT: list[Any] = [
    *(200, 200, 200, 404, 409, 429, 500, 503),
    *(Failure.RESET, Failure.CONNECT_FAILED, Failure.TIMEOUT, Failure.CLOSED),
    lambda send: Outcome(Failure.RESET, stale=True),
    lambda send: _streamed(),
    lambda send: Outcome(status=200, whole=b"", headers=[(b"grpc-status", b"14")]),
    lambda send: Outcome(status=200, whole=b"", headers=[(b"x-envoy-ratelimited", b"true")]),
]


def _with_grpc(status: int) -> Any:
    def make(send: Send) -> Outcome:
        outcome = Outcome(status=200, whole=b"")
        outcome.grpc_status = status
        return outcome

    return make


def _usual(_: Send) -> Outcome:
    outcome = Outcome(status=200, whole=b"")
    outcome.usual = True
    return outcome


WHAT += [_with_grpc(0), _with_grpc(14), _with_grpc(5), _usual, _usual]


def test_who_was_ejected_may_be_picked_again_when_that_time_is_over():
    tried = destination_rule("reviews", "v1", "v2")
    tried["spec"]["trafficPolicy"] = OUTLIERS
    b = bench(PLAIN, tried, pod("reviews", "v1", 4))
    failing = b.script(*[500] * 20)
    while not any(each.ejected for each in b.state(V1).endpoints.values()):
        short(b, failing)
    short(b, b.script(200))  # of the two others
    b.clock.advance(600)
    assert short(b, b.script(200))[2]
    assert not any(each.ejected for each in b.state(V1).endpoints.values())


def test_outlier_detection_looks_at_its_endpoints_in_the_very_moment_that_it_said():
    tried = destination_rule("reviews", "v1", "v2")
    tried["spec"]["trafficPolicy"] = OUTLIERS
    b = bench(PLAIN, tried)
    assert short(b, b.script(200))[2]
    b.clock.now = tick = b.state(V1).next_tick
    assert short(b, b.script(200))[2]
    assert b.state(V1).next_tick > tick


@pytest.mark.parametrize("seed", range(40))
def test_calls_do_and_say_the_same_with_and_without_it(seed):
    dice = random.Random(seed)
    rule = {
        "route": dice.choice(
            [[to("reviews", "v1")], *([to("reviews", "v1", half), to("reviews", "v2", half)] for half in (50, 5000))]
        ),
        **dice.choice([{}, {}, {"timeout": "1s"}, {"timeout": "0.005s"}]),
        **dice.choice(
            [
                {},
                {"retries": {"attempts": 0}},
                {"retries": {"attempts": 2, "retryOn": "5xx,reset"}},
                {"retries": {"attempts": 2, "retryOn": "retriable-4xx,429", "perTryTimeout": "0.2s"}},
                {"retries": {"attempts": 1, "retryOn": "200,503"}},
            ]
        ),
        **dice.choice([{}, {}, {}, {"fault": {"abort": {"percentage": {"value": 30}, "httpStatus": 500}}}]),
    }
    policy = dice.choice([MANY, OUTLIERS, OUTLIERS, LIMITED])
    balancer = dice.choice([{}, {"loadBalancer": {"simple": "ROUND_ROBIN"}}])
    tried = {**destination_rule("reviews", "v1", "v2")}
    tried["spec"] = {**tried["spec"], "trafficPolicy": {**policy, **balancer}}
    what = [dice.choice(WHAT) for _ in range(50)]
    asked = [
        {
            "timeouts": dice.choice(TIMEOUTS),
            "method": dice.choice(["GET", "POST"]),
            "replayable": dice.random() < 0.8,
            "headers": dice.choice([{}, {}, {}, {"x-envoy-max-retries": "1", "x-envoy-retry-on": "5xx"}]),
        }
        for _ in range(50)
    ]
    told = []
    plain_ones = 0
    for way in (False, True):
        b = bench(rule, tried, seed=seed)
        rows: list[Any] = []
        for turn in range(50):
            script = b.script(*what[turn:], *what[:turn])
            if way:
                outcome, call, plain = short(b, script, turn % 2 == 0, **asked[turn])
                plain_ones += plain
            else:
                outcome, call = b.call(script, **asked[turn])
            answered = (outcome.failure, outcome.status, outcome.grpc_status, outcome.detail)
            times = [(each.timeout, each.deadline, each.attempt) for each in script.sends]
            rows.append((answered, call.record.to_dict(), script.sleeps, script.tried, times, call.record.started))
            assert idle(b, V1)
            b.clock.advance(0.1)
        states = [
            (each.key, each.ejected, each.spotless, b.state(V1).tally.results, b.state(V1).tally.overflows)
            for each in b.state(V1).endpoints.values()
        ]
        told.append((rows, states, b.state(V1).requests, b.rng.random()))
    assert told[0] == told[1]
    if "fault" not in rule and "200" not in str(rule):
        assert plain_ones > 0


@pytest.mark.parametrize("tells", [False, True])
def test_a_call_that_is_let_go_has_nothing_of_what_it_was(tells):
    b = bench(PLAIN)
    b.live.tells = tells
    fresh, _ = b.begin()
    script = b.script(200)
    outcome, call, plain = short(b, script)
    assert plain
    record = call.record
    assert hasattr(record, "answered") is tells
    record.status, record.grpc_status, record.peer_metadata = 200, 0, "somebody"
    outcome.stream = "a connection" if tells else None
    plain_call.let_go(call, record, outcome)
    new = fresh.record
    assert [
        (name, getattr(record, name))
        for name in ("destination", "attempted", "upstream_ms", "endpoint", "status", "grpc_status", "peer_metadata")
        if getattr(record, name) != getattr(new, name)
    ] == []
    assert [call.request, call.live, call.outcome, record.virtual_host, record.rule_object] == [None] * 5
    assert (outcome.whole, list(outcome.headers), outcome.stream) == (None, [], None)
    assert not hasattr(record, "answered")
