"""Envoy's local rate limit as a check. (tests/differential asks a real one.)"""

from __future__ import annotations

import random

import pytest

from meshlib.compiler.inbound_local_ratelimit import LocalRateLimitFilter
from meshlib.engine.inbound_admission import Tally
from meshlib.engine.inbound_local_ratelimit import hits, local_ratelimit_check
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.local_rate_limit import LocalLimiter, LocalRateLimit
from meshlib.policy.token_bucket import Rate
from tests.support.fake_clock import FakeClock

ALL, NONE = (100, 100), (0, 100)


def made(enabled=ALL, enforced=ALL, **more):
    limits = LocalRateLimit(Rate(1, 60.0, 1))
    settings = LocalRateLimitFilter(False, limits, (), enabled, enforced, **more)
    clock, tally = FakeClock(), Tally("s", None)
    return local_ratelimit_check(settings, LocalLimiter(limits), clock, random.Random(5), tally), clock, tally


def request(peer: str = "10.0.0.1:1") -> InboundRequest:
    return InboundRequest("GET", "/", peer=peer)


def test_one_too_many_is_refused_as_envoy_does_and_told_when_to_come_back():
    check, clock, tally = made(response_headers=((b"x-limited", b"yes"),))
    assert check(request()) is None
    refusal = check(request())
    assert refusal is not None
    assert (refusal.status, refusal.body, refusal.grpc, refusal.flag) == (429, "local_rate_limited", 14, "RL")
    assert refusal.headers == ((b"x-limited", b"yes"), (b"retry-after", b"60"), (b"x-envoy-ratelimited", b"true"))
    assert tally.counts == {("local_ratelimit", "refused"): 1}
    clock.advance(60.1)
    assert check(request()) is None


def test_its_status_and_grpc_status_may_be_others():
    check, _, _ = made(status=503, resource_exhausted=True)
    check(request())
    refusal = check(request())
    assert refusal is not None
    assert (refusal.status, refusal.grpc) == (503, 8)


def test_what_is_not_enforced_comes_in_with_headers_for_the_application_and_is_counted():
    check, _, tally = made(enforced=NONE, request_headers=((b"x-over", b"1"),), x_headers=True)
    first, second = request(), request()
    assert check(first) is None
    assert check(second) is None
    assert first.for_application is None
    assert second.for_application is not None
    assert second.for_application.set == [(b"x-over", b"1")]
    assert second.for_caller == [
        (b"x-ratelimit-limit", b"1"),
        (b"x-ratelimit-remaining", b"0"),
        (b"x-ratelimit-reset", b"60"),
    ]
    assert tally.counts == {("local_ratelimit", "would have refused"): 1}


def test_what_is_not_enabled_counts_nothing():
    check, _, _ = made(enabled=NONE)
    assert [check(request()) for _ in range(3)] == [None] * 3


def test_each_connection_may_have_its_own():
    check, _, _ = made(per_connection=True)
    assert [check(request(peer)) is None for peer in ("a:1", "b:1", "a:1")] == [True, True, False]


@pytest.mark.parametrize(("fraction", "share"), [((0, 100), 0), ((100, 100), 4000), ((25, 100), 1000)])
def test_a_share_of_requests_is_drawn(fraction, share):
    rng = random.Random(3)
    assert abs(sum(hits(fraction, rng) for _ in range(4000)) - share) < 150
