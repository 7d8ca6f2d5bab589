"""The second look: checks that judge by the path are asked again, with the one that was routed."""

from __future__ import annotations

import random

import pytest

from meshlib.compiler.inbound import Inbound
from meshlib.engine.inbound import CHECK_FAILED, InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.routed import judge_routed
from meshlib.policy.refusal import Refusal
from tests.support.fake_clock import FakeClock

DENIED = Refusal(403, "RBAC: access denied", detail="why")


def judging(answer):
    def check(request):
        seen.append(request.routed)
        return answer() if callable(answer) else answer

    seen: list[str | None] = []
    check.judges_routed = True
    check.seen = seen
    return check


def call_with(*checks):
    return InboundCall(InboundRequest("GET", "/items/007"), Inbound(tuple(checks)), FakeClock(), random.Random(1))


def test_those_that_judge_by_the_path_are_asked_with_the_routed_one_and_no_others():
    def other(_request):
        raise AssertionError("asked again")

    permits, denies, never = judging(None), judging(DENIED), judging(DENIED)
    call = call_with(other, permits, denies, never)
    assert judge_routed(call, "/items/7") is DENIED
    assert (permits.seen, denies.seen, never.seen) == (["/items/7"], ["/items/7"], [])
    assert call.refusal is DENIED, "the span says why"


def test_nothing_refuses_when_nothing_judges():
    call = call_with(judging(None))
    assert judge_routed(call, "/x") is None
    assert call.refusal is None


def test_one_that_raises_refuses_and_is_counted():
    def fails():
        raise KeyError("x")

    call = call_with(judging(fails))
    assert judge_routed(call, "/x") is CHECK_FAILED
    assert call.failures.count == 1


def test_one_that_would_ask_somebody_is_told():
    def asks():
        yield

    with pytest.raises(TypeError, match="must not ask"):
        judge_routed(call_with(judging(lambda: asks())), "/x")
