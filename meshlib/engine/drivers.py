"""The drivers: each runs an exchange and performs its effects in one runtime.

A runtime says how (``send``, ``sleep``, ``acquire``, ``spawn``); a driver says when. There are three: blocking, asyncio,
and callbacks without a task per request. All of them stop at ``Deliver``: the answer belongs to the caller then, who
must call ``finish`` when its body is over, or ``exchange.close()`` when it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from meshlib.engine.effects import Acquire, Deliver, Effect, Exchange, Race, Send, Sleep, Spawn
from meshlib.engine.outcome import Failure, Outcome


class SyncRuntime(Protocol):
    """Performs effects by blocking the calling thread."""

    def send(self, effect: Send) -> Outcome: ...
    def race(self, effect: Race) -> tuple[Send, Outcome]: ...
    def sleep(self, seconds: float) -> None: ...
    def acquire(self, effect: Acquire) -> bool | None: ...
    def spawn(self, exchange: Exchange) -> None: ...


class AsyncRuntime(Protocol):
    """Performs effects by suspending the calling task."""

    async def send(self, effect: Send) -> Outcome: ...
    async def race(self, effect: Race) -> tuple[Send, Outcome]: ...
    async def sleep(self, seconds: float) -> None: ...
    async def acquire(self, effect: Acquire) -> bool | None: ...
    def spawn(self, exchange: Exchange) -> None: ...


class CallbackRuntime(Protocol):
    """Begins effects and returns at once; ``done(result)`` is called once when the effect is over. Each method returns a
    function that cancels what it began. ``after`` is no effect: it rings later, beside what goes on."""

    def send(self, effect: Send, done: Callable[[Outcome], None]) -> Callable[[], None]: ...
    def sleep(self, seconds: float, done: Callable[[None], None]) -> Callable[[], None]: ...
    def after(self, seconds: float, ring: Callable[[None], None]) -> Callable[[], None]: ...
    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[], None]: ...
    def spawn(self, exchange: Exchange) -> None: ...


def run(exchange: Exchange, runtime: SyncRuntime) -> Deliver:
    """Run in this thread up to the answer. Whatever interrupts it (KeyboardInterrupt too) closes the exchange first."""
    try:
        while True:
            effect = next(exchange)
            if type(effect) is Send:
                effect.outcome = runtime.send(effect)
            elif type(effect) is Deliver:
                return effect
            elif type(effect) is Sleep:
                runtime.sleep(effect.seconds)
            elif type(effect) is Acquire:
                effect.granted = runtime.acquire(effect)
            elif type(effect) is Race:
                effect.winner, effect.winner.outcome = runtime.race(effect)
            elif type(effect) is Spawn:
                runtime.spawn(effect.exchange)
    except BaseException:
        exchange.close()
        raise


async def run_async(exchange: Exchange, runtime: AsyncRuntime) -> Deliver:
    """Run in this task up to the answer. Cancellation closes the exchange, so nothing it holds is lost."""
    try:
        while True:
            effect = next(exchange)
            if type(effect) is Send:
                effect.outcome = await runtime.send(effect)
            elif type(effect) is Deliver:
                return effect
            elif type(effect) is Sleep:
                await runtime.sleep(effect.seconds)
            elif type(effect) is Acquire:
                effect.granted = await runtime.acquire(effect)
            elif type(effect) is Race:
                effect.winner, effect.winner.outcome = await runtime.race(effect)
            elif type(effect) is Spawn:
                runtime.spawn(effect.exchange)
    except BaseException:
        exchange.close()
        raise


class CallbackDriver:
    """Runs an exchange from callbacks: no thread, no task. ``on_deliver`` gets the answer; ``on_error`` what a policy or
    a runtime raised (a bug, never a failed attempt)."""

    __slots__ = ("_cancel", "_effect", "_exchange", "_on_deliver", "_on_error", "_runtime", "_steps")

    def __init__(
        self,
        exchange: Exchange,
        runtime: CallbackRuntime,
        on_deliver: Callable[[Deliver], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._exchange = exchange
        self._runtime = runtime
        self._on_deliver = on_deliver
        self._on_error = on_error
        self._cancel: Callable[[], None] | None = None
        self._effect: Effect | None = None  # under way
        self._steps = 0

    def start(self) -> None:
        """Begin; the answer may be delivered before this returns."""
        self._step()

    def cancel(self) -> None:
        """The caller has gone: stop what is under way and give everything back."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._exchange.close()

    def _step(self, _: None = None) -> None:
        self._cancel = None
        self._steps += 1
        step = self._steps
        cancel: Callable[[], None] | None = None
        try:
            effect = next(self._exchange)
            while type(effect) is Spawn:
                self._runtime.spawn(effect.exchange)
                effect = next(self._exchange)
            self._effect = effect
            if type(effect) is Deliver:
                self._on_deliver(effect)
            elif type(effect) is Send:
                cancel = self._runtime.send(effect, self._sent)
            elif type(effect) is Race:
                cancel = CallbackRace(effect, self._runtime, self._step).start()
            elif type(effect) is Sleep:
                cancel = self._runtime.sleep(effect.seconds, self._step)
            elif type(effect) is Acquire:
                cancel = self._runtime.acquire(effect, self._acquired)
            if step == self._steps:  # the effect may have been over at once, and another begun
                self._cancel = cancel
        except BaseException as error:
            self._exchange.close()
            if not isinstance(error, Exception):
                raise
            self._on_error(error)

    def _sent(self, outcome: Outcome) -> None:
        effect = self._effect
        assert type(effect) is Send
        effect.outcome = outcome
        self._step()

    def _acquired(self, granted: bool | None) -> None:
        effect = self._effect
        assert type(effect) is Acquire
        effect.granted = granted
        self._step()


