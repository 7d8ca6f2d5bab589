"""Races of attempts (hedging) in threads and on asyncio.

In threads the caller's own thread makes the first attempt; nothing else happens unless the delay passes. Then a thread of
its own makes the next one, and whoever loses has its connection broken off.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from meshlib.alarms import Alarm, Alarms, wake
from meshlib.engine.effects import Race, Send
from meshlib.engine.message import Request
from meshlib.engine.outcome import Failure, Outcome
from meshlib.problems import said

BreakOff = Callable[[], None]
R = TypeVar("R", bound=Request)


class ThreadRace(Generic[R]):
    """One race. ``send(attempt, watch)`` makes an attempt and tells ``watch`` how to break it off."""

    def __init__(
        self, effect: Race[R], send: Callable[[Send[R], Callable[[BreakOff], None]], Outcome], alarms: Alarms
    ) -> None:
        self._effect = effect
        self._send = send
        self._alarms = alarms
        self._changed = threading.Condition()
        self._running: dict[Send[R], BreakOff | None] = {}
        self._best: tuple[Send[R], Outcome] | None = None
        self._over = False
        self._alarm: Alarm

    def run(self) -> tuple[Send[R], Outcome]:
        """The winner, and its outcome; when all fail, the last to fail."""
        first = self._effect.first
        self._running[first] = None
        self._alarm = self._alarms.after(self._effect.delay, self._next)
        try:
            self._attempt(first)
            with self._changed:
                while self._best is None:
                    self._changed.wait()
                return self._best
        finally:
            self._end()

    def _attempt(self, send: Send[R]) -> None:
        def watch(break_off: BreakOff) -> None:
            with self._changed:
                if send in self._running:
                    self._running[send] = break_off
                    return
            break_off()  # lost before it had a connection

        try:
            outcome = self._send(send, watch)
        except BaseException as error:
            if send is self._effect.first:
                raise
            outcome = Outcome(Failure.RESET, said(error), error)
        with self._changed:
            if self._running.pop(send, self) is self:  # lost while it ran, and told so
                self._drop(outcome)
                return
            if self._running and not self._effect.tries.wins(outcome):
                self._drop(outcome)
                self._effect.tries.lost(send)
                return
            self._best = (send, outcome)
            self._changed.notify_all()
        self._end()

    def _next(self) -> None:
        """The delay has passed: another try, and perhaps one more later."""
        with self._changed:
            if self._over or self._best is not None or self._alarms.closed:
                return
            send = self._effect.tries.another()
            if send is None:
                return
            self._running[send] = None
            self._alarm = self._alarms.after(self._effect.delay, self._next)
        threading.Thread(target=self._attempt, args=(send,), name="meshlib-hedge", daemon=True).start()

    @staticmethod
    def _drop(outcome: Outcome) -> None:
        if outcome.body is not None:
            outcome.body.abort()

    def _end(self) -> None:
        """Break off whoever still runs."""
        with self._changed:
            self._over = True
            self._alarm.cancel()
            losers = list(self._running.items())
            self._running.clear()
            for send, _ in losers:
                self._effect.tries.lost(send)
            self._changed.notify_all()
        for _, break_off in losers:
            if break_off is not None:
                break_off()


async def race_on_loop(
    effect: Race[R], send: Callable[[Send[R]], Awaitable[Outcome]], alarms: Alarms
) -> tuple[Send[R], Outcome]:
    """The same on asyncio: one task a try; losers are cancelled, which gives their connections back."""
    tries = effect.tries
    loop = asyncio.get_running_loop()

    async def begin(attempt: Send[R]) -> Outcome:
        return await send(
            attempt
        )  # which may begin at once: a task that is cancelled before its first step has begun nothing

    running: dict[asyncio.Future[Outcome], Send[R]] = {loop.create_task(begin(effect.first)): effect.first}
    late: Any = loop.create_future()
    alarm = alarms.on_loop(loop, effect.delay, functools.partial(wake, late))
    try:
        while True:
            waiting = running if late is None else {*running, late}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {late}:
                attempt, outcome = running.pop(task), task.result()
                if tries.wins(outcome) or not running:
                    return attempt, outcome
                if outcome.body is not None:
                    outcome.body.abort()
                tries.lost(attempt)
            if late in done:
                another = tries.another()
                late = None
                if another is not None:
                    running[loop.create_task(begin(another))] = another
                    late = loop.create_future()
                    alarm = alarms.on_loop(loop, effect.delay, functools.partial(wake, late))
    finally:
        alarm.cancel()
        losers = list(running.items())
        for task, _ in losers:
            task.cancel()
        for task, attempt in losers:
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Outcome) and ended.body is not None:
                ended.body.abort()
            tries.lost(attempt)
