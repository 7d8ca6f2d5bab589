"""The drivers: each runs an exchange, outbound or inbound, and performs its effects in one runtime.

A runtime says how (``send``, ``sleep``, ``acquire``, ``wait``, ``spawn``, ``read``); a driver says when. There are three:
blocking, asyncio, and callbacks without a task per request. All of them stop at ``Deliver`` or ``Serve``: the
response, or the request, belongs to the caller then, who must call ``finish`` when it is over, or ``exchange.close()`` when it
is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshlib.engine.body_source import is_awaited, is_blocking, is_called_back
from meshlib.engine.effects import Acquire, Ask, Deliver, Peek, Race, Send, Serve, Sleep, Spawn, Wait
from meshlib.engine.outcome import Failure, Outcome

R = TypeVar("R", bound="Request")
R_contra = TypeVar("R_contra", bound="Request", contravariant=True)
Last = TypeVar("Last", Deliver, Serve)
"""What an exchange ends with: an outbound or an inbound one."""
End = TypeVar("End")

if TYPE_CHECKING:
    from meshlib.engine.effects import Exchange, Step
    from meshlib.engine.message import Request

Cancel = Callable[[], None]


class SyncRuntime(Protocol[R_contra]):
    """Performs effects by blocking the calling thread.

    ``read`` reads a response's body to its end: an outcome that has it ``whole``, or the failure that cut it; more than
    ``limit`` bytes are one. ``race`` says itself who has won. ``wait``: whether the flight has landed in time."""

    def send(self, effect: Send[R_contra]) -> Outcome: ...
    def race(self, effect: Race[R_contra]) -> None: ...
    def sleep(self, seconds: float) -> None: ...
    def acquire(self, effect: Acquire) -> bool | None: ...
    def wait(self, effect: Wait) -> bool: ...
    def read(self, outcome: Outcome, limit: int) -> Outcome: ...
    def spawn(self, exchange: Exchange[R_contra]) -> None: ...


class AsyncRuntime(Protocol[R_contra]):
    """Performs effects by suspending the calling task.

    ``read`` reads a response's body to its end: an outcome that has it ``whole``, or the failure that cut it; more than
    ``limit`` bytes are one. ``race`` says itself who has won. ``wait``: whether the flight has landed in time."""

    async def send(self, effect: Send[R_contra]) -> Outcome: ...
    async def race(self, effect: Race[R_contra]) -> None: ...
    async def sleep(self, seconds: float) -> None: ...
    async def acquire(self, effect: Acquire) -> bool | None: ...
    async def wait(self, effect: Wait) -> bool: ...
    async def read(self, outcome: Outcome, limit: int) -> Outcome: ...
    def spawn(self, exchange: Exchange[R_contra]) -> None: ...


class CallbackRuntime(Protocol[R_contra]):
    """Begins effects and returns at once; ``done(result)`` is called once when the effect is over. Each method returns a
    function that cancels what it began. ``after`` is not an effect: it rings later, beside what goes on."""

    def send(self, effect: Send[R_contra], done: Callable[[Outcome], None]) -> Cancel: ...
    def sleep(self, seconds: float, done: Callable[[None], None]) -> Cancel: ...
    def after(self, seconds: float, ring: Callable[[None], None]) -> Cancel: ...
    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Cancel: ...
    def wait(self, effect: Wait, done: Callable[[bool], None]) -> Cancel: ...
    def read(self, outcome: Outcome, limit: int, done: Callable[[Outcome], None]) -> Cancel: ...
    def spawn(self, exchange: Exchange[R_contra]) -> None: ...


def run(
    exchange: Generator[Step[R] | Last, None, None], runtime: SyncRuntime[R], begun: Step[R] | Last | None = None
) -> Last:
    """Run in this thread up to the response, or the application. Whatever interrupts it (KeyboardInterrupt too) closes the
    exchange first. ``begun``: the first effect of an exchange that its caller has begun."""
    try:
        while True:
            effect = next(exchange) if begun is None else begun
            begun = None
            if type(effect) is Send:
                effect.outcome = runtime.send(effect)
            elif type(effect) is Deliver:
                return effect
            elif type(effect) is Sleep:
                runtime.sleep(effect.seconds)
            elif type(effect) is Acquire:
                effect.granted = runtime.acquire(effect)
            elif type(effect) is Race:
                runtime.race(effect)
            elif type(effect) is Spawn:
                runtime.spawn(effect.exchange)
            elif type(effect) is Ask:
                effect.outcome = _ask(effect, runtime)
            elif type(effect) is Wait:
                effect.landed = runtime.wait(effect)
            elif type(effect) is Peek:
                assert is_blocking(effect.source)
                effect.head, effect.ended = effect.source.peek(effect.limit)
            else:
                return effect
    except BaseException:
        exchange.close()
        raise


def run_brief(exchange: Exchange[R], runtime: SyncRuntime[R]) -> Send[R] | Deliver:
    """As ``run``, of an exchange that may be ``brief`` (see ``outbound``): the ``Send`` that it ended with, or what it
    delivers."""
    try:
        effect = next(exchange)
        if type(effect) is Send:
            effect.outcome = runtime.send(effect)
            after = next(exchange, None)
            if after is None:
                return effect
            effect = after
    except BaseException:
        exchange.close()
        raise
    return effect if type(effect) is Deliver else run(exchange, runtime, effect)


def _ask(effect: Ask[R], runtime: SyncRuntime[R]) -> Outcome:
    exchange = effect.exchange
    delivered = run(exchange, runtime)
    outcome = delivered.outcome
    cut = None
    if outcome.body is not None:
        try:
            outcome = runtime.read(outcome, effect.limit)
        except BaseException:
            exchange.close()
            raise
        cut = outcome.failure
    finish(exchange, cut)
    return within(outcome, effect.limit)


def within(outcome: Outcome, limit: int) -> Outcome:
    """The failure that a response of more than ``limit`` bytes is, also where it has come together with its head."""
    if outcome.whole is not None and len(outcome.whole) > limit:
        return Outcome(Failure.PROTOCOL_ERROR, f"the body of the response is longer than {limit} bytes")
    return outcome


async def run_async(
    exchange: Generator[Step[R] | Last, None, None], runtime: AsyncRuntime[R], begun: Step[R] | Last | None = None
) -> Last:
    """Run in this task up to the response, or the application. Cancellation closes the exchange, so that nothing is lost.
    ``begun``: the first effect of an exchange that its caller has begun."""
    try:
        while True:
            effect = next(exchange) if begun is None else begun
            begun = None
            if type(effect) is Send:
                effect.outcome = await runtime.send(effect)
            elif type(effect) is Deliver:
                return effect
            elif type(effect) is Sleep:
                await runtime.sleep(effect.seconds)
            elif type(effect) is Acquire:
                effect.granted = await runtime.acquire(effect)
            elif type(effect) is Race:
                await runtime.race(effect)
            elif type(effect) is Spawn:
                runtime.spawn(effect.exchange)
            elif type(effect) is Ask:
                effect.outcome = await _ask_async(effect, runtime)
            elif type(effect) is Wait:
                effect.landed = await runtime.wait(effect)
            elif type(effect) is Peek:
                assert is_awaited(effect.source)
                effect.head, effect.ended = await effect.source.peek_async(effect.limit)
            else:
                return effect
    except BaseException:
        exchange.close()
        raise


async def run_brief_async(exchange: Exchange[R], runtime: AsyncRuntime[R]) -> Send[R] | Deliver:
    """As ``run_brief``, in this task."""
    try:
        effect = next(exchange)
        if type(effect) is Send:
            effect.outcome = await runtime.send(effect)
            after = next(exchange, None)
            if after is None:
                return effect
            effect = after
    except BaseException:
        exchange.close()
        raise
    return effect if type(effect) is Deliver else await run_async(exchange, runtime, effect)


async def _ask_async(effect: Ask[R], runtime: AsyncRuntime[R]) -> Outcome:
    exchange = effect.exchange
    delivered = await run_async(exchange, runtime)
    outcome = delivered.outcome
    cut = None
    if outcome.body is not None:
        try:
            outcome = await runtime.read(outcome, effect.limit)
        except BaseException:
            exchange.close()
            raise
        cut = outcome.failure
    finish(exchange, cut)
    return within(outcome, effect.limit)


class CallbackDriver(Generic[R, Last]):
    """Runs an exchange from callbacks: no thread, no task. ``on_end`` gets its last effect; ``on_error`` what a policy or a
    runtime raised (a bug, never a failed attempt)."""

    __slots__ = ("_cancel", "_effect", "_exchange", "_on_end", "_on_error", "_runtime", "_steps")

    def __init__(
        self,
        exchange: Generator[Step[R] | Last, None, None],
        runtime: CallbackRuntime[R],
        on_end: Callable[[Last], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._exchange: Generator[Step[R] | Last, None, None] = exchange
        self._runtime = runtime
        self._on_end: Callable[[Last], None] = on_end
        self._on_error = on_error
        self._cancel: Cancel | None = None
        self._effect: Step[R] | Last | None = None  # under way
        self._steps = 0

    def start(self) -> None:
        """Begin; the response may be delivered before this returns."""
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
        cancel: Cancel | None = None
        runtime = self._runtime
        try:
            effect = next(self._exchange)
            while type(effect) is Spawn:
                runtime.spawn(effect.exchange)
                effect = next(self._exchange)
            self._effect = effect
            if type(effect) is Send:
                cancel = runtime.send(effect, self._sent)
            elif type(effect) is Race:
                cancel = CallbackRace(effect, runtime, self._step).start()
            elif type(effect) is Sleep:
                cancel = runtime.sleep(effect.seconds, self._step)
            elif type(effect) is Acquire:
                cancel = runtime.acquire(effect, self._acquired)
            elif type(effect) is Ask:
                cancel = CallbackAsk(effect, runtime, self._step, self._failed).start()
            elif type(effect) is Wait:
                cancel = runtime.wait(effect, self._waited)
            elif type(effect) is Peek:
                assert is_called_back(effect.source)
                cancel = effect.source.peek_later(effect.limit, self._peeked)
            else:
                self._on_end(effect)
            if step == self._steps:  # the effect may have been over at once, and another begun
                self._cancel = cancel
        except BaseException as error:
            self._failed(error)
            if not isinstance(error, Exception):
                raise

    def _failed(self, error: BaseException) -> None:
        self._exchange.close()
        if isinstance(error, Exception):
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

    def _waited(self, landed: bool) -> None:
        effect = self._effect
        assert type(effect) is Wait
        effect.landed = landed
        self._step()

    def _peeked(self, seen: tuple[bytes, bool]) -> None:
        effect = self._effect
        assert type(effect) is Peek
        effect.head, effect.ended = seen
        self._step()


class CallbackAsk(Generic[R]):
    """A call on behalf of an exchange, run from callbacks."""

    __slots__ = ("_done", "_driver", "_effect", "_reading", "_runtime")

    def __init__(
        self,
        effect: Ask[R],
        runtime: CallbackRuntime[R],
        done: Callable[[None], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._effect = effect
        self._runtime = runtime
        self._done = done
        self._reading: Cancel | None = None
        self._driver = CallbackDriver(effect.exchange, runtime, self._delivered, on_error)

    def start(self) -> Cancel:
        """Begin; returns what cancels it."""
        self._driver.start()
        return self.cancel

    def cancel(self) -> None:
        """Nobody waits for the response any more."""
        if self._reading is not None:
            self._reading()
        self._driver.cancel()

    def _delivered(self, delivered: Deliver) -> None:
        outcome = delivered.outcome
        if outcome.body is None:
            self._read(outcome, None)
        else:
            self._reading = self._runtime.read(outcome, self._effect.limit, lambda read: self._read(read, read.failure))

    def _read(self, outcome: Outcome, cut: Failure | None) -> None:
        self._effect.outcome = within(outcome, self._effect.limit)
        finish(self._effect.exchange, cut)
        self._done(None)


class CallbackRace(Generic[R]):
    """A race run from callbacks."""

    def __init__(self, effect: Race[R], runtime: CallbackRuntime[R], done: Callable[[None], None]) -> None:
        self._effect = effect
        self._runtime = runtime
        self._done = done
        self._running: dict[Send[R], Callable[[], None]] = {}
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

    def _launch(self, send: Send[R]) -> None:
        self._running[send] = lambda: None
        stop = self._runtime.send(send, lambda outcome: self._ended(send, outcome))
        if send in self._running:
            self._running[send] = stop

    def _ended(self, send: Send[R], outcome: Outcome) -> None:
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


_OVER = object()


def discard(delivered: Deliver, exchange: Exchange[R]) -> None:
    """End a spawned exchange whose response nobody reads."""
    delivered.outcome.drop()
    finish(exchange)


def finish(exchange: Generator[object, End | None, None], end: End | None = None) -> None:
    """What an exchange ended with is over. Of a delivered response: it was read to its end (None) or cut by a ``Failure``;
    of a request served: how its response ``Ended`` (None: the client went away before). May be told more than once: the first
    counts."""
    if end is None:
        if next(exchange, _OVER) is _OVER:  # without the exception that the end of ``send`` is
            return
    else:
        try:
            exchange.send(end)
        except StopIteration:
            return
    exchange.close()
    raise RuntimeError("an exchange must end with the effect that it has delivered")
