"""Races of attempts (hedging) in threads and on asyncio.

In threads the caller's own thread makes the first attempt; nothing else happens unless the delay passes. Then a thread of
its own makes the next one, and whoever loses has its connection broken off.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable

from meshlib.engine.effects import Race, Send
from meshlib.engine.outcome import Failure, Outcome

BreakOff = Callable[[], None]
SendWatched = Callable[[Send, Callable[[BreakOff], None]], Outcome]


class Alarm:
    """One call of ``ring`` at a time to come; ``cancelled`` ones are passed over."""

    __slots__ = ("cancelled", "ring")

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.cancelled = False


class Alarms:
    """Calls functions after a delay, from one daemon thread for all. They must be short. A thread a call, as of
    ``threading.Timer``, would cost more than most calls take."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._due: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._earlier = threading.Condition()
        self._thread: threading.Thread | None = None

    def after(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Ring in so many seconds; set ``cancelled`` on what this returns to prevent it."""
        if self._pid != os.getpid():
            self._reset()  # a forked child: the thread, and whom it would call, are the parent's
        alarm = Alarm(ring)
        at = time.monotonic() + seconds
        with self._earlier:
            heapq.heappush(self._due, (at, next(self._order), alarm))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meshlib-alarms", daemon=True)
                self._thread.start()
            elif self._due[0][2] is alarm:
                self._earlier.notify()
        return alarm

    def _run(self) -> None:
        while True:
            with self._earlier:
                while not self._due or (not self._due[0][2].cancelled and self._due[0][0] > time.monotonic()):
                    self._earlier.wait(self._due[0][0] - time.monotonic() if self._due else None)
                alarm = heapq.heappop(self._due)[2]
            if not alarm.cancelled:
                alarm.ring()


alarms = Alarms()


class ThreadRace:
    """One race. ``send(attempt, watch)`` makes an attempt and tells ``watch`` how to break it off."""

    def __init__(self, effect: Race, send: SendWatched) -> None:
        self._effect = effect
        self._send = send
        self._changed = threading.Condition()
        self._running: dict[Send, BreakOff | None] = {}
        self._best: tuple[Send, Outcome] | None = None
        self._over = False
        self._alarm: Alarm

    def run(self) -> tuple[Send, Outcome]:
        """The winner, and its outcome; when all fail, the last to fail."""
        first = self._effect.first
        self._running[first] = None
        self._alarm = alarms.after(self._effect.delay, self._next)
        try:
            self._attempt(first)
            with self._changed:
                while self._best is None:
                    self._changed.wait()
                return self._best
        finally:
            self._end()

    def _attempt(self, send: Send) -> None:
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
            outcome = Outcome(Failure.RESET, str(error) or type(error).__name__, error)
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
            if self._over or self._best is not None:
                return
            send = self._effect.tries.another()
            if send is None:
                return
            self._running[send] = None
            self._alarm = alarms.after(self._effect.delay, self._next)
        threading.Thread(target=self._attempt, args=(send,), name="meshlib-hedge", daemon=True).start()

    @staticmethod
    def _drop(outcome: Outcome) -> None:
        if outcome.body is not None:
            outcome.body.abort()

    def _end(self) -> None:
        """Break off whoever still runs."""
        with self._changed:
            self._over = True
            self._alarm.cancelled = True
            losers = list(self._running.items())
            self._running.clear()
            for send, _ in losers:
                self._effect.tries.lost(send)
            self._changed.notify_all()
        for _, break_off in losers:
            if break_off is not None:
                break_off()


async def race_on_loop(effect: Race, send: Callable[[Send], Awaitable[Outcome]]) -> tuple[Send, Outcome]:
    """The same on asyncio: one task a try; losers are cancelled, which gives their connections back."""
    tries = effect.tries
    running: dict[asyncio.Future[Outcome], Send] = {asyncio.ensure_future(send(effect.first)): effect.first}
    more = True
    try:
        while True:
            done, _ = await asyncio.wait(
                running, timeout=effect.delay if more else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                attempt, outcome = running.pop(task), task.result()
                if tries.wins(outcome) or not running:
                    return attempt, outcome
                if outcome.body is not None:
                    outcome.body.abort()
                tries.lost(attempt)
            if not done:
                another = tries.another()
                more = another is not None
                if another is not None:
                    running[asyncio.ensure_future(send(another))] = another
    finally:
        losers = list(running.items())
        for task, _ in losers:
            task.cancel()
        for task, attempt in losers:
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Outcome) and ended.body is not None:
                ended.body.abort()
            tries.lost(attempt)
