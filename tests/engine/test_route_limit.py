"""How often a route may be called, said at the route."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshlib.compiler.inbound import NOTHING
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.route_limit import RouteLimit
from tests.support.fake_clock import FakeClock

CLOCK = FakeClock()


def call(**facts: Any) -> InboundCall:
    return InboundCall(InboundRequest("GET", "/", **facts), NOTHING, CLOCK, random.Random(1))


def test_who_calls_too_often_hears_when_to_come_again() -> None:
    limit = RouteLimit("2 per 10 seconds")
    assert [limit.refusal(call()) for _ in range(2)] == [None, None]
    third = call()
    refusal = limit.refusal(third)
    assert refusal is not None
    assert (refusal.status, refusal.headers, third.flags) == (429, ((b"retry-after", b"5"),), "RL")
    CLOCK.advance(5)
    assert limit.refusal(call()) is None


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("caller", {"principal": "spiffe://a/b"}, {"principal": "spiffe://a/c"}),
        ("caller", {"peer": "10.0.0.1:1"}, {"peer": "10.0.0.2:1"}),
        ("principal", {"principal": "spiffe://a/b"}, {}),
        ("source_ip", {"peer": "10.0.0.1:1"}, {"peer": "10.0.0.2:1"}),
        ("remote_ip", {"headers": [("x-forwarded-for", "10.0.0.1")]}, {"headers": [("x-forwarded-for", "10.0.0.2")]}),
        ("header:X-Key", {"headers": [("x-key", "a")]}, {}),
        (lambda request: request.method + request.peer, {"peer": "10.0.0.1:1"}, {"peer": "10.0.0.2:1"}),
    ],
)
def test_each_key_has_its_own(key: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    limit = RouteLimit("1/hour", key)
    assert limit.refusal(call(**one)) is None
    assert limit.refusal(call(**other)) is None
    assert limit.refusal(call(**one)) is not None
    assert limit.refusal(call(**other)) is not None


def test_all_may_share_one() -> None:
    limit = RouteLimit("1/hour", "all")
    assert limit.refusal(call(peer="10.0.0.1:1")) is None
    assert limit.refusal(call(peer="10.0.0.2:1")) is not None


@pytest.mark.parametrize(("rate", "key"), [("often", "caller"), ("1/hour", "anything"), ("1/hour", "header:")])
def test_a_rate_or_key_that_is_none_is_refused(rate: str, key: str) -> None:
    with pytest.raises(ValueError):
        RouteLimit(rate, key)
