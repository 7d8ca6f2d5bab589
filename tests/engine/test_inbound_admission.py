"""Admission without a configuration: joining and leaving, whatever happens in between."""

from __future__ import annotations

import random
import threading

import pytest

from meshlib.compiler.inbound import Inbound
from meshlib.compiler.inbound_protection import Protection
from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Ended, Wait
from meshlib.engine.flight import Flight
from meshlib.engine.inbound import CHECK_FAILED, InboundCall, inbound
from meshlib.engine.inbound_admission import FULL, Active, Admission, Tally
from meshlib.engine.inbound_request import InboundRequest
from tests.support.fake_clock import FakeClock


def made(limit: int = 1, checks=()) -> tuple[Admission, object]:
    admission = Admission(Protection("p", max_concurrent=limit), "BASE", Tally("s", None), Active(), None)

    def call(path: str = "/") -> InboundCall:
        clock = FakeClock()
        request = InboundRequest("GET", path)
        return InboundCall(request, Inbound(), clock, random.Random(1), checks=tuple(checks), admission=admission)

    return admission, call


def test_one_leaves_for_each_that_joined():
    admission, call = made(2)
    calls = [call() for _ in range(3)]
    assert [admission.enter(each) for each in calls] == [None, None, FULL]
    for each in calls * 2:
        admission.leave(each, 1.0)
    assert admission.active.count == 0


def test_it_is_asked_before_all_checks():
    asked = []
    admission, call = made(1, [lambda request: asked.append(request)])
    first = call()
    admission.enter(first)
    assert run(inbound(call()), None).refusal is FULL
    assert asked == []


def test_a_request_that_is_dropped_while_a_check_waits_leaves():
    def waits(_request):
        yield Wait(Flight())

    admission, call = made(1, [waits])
    exchange = inbound(call())
    assert isinstance(next(exchange), Wait)
    assert admission.active.count == 1
    exchange.close()
    assert admission.active.count == 0


def test_a_check_that_raises_leaves_nothing_behind():
    def broken(_request):
        raise RuntimeError("broken")

    admission, call = made(1, [broken])
    for _ in range(3):
        exchange = inbound(call())
        assert run(exchange, None).refusal is CHECK_FAILED
        finish(exchange)
        assert admission.active.count == 0


def test_an_admission_that_raises_refuses():
    admission, call = made()
    admission._is_health_check = lambda _request: 1 / 0
    exchange = inbound(made_call := call())
    assert run(exchange, None).refusal is CHECK_FAILED
    finish(exchange)
    assert made_call.failures.count == 1
    assert admission.active.count == 0


def test_20_000_cancelled_requests_leave_no_slot():
    """Dropped before they begin, at the application, twice, told of and not."""
    admission, call = made(64)
    rng = random.Random(7)
    for _ in range(20_000):
        exchange = inbound(call())
        how = rng.randrange(5)
        if how:
            next(exchange)
        if how == 1:
            finish(exchange, Ended(200))
        elif how == 2:
            finish(exchange)
        elif how == 3:
            exchange.close()
        exchange.close()
        finish(exchange)
    assert admission.active.count == 0


def test_threads_join_and_leave_without_losing_count():
    admission, call = made(8)
    most = [0]

    def many() -> None:
        for _ in range(500):
            one = call()
            if admission.enter(one) is None:
                most[0] = max(most[0], admission.active.count)
                admission.leave(one, 0.0)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert admission.active.count == 0
    assert 1 <= most[0] <= 8


@pytest.mark.parametrize("shadow", [True, False])
def test_a_tally_counts_reports_and_says_whether_it_is_acted_on(shadow):
    said = []
    tally = Tally("svc", lambda *told: said.append(told))
    assert tally.note("loadShedding", "refused", shadow) is not shadow
    assert said == [("svc", "loadShedding", "shadow" if shadow else "enforce", "refused")]
    assert list(tally.counts) == [("loadShedding", "would have refused" if shadow else "refused")]
