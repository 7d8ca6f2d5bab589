"""The outbound exchange: limits of the connection pool, and lines before them."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.drivers import finish, run
from meshlib.engine.outcome import Failure, Outcome
from tests.support.outbound import V1, bench
from tests.support.resources import destination_rule, to


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
