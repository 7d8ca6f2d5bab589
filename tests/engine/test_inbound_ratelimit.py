"""Envoy's filter ratelimit as a check, with a service that is played. (Over connections: test_rate_limit_service.py.)"""

from __future__ import annotations

import random

import pytest

from meshlib.compiler.inbound_ratelimit import RateLimitFilter
from meshlib.engine.inbound_admission import Tally
from meshlib.engine.inbound_ratelimit import ratelimit_check
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.rate_limit_actions import GenericKey, RateLimitActions
from meshlib.policy.rate_limit_service import Status, Verdict

ACTIONS = (RateLimitActions((GenericKey("g"),)),)
STATUSES = (Status(10, 60, 3, 5.5, False, "all"), Status(2, 1, 0, 0.4, True))


class Played:
    def __init__(self, *verdicts: Verdict | None) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[object] = []

    def should_limit(self, descriptors, rate=None):
        self.asked.append((descriptors, rate))
        return self.verdicts.pop(0)
        yield


def asked(service: Played, request: InboundRequest | None = None, **settings):
    tally = Tally("s", None)
    check = ratelimit_check(
        RateLimitFilter(False, "d", ("h", 1), ACTIONS, **settings), service, random.Random(1), tally
    )
    found = check(request or InboundRequest("GET", "/"))
    if found is not None:
        try:
            next(found)
        except StopIteration as end:
            found = end.value
    return found, tally.counts


def test_over_the_limit_is_refused_as_envoy_refuses():
    refusal, counts = asked(Played(Verdict(True, STATUSES, ((b"x-why", b"w"),), (), b"no")), x_headers=True)
    assert (refusal.status, refusal.content, refusal.flag, refusal.detail) == (429, b"no", "RL", "request_rate_limited")
    assert refusal.headers == (
        (b"x-why", b"w"),
        (b"x-ratelimit-limit", b'2, 10;w=60;name="all", 2;w=1'),
        (b"x-ratelimit-remaining", b"0"),
        (b"x-ratelimit-reset", b"0"),
        (b"x-envoy-ratelimited", b"true"),
        (b"retry-after", b"1"),
    )
    assert counts == {("ratelimit", "refused"): 1}


@pytest.mark.parametrize(
    ("settings", "status", "grpc", "told"),
    [
        ({"status": 503}, 503, 14, True),
        ({"resource_exhausted": True}, 429, 8, True),
        ({"tells": False}, 429, 14, False),
    ],
)
def test_its_answer_may_be_another(settings, status, grpc, told):
    refusal, _ = asked(Played(Verdict(True)), **settings)
    assert (refusal.status, refusal.grpc) == (status, grpc)
    assert ((b"x-envoy-ratelimited", b"true") in refusal.headers) is told


def test_within_the_limit_headers_go_both_ways():
    request = InboundRequest("GET", "/", [("x-tier", "mine")])
    refusal, counts = asked(Played(Verdict(False, (), ((b"x-a", b"b"),), (("x-tier", b"free"),))), request)
    assert refusal is None
    assert request.header("x-tier") == "free"
    assert request.for_caller == [(b"x-a", b"b")]
    assert counts == {}


def test_what_is_not_enforced_comes_in_and_is_counted():
    refusal, counts = asked(Played(Verdict(True)), enforced=(0, 100))
    assert refusal is None
    assert counts == {("ratelimit", "would have refused"): 1}


def test_what_is_not_enabled_asks_nobody():
    service = Played()
    assert asked(service, enabled=(0, 100)) == (None, {})
    assert service.asked == []


@pytest.mark.parametrize("deny", [False, True])
def test_a_service_that_does_not_say(deny):
    refusal, counts = asked(Played(None), deny=deny)
    assert (refusal is not None) is deny
    assert counts == {("ratelimit", "failed closed" if deny else "failed open"): 1}
    if refusal is not None:
        assert (refusal.status, refusal.flag) == (500, "RLSE")
