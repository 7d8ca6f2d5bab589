"""Checks may look at the beginning of a request's body, in every runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meshlib.compiler.inbound import Inbound
from meshlib.engine.body_source import NO_BODY, is_awaited, is_blocking, is_called_back
from meshlib.engine.drivers import CallbackDriver, finish, run, run_async
from meshlib.engine.effects import Ended, Peek, Serve
from meshlib.engine.inbound import InboundCall, inbound
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from tests.support.fake_clock import FakeClock

NOTHING: Any = object()  # a runtime of which nothing is asked


class ClientGone(Exception):
    """What a door raises where its client has gone."""


class Source:
    """A body of two pieces, in every runtime; ``gone``: its client goes away."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone
        self.asked: list[int] = []
        self.later: Callable[[], None] | None = None
        self.cancelled = False

    def peek(self, limit: int) -> tuple[bytes, bool]:
        self.asked.append(limit)
        if self.gone:
            raise ClientGone
        return (b"hello world", True) if limit > 6 else (b"hello ", False)

    async def peek_async(self, limit: int) -> tuple[bytes, bool]:
        await asyncio.sleep(0)
        return self.peek(limit)

    def peek_later(self, limit: int, done: Callable[[tuple[bytes, bool]], None]) -> Callable[[], None]:
        def cancel() -> None:
            self.cancelled = True

        self.later = lambda: done(self.peek(limit))
        return cancel


def peeking(request: InboundRequest) -> Iterator[Any]:
    """A check that lets in whoever says hello."""
    assert request.body_source is not None
    effect = Peek(request.body_source, 5)
    yield effect
    return None if effect.head.startswith(b"hello") and not effect.ended else Refusal(403, effect.head)


def call(source: Any) -> InboundCall:
    request = InboundRequest("POST", "/")
    request.body_source = source
    return InboundCall(request, Inbound(checks=(peeking,)), FakeClock(), Any)  # type: ignore[arg-type]


def test_a_thread_reads_what_a_check_asks_for() -> None:
    source = Source()
    exchange = inbound(call(source))
    assert run(exchange, NOTHING).refusal is None
    assert source.asked == [5]
    finish(exchange, Ended(200))


async def test_so_does_a_task() -> None:
    source = Source()
    exchange = inbound(call(source))
    assert (await run_async(exchange, NOTHING)).refusal is None
    finish(exchange, Ended(200))


def test_so_do_callbacks_and_they_can_be_cancelled() -> None:
    source, ended = Source(), list[Serve]()
    driver = CallbackDriver(inbound(call(source)), NOTHING, ended.append, ended.append)  # type: ignore[arg-type]
    driver.start()
    assert not ended
    assert source.later is not None
    source.later()
    assert [serve.refusal for serve in ended] == [None]

    source = Source()
    driver = CallbackDriver(inbound(call(source)), NOTHING, ended.append, ended.append)  # type: ignore[arg-type]
    driver.start()
    driver.cancel()
    assert source.cancelled


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_client_that_goes_away_meanwhile_ends_the_request(runtime: str) -> None:
    made = call(Source(gone=True))
    exchange = inbound(made)
    drive = run if runtime == "threads" else lambda *what: asyncio.run(run_async(*what))
    with pytest.raises(ClientGone):
        drive(exchange, NOTHING)  # type: ignore[operator]
    assert (made.status, made.flags) == (0, "DC")
    assert made.failures.count == 0
    assert next(exchange, None) is None


async def test_a_request_without_a_body_has_none_in_every_runtime() -> None:
    assert is_blocking(NO_BODY)
    assert is_awaited(NO_BODY)
    assert is_called_back(NO_BODY)
    seen: list[Any] = []
    NO_BODY.peek_later(10, seen.append)()
    assert NO_BODY.peek(10) == await NO_BODY.peek_async(10) == seen[0] == (b"", True)
