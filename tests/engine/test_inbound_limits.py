"""Limits as checks: those that count elsewhere, and the sizes."""

from __future__ import annotations

import pytest

from meshlib.compiler.inbound_protection import Protection, RateLimit, SharedCount
from meshlib.engine.effects import Wait
from meshlib.engine.flight import Flight
from meshlib.engine.inbound_admission import Tally
from meshlib.engine.inbound_limits import BoundLimit, RateLimits, size_check
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.request_key import RequestKey
from meshlib.policy.token_bucket import Limiter, Rate
from tests.support.fake_clock import FakeClock

HERE = RateLimit("p rateLimits[0]", "rateLimits", (), RequestKey(), Rate(1, 60.0, 1))
THERE = RateLimit("p quotas[0]", "quotas", (), RequestKey("header", "x"), Rate(1, 86400.0, 1), False, SharedCount("r"))
SHADOWED = RateLimit("p quotas[1]", "quotas", (), RequestKey(), Rate(1, 86400.0, 1), True, SharedCount("r"))


class Elsewhere:
    def __init__(self, verdicts) -> None:
        self.verdicts = list(verdicts)
        self.keys: list[str] = []

    def count(self, _limit, key):
        self.keys.append(key)
        yield Wait(Flight())
        return self.verdicts.pop(0)


def asked(check, request):
    found = check(request)
    while True:
        try:
            next(found)
        except StopIteration as end:
            return end.value
        except TypeError:
            return found


def checks(*limits: BoundLimit, **settings):
    tally = Tally("s", None)
    return RateLimits(Protection("p", **settings), limits, FakeClock(), tally).checks, tally


def test_what_counts_here_is_asked_before_what_counts_elsewhere():
    elsewhere = Elsewhere([])
    (here, there), tally = checks(
        BoundLimit(THERE, "BASE", None, elsewhere), BoundLimit(HERE, "BASE", Limiter(HERE.rate), None)
    )
    request = InboundRequest("GET", "/")
    assert here(request) is None
    refusal = here(request)
    assert refusal is not None
    assert (refusal.status, refusal.detail) == (429, "rate_limited[p rateLimits[0]]")
    assert elsewhere.keys == []
    assert tally.counts == {("rateLimits", "refused"): 1}
    assert there is not None


@pytest.mark.parametrize("limit", [THERE, SHADOWED])
def test_a_storage_that_does_not_say_lets_through_and_is_counted(limit):
    (check,), tally = checks(BoundLimit(limit, "BASE", None, Elsewhere([None])))
    assert asked(check, InboundRequest("GET", "/")) is None
    ((mechanism, verdict),) = tally.counts
    assert (mechanism, verdict) == ("quotas", "would have failed open" if limit.shadow else "failed open")


def test_what_is_counted_elsewhere_refuses_by_key():
    buckets = Limiter(THERE.rate)
    elsewhere = Elsewhere([buckets.take("", 0.0), buckets.take("", 0.0)])
    (check,), tally = checks(BoundLimit(THERE, "BASE", None, elsewhere), resource_exhausted=True)
    request = InboundRequest("GET", "/", [("x", "ann")])
    assert asked(check, request) is None
    refusal = asked(check, request)
    assert (refusal.status, refusal.grpc, refusal.body) == (429, 8, "")
    assert (b"retry-after", b"86400") in refusal.headers
    assert elsewhere.keys == ["ann", "ann"]
    assert tally.counts == {("quotas", "refused"): 1}


def test_without_limits_nothing_is_asked():
    assert checks()[0] == ()
    assert size_check(Protection("p")) is None


@pytest.mark.parametrize("length", ["abc", "-1", "", "1, 2"])
def test_a_length_that_is_none_is_the_servers_business(length):
    check = size_check(Protection("p", max_body=1))
    assert check is not None
    assert check(InboundRequest("POST", "/", [("content-length", length)])) is None
