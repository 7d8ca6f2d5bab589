"""What is remembered from one configuration to the next, and in a child of a fork."""

from __future__ import annotations

from dataclasses import replace

from meshlib.compiler.inbound import Inbound
from meshlib.compiler.inbound_filters import PortFilters
from meshlib.compiler.inbound_local_ratelimit import LocalRateLimitFilter
from meshlib.compiler.inbound_protection import Protection, RateLimit, SharedCount
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.protection_state import UNPROTECTED, ProtectionState, no_shared_counter
from meshlib.policy.adaptive_concurrency import GradientSettings
from meshlib.policy.local_rate_limit import LocalRateLimit
from meshlib.policy.request_key import RequestKey
from meshlib.policy.token_bucket import Rate
from tests.support.fake_clock import FakeClock

LIMIT = RateLimit("p rateLimits[0]", "rateLimits", (), RequestKey(), Rate(1, 60.0, 1))
SETTINGS = Protection("p", limits=(LIMIT,), max_concurrent=1, adaptive=GradientSettings())


def never_asked(*_):
    raise AssertionError("nobody is asked")


def state() -> ProtectionState:
    return ProtectionState(FakeClock(), never_asked, no_shared_counter)


def test_ports_with_the_same_settings_share_their_buckets():
    one, other = state().take([Inbound(protection=SETTINGS), Inbound(protection=SETTINGS)])
    assert one is other


def test_a_port_without_settings_is_not_protected():
    assert state().take([Inbound()]) == [UNPROTECTED]


def test_a_limit_that_follows_latency_stays_while_its_bounds_do():
    kept = state()
    (first,) = kept.take([Inbound(protection=SETTINGS)])
    (second,) = kept.take([Inbound(protection=replace(SETTINGS, max_concurrent=9))])
    (third,) = kept.take([Inbound(protection=replace(SETTINGS, adaptive=GradientSettings(2, 3)))])
    assert first.admission.adaptive is second.admission.adaptive
    assert second.admission.adaptive is not third.admission.adaptive
    assert first.admission.active is third.admission.active


def test_buckets_of_envoy_filters_stay_while_their_limits_do():
    kept = state()
    limits = LocalRateLimit(Rate(1, 60.0, 1))
    wanted = LocalRateLimitFilter(True, limits, (), (100, 100), (100, 100))

    def asked(settings: LocalRateLimitFilter) -> bool:
        (bound,) = kept.take([Inbound(limits=PortFilters((settings,)))])
        (check,) = bound.first
        return check(InboundRequest("GET", "/")) is None

    assert [asked(wanted), asked(wanted), asked(replace(wanted, status=503))] == [True, False, False]
    assert asked(replace(wanted, limits=LocalRateLimit(Rate(2, 60.0, 2))))


def test_in_a_child_of_a_fork_nobody_is_being_served_and_no_lock_is_held():
    kept = state()
    (bound,) = kept.take([Inbound(protection=SETTINGS)])
    kept._active.count = 3
    (limiter,) = kept._limiters.values()
    limiter._lock.acquire()
    kept.after_fork()
    assert bound.admission.active.count == 0
    assert limiter.take("", 0.0)


def test_what_cannot_be_asked_does_not_say():
    counted = no_shared_counter(SharedCount("redis://x")).count(LIMIT, "key")
    assert list(counted) == []