class CallbackRace:
    """A race run from callbacks."""

    def __init__(self, effect: Race, runtime: CallbackRuntime, done: Callable[[None], None]) -> None:
        self._effect = effect
        self._runtime = runtime
        self._done = done
        self._running: dict[Send, Callable[[], None]] = {}
        self._timer: Callable[[], None] | None = None
        self._over = False

    def start(self) -> Callable[[], None]:
        """Begin; returns what cancels it."""
        self._launch(self._effect.first)
        if not self._over:
            self._wait()
        return self.cancel

    def cancel(self) -> None:
        """End every try."""
        self._over = True
        if self._timer is not None:
            self._timer()
        for stop in list(self._running.values()):
            stop()
        self._running.clear()

    def _wait(self) -> None:
        self._timer = self._runtime.after(self._effect.delay, self._next)

    def _next(self, _: None) -> None:
        self._timer = None
        send = None if self._over else self._effect.tries.another()
        if send is not None:
            self._launch(send)
            if not self._over:
                self._wait()

    def _launch(self, send: Send) -> None:
        self._running[send] = lambda: None
        stop = self._runtime.send(send, lambda outcome: self._ended(send, outcome))
        if send in self._running:
            self._running[send] = stop

    def _ended(self, send: Send, outcome: Outcome) -> None:
        if self._over or self._running.pop(send, None) is None:
            return
        if self._running and not self._effect.tries.wins(outcome):
            self._effect.tries.lost(send)
            return
        losers = list(self._running)
        self.cancel()
        for loser in losers:
            self._effect.tries.lost(loser)
        send.outcome = outcome
        self._effect.winner = send
        self._done(None)


_OVER: Any = object()


def discard(delivered: Deliver, exchange: Exchange) -> None:
    """End a spawned exchange whose answer nobody reads."""
    body = delivered.outcome.body
    if body is not None:
        body.abort()
    finish(exchange)


def finish(exchange: Exchange, failure: Failure | None = None) -> None:
    """The delivered answer's body is over: read to its end (None) or cut short by ``failure``."""
    if failure is None:
        if next(exchange, _OVER) is _OVER:  # without the exception that the end of ``send`` is
            return
    else:
        try:
            exchange.send(failure)
        except StopIteration:
            return
    exchange.close()
    raise RuntimeError("an exchange must end after its answer was delivered")
