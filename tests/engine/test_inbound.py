"""The inbound exchange without a transport: the order of what happens, refusals, deadlines, cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.compiler.inbound import Inbound
from meshlib.engine import deadlines, inbound_context
from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import (
    CUT,
    EXPIRED,
    SERVE,
    InboundCall,
    asked_at_once,
    closed,
    inbound,
)
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.fault import FaultPolicy
from meshlib.policy.refusal import Refusal
from tests.support.fake_clock import FakeClock
from tests.support.inbound import admitted, admitted_async

ALWAYS = 1_000_000
DENIED = Refusal(403, "RBAC: access denied", flag="UAEX", detail="rbac_access_denied")


def request(protocol: str = "grpc", headers: Any = (), **more: Any) -> InboundRequest:
    return InboundRequest("POST", "/pkg.Svc/Method", headers, protocol=protocol, **more)


def made(
    *faults: FaultPolicy, checks: Any = (), left: float | None = None, clock: FakeClock | None = None, **view: Any
) -> InboundCall:
    clock = clock or FakeClock()
    deadline = None if left is None else clock.monotonic() + left
    return InboundCall(request(**view), Inbound(tuple(checks), faults), clock, random.Random(1), deadline)


def served(call: InboundCall, ended: Ended | None = None) -> Refusal | None:
    """Drive to the end; what was refused, or None when the application was called."""
    exchange = inbound(call)
    refusal = admitted(exchange, call.clock.sleep)
    if refusal is None:
        finish(exchange, ended or Ended(200, 0))
    return refusal


def test_a_plain_request_reaches_the_application_at_once_and_its_result_is_kept():
    call = made()
    exchange = inbound(call)
    assert next(exchange) is SERVE
    with pytest.raises(StopIteration):
        exchange.send(Ended(200, 5))
    assert (call.status, call.grpc_status, call.flags) == (200, 5, "")


def test_a_check_that_is_plugged_in_refuses_without_asking_the_others_or_drawing_a_fault():
    asked: list[str] = []

    def lets_in(seen: InboundRequest) -> Refusal | None:
        asked.append(f"first saw {seen.principal}")
        return None

    def denies(_seen: InboundRequest) -> Refusal | None:
        asked.append("second")
        return DENIED

    def never(_seen: InboundRequest) -> Refusal | None:
        raise AssertionError("a later check was asked")

    delay = FaultPolicy(delay=1.0, delay_share=ALWAYS)
    call = made(delay, checks=(lets_in, denies, never), principal="spiffe://a/ns/b/sa/c")
    assert served(call) is DENIED
    assert asked == ["first saw spiffe://a/ns/b/sa/c", "second"]
    assert call.clock.slept == []
    assert (call.status, call.grpc_status, call.flags, call.refusal) == (200, 7, "UAEX", DENIED)


def test_a_refusal_of_plain_http_has_its_http_status_and_no_grpc_status():
    call = made(checks=(lambda _: DENIED,), protocol="http")
    assert served(call) is DENIED
    assert (call.status, call.grpc_status) == (403, None)


def test_checks_that_let_in_lead_to_the_application():
    assert served(made(checks=(lambda _: None,))) is None


def test_a_closed_mesh_lets_nothing_in():
    refusal = served(made(checks=(closed,)))
    assert refusal is not None
    assert (refusal.status, refusal.grpc) == (503, 14)


@pytest.mark.parametrize(("status", "wanted"), [(401, 16), (403, 7), (404, 12), (429, 14), (503, 14), (418, 2)])
def test_a_refusal_maps_http_to_grpc_as_envoy_does_unless_it_says_otherwise(status, wanted):
    assert Refusal(status).grpc == wanted
    assert Refusal(status, grpc_status=8).grpc == 8


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_refused_before_any_check(left):
    def never(_seen: InboundRequest) -> Refusal | None:
        raise AssertionError("a check was asked")

    call = made(checks=(never,), left=left)
    assert served(call) is EXPIRED
    assert (call.grpc_status, call.flags) == (4, "")


def test_a_delay_that_ends_the_call_ends_it_when_the_sleep_ends_a_little_early():
    call = made(FaultPolicy(delay=10.0, delay_share=ALWAYS), left=2.0)
    assert admitted(inbound(call), lambda seconds: call.clock.advance(seconds - 0.0005)) is EXPIRED


def test_a_delay_is_slept_and_flagged_and_the_application_is_called_after_it():
    call = made(FaultPolicy(delay=2.5, delay_share=ALWAYS))
    assert served(call) is None
    assert call.clock.slept == [2.5]
    assert (call.flags, call.injected_delay) == ("DI", 2.5)


def test_a_delay_ends_at_the_deadline_and_the_application_is_not_called_then():
    call = made(FaultPolicy(delay=10.0, delay_share=ALWAYS), left=2.0)
    assert served(call) is EXPIRED
    assert call.clock.slept == [2.0]
    assert call.flags == "DI"


def test_an_abort_answers_with_envoys_text_flag_and_status():
    call = made(FaultPolicy(abort_status=429, abort_share=ALWAYS))
    refusal = served(call)
    assert refusal is not None
    assert (refusal.status, refusal.grpc, refusal.body) == (429, 14, "fault filter abort")
    assert (call.flags, call.grpc_status) == ("FI", 14)


def test_an_abort_by_grpc_status_keeps_it():
    refusal = served(made(FaultPolicy(abort_status=503, abort_grpc=8, abort_share=ALWAYS)))
    assert refusal is not None
    assert refusal.grpc == 8


def test_several_faults_are_drawn_one_after_the_other():
    slow, dead = FaultPolicy(delay=1.0, delay_share=ALWAYS), FaultPolicy(abort_status=503, abort_share=ALWAYS)
    call = made(slow, slow, dead, slow)
    assert served(call) is not None
    assert call.clock.slept == [1.0, 1.0]
    assert call.flags == "DI,DI,FI"


def test_a_share_of_requests_is_hit_and_the_seed_replays_which():
    fault = FaultPolicy(abort_status=503, abort_share=300_000)

    def run(seed: int) -> list[bool]:
        rng = random.Random(seed)
        calls = [InboundCall(request(), Inbound((), (fault,)), FakeClock(), rng) for _ in range(2000)]
        return [served(call) is not None for call in calls]

    assert 500 < sum(run(1)) < 700
    assert run(1) == run(1) != run(2)


def test_a_request_asks_for_a_fault_by_header_only_where_that_is_configured():
    asks = (("x-envoy-fault-abort-request", "503"),)
    by_header = FaultPolicy(abort_share=ALWAYS, header_abort=True)
    assert served(made(by_header, headers=asks)) is not None
    assert served(made(by_header)) is None
    assert served(made(headers=asks)) is None


def test_a_request_that_is_dropped_counts_as_a_caller_that_went_away():
    call = made()
    exchange = inbound(call)
    admitted(exchange, call.clock.sleep)
    exchange.close()
    assert (call.status, call.grpc_status, call.flags) == (0, None, "DR")


def test_a_caller_that_goes_away_amid_the_answer_has_seen_its_head():
    call = made()
    call.response_messages = 2
    assert served(call, CUT) is None
    assert (call.status, call.grpc_status, call.flags) == (200, 2, "DR")


@pytest.mark.parametrize(("left", "wanted"), [(0.0, (200, 4, "")), (0.01, (200, 4, "")), (1.0, (0, None, "DR"))])
def test_a_caller_that_goes_away_at_its_deadline_counts_as_the_deadline(left, wanted):
    call = made(left=5.0)
    exchange = inbound(call)
    admitted(exchange, call.clock.sleep)
    call.clock.advance(5.0 - left)
    finish(exchange, CUT)
    assert (call.status, call.grpc_status, call.flags) == wanted


def test_finishing_twice_counts_once():
    call = made()
    exchange = inbound(call)
    admitted(exchange, call.clock.sleep)
    finish(exchange, Ended(200, 0))
    finish(exchange, CUT)
    assert (call.status, call.flags) == (200, "")


def test_a_sleep_that_is_interrupted_closes_the_exchange():
    call = made(FaultPolicy(delay=1.0, delay_share=ALWAYS))
    exchange = inbound(call)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        admitted(exchange, interrupted)
    assert call.flags == "DI,DR"
    assert exchange.gi_frame is None


async def test_asyncio_decides_the_same():
    slow, dead = FaultPolicy(delay=1.0, delay_share=ALWAYS), FaultPolicy(abort_status=503, abort_share=ALWAYS)
    call = made(slow, dead)
    refusal = await admitted_async(inbound(call), call.clock.sleep_async)
    assert refusal is not None
    assert (call.flags, call.clock.slept) == ("DI,FI", [1.0])
    assert await admitted_async(inbound(made()), FakeClock().sleep_async) is None


async def test_a_task_that_is_cancelled_in_an_injected_delay_counts_as_a_caller_that_went_away():
    call = made(FaultPolicy(delay=1.0, delay_share=ALWAYS))
    asleep = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(admitted_async(inbound(call), sleep))
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.flags == "DI,DR"


def test_headers_are_found_in_lower_case_joined_when_repeated_and_read_from_bytes():
    view = request(headers=[("X-One", "1"), (b"x-two", b"a\xe9"), ("x-two", "b"), ("k-bin", b"\x00\xff")])
    assert view.header("x-one") == "1"
    assert view.header("x-two") == "a\xe9,b"
    assert view.header_values("x-two") == ["a\xe9", "b"]
    assert view.header_values("x-one") is None
    assert view.header("k-bin") == "\x00\xff"
    assert view.header("none") is None
    assert InboundRequest("GET", "/a", query="b=1").full_path == "/a?b=1"


def test_what_is_current_is_set_around_a_piece_and_taken_back_after_it():
    log: list[str] = []

    class Around:
        def enter(self) -> Callable[[], None]:
            log.append("in")
            return lambda: log.append("out")

    call = made(left=5.0)
    call.around = Around()
    tokens = inbound_context.enter(call)
    assert inbound_context.current.get() is call.request
    assert deadlines.around() == call.deadline
    inbound_context.leave(call, tokens)
    assert inbound_context.current.get() is None
    assert deadlines.around() is None
    assert log == ["in", "out"]


def test_a_request_without_a_deadline_does_not_inherit_one_from_around():
    with deadlines.until(3.0):
        call = made()
        tokens = inbound_context.enter(call)
        assert deadlines.around() is None
        inbound_context.leave(call, tokens)
        assert deadlines.around() == 3.0


def test_a_deadline_is_not_passed_on_when_that_is_not_wanted():
    call = made(left=5.0)
    call.propagates = False
    tokens = inbound_context.enter(call)
    assert deadlines.around() is None
    inbound_context.leave(call, tokens)


REFUSED = Refusal(403, "no")


class Says:
    """A check that says ``what`` at once: nothing, a refusal, an error, or, as a generator, one of these; it notes that it was
    asked."""

    at_once = True

    def __init__(self, what: Any, asks: bool, asked: list[Says]) -> None:
        self.what, self.asks, self.asked = what, asks, asked

    def __call__(self, _request: InboundRequest) -> Any:
        self.asked.append(self)
        return self._later() if self.asks else self._now()

    def _now(self) -> Any:
        if isinstance(self.what, Exception):
            raise self.what
        return self.what

    def _later(self) -> Any:
        yield from ()
        return self._now()


@given(st.lists(st.tuples(st.sampled_from((None, None, REFUSED, ValueError("x"))), st.booleans()), max_size=4))
def test_checks_that_are_asked_at_once_decide_and_are_asked_as_the_exchange_does(says: list[tuple[Any, bool]]):
    results = []
    for at_once in (False, True):
        asked: list[Says] = []
        checks: tuple[Any, ...] = tuple(Says(what, asks, asked) for what, asks in says)
        call = InboundCall(request("http"), Inbound(), FakeClock(), random.Random(0), checks=checks)
        left = asked_at_once(call.request, checks) if at_once else checks
        refusal = None
        if left is not None:
            call.checks = left
            refusal = served(call)
        if at_once and left is None:
            assert all(what is None and not asks for what, asks in says)
        results.append((refusal, [checks.index(each) for each in asked], call.failures.count))
    assert results[0] == results[1]
