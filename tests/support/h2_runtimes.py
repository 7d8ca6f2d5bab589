"""The same HTTP/2 calls in both runtimes, below the exchange: one ``send`` of an upstream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from meshlib.clock import SystemClock
from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Outcome
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.raw_head import Headers, RawHead
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.loop import AsyncioUpstream
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.threads import SyncUpstream


@dataclass
class Call:
    """One request. ``body``: bytes, or a list of pieces to be streamed."""

    path: bytes = b"/"
    method: bytes = b"GET"
    headers: Headers = field(default_factory=list)
    body: bytes | list[bytes] | Any = None
    limits: dict[str, float] = field(default_factory=dict)
    read: bool = True


@dataclass
class Result:
    """What came of it; ``cut`` when the body failed."""

    outcome: Outcome
    data: bytes = b""
    cut: BodyFailed | None = None


def _all_headers(call: Call) -> Headers:
    if isinstance(call.headers, RawHead):
        return call.headers
    return [(b"Host", b"reviews:9080"), *call.headers]


def _attempt(call: Call, body: bytes | ReplayBody | None, target: Target) -> Attempt:
    limits = dict(call.limits)
    head, deadline = limits.pop("head", None), limits.pop("deadline", None)
    return Attempt(call.method, call.path, _all_headers(call), body, target, head, deadline, CallerTimeouts(**limits))


class Threads:
    """Blocking."""

    name = "threads"

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.upstream = SyncUpstream(self.clock, Names(self.clock))

    def now(self) -> float:
        return self.clock.monotonic()

    def send(self, target: Target, call: Call) -> Outcome:
        body = ReplayBody(iter(call.body)) if call.body is not None and not isinstance(call.body, bytes) else call.body
        return self.upstream.send(_attempt(call, body, target))

    def call(self, target: Target, call: Call) -> Result:
        outcome = self.send(target, call)
        if outcome.body is None or not call.read:
            return Result(outcome, outcome.whole or b"")
        data = b""
        try:
            for chunk in outcome.body:
                data += chunk
        except BodyFailed as error:
            return Result(outcome, data, error)
        return Result(outcome, data)

    def chunks(self, outcome: Outcome) -> Iterator[bytes]:
        return iter(outcome.body)

    def drop(self, outcome: Outcome) -> None:
        outcome.body.close()

    def many(self, target: Target, calls: list[Call]) -> list[Result]:
        """All at once."""
        results: list[Any] = [None] * len(calls)
        barrier = threading.Barrier(len(calls))

        def one(number: int) -> None:
            barrier.wait(60)
            results[number] = self.call(target, calls[number])

        threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        return results

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Let time pass until something that other threads do has happened."""
        waiting = threading.Event()
        end = self.now() + seconds
        while not condition():
            if self.now() > end:
                return False
            waiting.wait(0.002)
        return True

    def settle(self) -> None:
        """Let what is under way be handled."""

    def close(self) -> None:
        self.upstream.close()


class Loop:
    """Asyncio."""

    name = "asyncio"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.upstream = AsyncioUpstream(self.loop, Names(SystemClock()))

    def now(self) -> float:
        return self.loop.time()

    async def send_async(self, target: Target, call: Call) -> Outcome:
        body = call.body
        if body is not None and not isinstance(body, bytes):
            body = ReplayBody(_stream(body))
        return await self.upstream.send(_attempt(call, body, target))

    async def call_async(self, target: Target, call: Call) -> Result:
        outcome = await self.send_async(target, call)
        if outcome.body is None or not call.read:
            return Result(outcome, outcome.whole or b"")
        data = b""
        try:
            async for chunk in outcome.body:
                data += chunk
        except BodyFailed as error:
            return Result(outcome, data, error)
        return Result(outcome, data)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def send(self, target: Target, call: Call) -> Outcome:
        return self.run(self.send_async(target, call))

    def call(self, target: Target, call: Call) -> Result:
        return self.run(self.call_async(target, call))

    def chunks(self, outcome: Outcome) -> Iterator[bytes]:
        chunks = aiter(outcome.body)
        while (chunk := self.run(anext(chunks, None))) is not None:
            yield chunk

    def drop(self, outcome: Outcome) -> None:
        self.run(outcome.body.aclose())

    def many(self, target: Target, calls: list[Call]) -> list[Result]:
        async def together() -> list[Result]:
            return await asyncio.gather(*(self.call_async(target, call) for call in calls))

        return self.run(together())

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> bool:
        end = self.now() + seconds
        while not condition():  # outside the loop: it may make calls itself
            if self.now() > end:
                return False
            self.run(asyncio.sleep(0.002))
        return True

    def settle(self) -> None:
        self.run(asyncio.sleep(0.02))

    def close(self) -> None:
        if self.loop.is_closed():
            return
        self.upstream.close()
        self.settle()
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()


async def _stream(pieces: Any) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
