"""Brief exchanges, which end with a whole response: they do and say what others do."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshlib.engine.drivers import finish, run_brief
from meshlib.engine.effects import Deliver
from meshlib.engine.exchange import exchange_of
from meshlib.engine.outcome import Failure, Outcome
from tests.support.outbound import SUBSETS, V1, bench, idle
from tests.support.resources import to
from tests.support.scripted import Bench


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
