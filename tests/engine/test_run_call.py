"""A call is the same call whether its exchange was made or not, in threads and on asyncio, and whatever cuts it short gives
back what it has taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshlib.engine import plain_call
from meshlib.engine.cluster import BoundCluster
from meshlib.engine.drivers import finish, run_brief
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.exchange import exchange_of
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.run_call import break_off, go_on_async, run_call
from meshlib.engine.tally import ABANDONED
from tests.support.outbound import SUBSETS, V1, bench, idle
from tests.support.resources import destination_rule, to
from tests.support.scripted import Script

RETRIED = {"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx,reset"}}
RULES = {
    "a plain rule": {"route": [to("reviews", "v1")]},
    "retries": RETRIED,
    "a fault": {**RETRIED, "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 418}}},
    "headers of the response": {**RETRIED, "headers": {"response": {"set": {"a": "b"}}}},
    "nobody there": {"route": [to("reviews", "v9")]},
}
SCRIPTS: dict[str, tuple[Any, ...]] = {
    "a response": (200,),
    "an error": (503,),
    "an error, then a response": (503, 200),
    "a reset, then a response": (Failure.RESET, 200),
    "resets": (Failure.RESET,),
    "a timeout": (Failure.TIMEOUT,),
}


class OnLoop:
    """A script on asyncio."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def send(self, effect: Send) -> Outcome:
        await asyncio.sleep(0)
        return self._script.send(effect)

    async def sleep(self, seconds: float) -> None:
        self._script.sleep(seconds)


def briefly(call: Any, script: Script) -> tuple[Any, Any]:
    exchange = exchange_of(call, brief=True)
    delivered = run_brief(exchange, script)
    return delivered, exchange if type(delivered) is Deliver else None


async def driven(call: Any, runtime: OnLoop) -> tuple[Any, Any]:
    """As gRPC's door on asyncio drives a call."""
    send = None
    try:
        send = plain_call.begun(call)
        if type(send) is Send:
            send.outcome = await runtime.send(send)
            if plain_call.ended(call, send):
                return send, None
        return await go_on_async(call, send, runtime)  # type: ignore[arg-type]  # no other effect is met here
    except BaseException:
        break_off(send)
        raise


def on_a_loop(call: Any, script: Script) -> tuple[Any, Any]:
    return asyncio.run(driven(call, OnLoop(script)))


def made(rule: dict[str, Any], outcomes: tuple[Any, ...], how: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """Three calls: all that can be seen of them."""
    b = bench(rule)
    seen: list[Any] = []
    for _ in range(3):
        call, _ = b.begin()
        script = b.script(*outcomes)
        delivered, exchange = how(call, script)
        outcome = delivered.outcome
        if exchange is not None:
            finish(exchange)
        told = outcome.failure, outcome.status, outcome.headers, call.record.to_dict()
        seen.append((*told, script.sleeps, script.tried))
    if "v9" not in str(rule):
        assert idle(b, V1)
        seen.append((b.state(V1).tally.results, b.state(V1).requests))
    return seen, b.rng.random()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", [run_call, on_a_loop], ids=["threads", "asyncio"])
def test_a_call_comes_to_what_its_exchange_comes_to(how, rule, script):
    outcomes = SCRIPTS[script]
    assert made(RULES[rule], outcomes, how) == made(RULES[rule], outcomes, briefly)


def test_a_plain_call_has_no_exchange_to_finish_and_one_that_was_changed_has():
    b = bench(RULES["a plain rule"])
    delivered, exchange = run_call(b.begin()[0], b.script(200))
    assert (type(delivered), exchange) == (Send, None)
    b = bench(RULES["headers of the response"])
    delivered, exchange = run_call(b.begin()[0], b.script(200))
    assert type(delivered) is Deliver
    assert exchange is not None
    finish(exchange)
    assert idle(b, V1)


def test_there_is_nobody_to_send_to_and_no_exchange_either():
    limited = {**SUBSETS["spec"], "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 1}}}}
    b = bench(RULES["a plain rule"], {**SUBSETS, "spec": limited})
    first, _ = b.begin()

    def second(effect: Send) -> Outcome:
        call, _ = b.begin()
        delivered, exchange = run_call(call, b.script(200))
        assert (type(delivered), exchange, call.record.flags) == (Deliver, None, "UO")
        return Outcome(status=200, whole=b"")

    assert run_call(first, b.script(second))[0].outcome.status == 200
    assert idle(b, V1)


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the tests."""


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("how", [run_call, on_a_loop], ids=["threads", "asyncio"])
def test_one_that_is_interrupted_gives_back_what_it_has_taken(how, attempt):
    b = bench(RETRIED)

    def interrupt(effect: Send) -> Outcome:
        raise Interrupted

    call, _ = b.begin()
    with pytest.raises(Interrupted):
        how(call, b.script(*[503] * (attempt - 1), interrupt))
    assert idle(b, V1)
    assert b.state(V1).tally.results[ABANDONED] == 1


def test_so_does_one_that_is_interrupted_as_it_is_counted(monkeypatch):
    """Where counts need a function, which an interpreter without the GIL does."""
    b = bench(RULES["a plain rule"], destination_rule("reviews", "v1", "v2"))
    call, _ = b.begin()
    begin = BoundCluster.begin

    def counted(self: BoundCluster, send: Send) -> None:
        begin(self, send)
        raise Interrupted

    monkeypatch.setattr(plain_call, "COUNTS_UNLOCKED", False)
    monkeypatch.setattr(BoundCluster, "begin", counted)
    with pytest.raises(Interrupted):
        run_call(call, b.script(200))
    assert idle(b, V1)


def test_where_counts_need_a_lock_the_cluster_takes_it(monkeypatch):
    monkeypatch.setattr(plain_call, "COUNTS_UNLOCKED", False)
    b = bench(RULES["a plain rule"], destination_rule("reviews", "v1", "v2"))
    taken: list[str] = []
    for name in ("begin", "end"):
        method = getattr(BoundCluster, name)
        monkeypatch.setattr(
            BoundCluster, name, lambda self, send, name=name, method=method: taken.append(name) or method(self, send)
        )
    call, _ = b.begin()
    run_call(call, b.script(200))
    assert (taken, idle(b, V1)) == (["begin", "end"], True)


async def test_a_task_that_is_cancelled_gives_back_what_it_has_taken():
    b = bench(RETRIED)
    begun = asyncio.Event()

    class Never(OnLoop):
        async def send(self, effect: Send) -> Outcome:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    call, _ = b.begin()
    task = asyncio.create_task(driven(call, Never(b.script(200))))
    await begun.wait()
    assert not idle(b, V1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert idle(b, V1)
    assert b.state(V1).tally.results[ABANDONED] == 1
