"""What rings after a while: the timers of a mesh, by its clock, for calls that no thread waits for.

One object a mesh, and one thread as long as something is due. What it rings may raise: that is logged once, counted, and
the others ring all the same.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from meshlib.clock import SystemClock, is_real, waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.clock import Clock

log = logging.getLogger("meshlib.alarms")

LINGER = 5.0
"""Seconds that the thread stays with nothing due: starting one costs more than most calls take."""

SWEEP = 512
"""Alarms due before the cancelled ones among them are looked for."""

AT_ONCE = -float("inf")

_all: weakref.WeakSet[Alarms] = weakref.WeakSet()


class Cancellable(Protocol):
    """An alarm, or a timer of an event loop."""

    def cancel(self) -> None:
        """Do not ring."""


class Alarm:
    """One call of ``ring`` at a time to come."""

    __slots__ = ("ring",)

    def __init__(self, ring: Callable[[], object]) -> None:
        self.ring: Callable[[], object] | None = ring

    def cancel(self) -> None:
        """Do not ring, and keep nothing of what it would have rung."""
        self.ring = None


class Alarms:
    """Calls functions after a delay, from one daemon thread for all. They must be short. ``failures`` counts those that
    raised. A thread a call, as of ``threading.Timer``, would cost more than most calls take."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock = clock or SystemClock()
        self.now = clock.monotonic
        self._wait = waiting(clock)
        self.real = is_real(clock)
        self.failures = 0
        self.closed = False
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._due: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        # re-entrant: the garbage collector may drop a mesh, which closes its alarms, while this thread is inside
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._sweep_at = SWEEP

    def after(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        """Ring in so many seconds of the mesh's clock; ``cancel`` what this returns to prevent it."""
        alarm = Alarm(ring)
        at = self.now() + seconds if seconds > 0 else AT_ONCE  # not a number: at once, too
        with self._changed:
            due = self._due
            if len(due) >= self._sweep_at:
                self._sweep()
            heapq.heappush(due, (at, next(self._order), alarm))
            thread = self._thread
            if thread is None or not thread.is_alive():
                self._start(alarm)
            elif due[0][2] is alarm:
                self._changed.notify()
        return alarm

    def on_loop(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], object]) -> Cancellable:
        """The same for an event loop, whose own timers do it as long as the clock is the machine's. ``cancel`` what this
        returns, on the loop."""
        if self.real:
            return loop.call_later(max(0.0, seconds), ring)
        alarm: Alarm

        def here() -> None:
            if alarm.ring is not None:  # it may have been cancelled on the way
                ring()

        def there() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(here)

        alarm = self.after(seconds, there)
        return alarm

    def sleep(self, seconds: float, done: Callable[[], object]) -> Alarm:
        """``done`` when a call that no thread waits for has slept so long. By the machine's clock that is an alarm; any other
        clock is asked to ``sleep``, because a clock may be one that sleeping moves."""
        if self.real:
            return self.after(seconds, done)
        alarm = Alarm(done)

        def asleep() -> None:
            self._clock.sleep(seconds)
            self._ring(alarm)

        threading.Thread(target=asleep, name="meshlib-asleep", daemon=True).start()
        return alarm

    async def pause(self, seconds: float) -> None:
        """Wait on the running loop, for work that no call waits for: unlike ``sleep_async`` of the clock, which may be one
        that sleeping moves."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        alarm = self.on_loop(loop, seconds, functools.partial(wake, over))
        try:
            await over
        finally:
            alarm.cancel()

    def close(self) -> None:
        """Ring all that is due, early, and end the thread: nobody is to wait for a mesh that is closed. Alarms set later
        ring at their time."""
        self.closed = True
        with self._changed:
            # in their order, and in place: the thread has the list
            self._due[:] = [(AT_ONCE, next(self._order), alarm) for _, _, alarm in sorted(self._due)]
            self._changed.notify_all()

    def _start(self, alarm: Alarm) -> None:
        thread = threading.Thread(target=self._run, name="meshlib-alarms", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except BaseException:  # no thread to be had: the caller hears of it, and the next alarm tries again
            self._thread = None
            alarm.cancel()
            raise

    def _sweep(self) -> None:
        due = self._due
        due[:] = [entry for entry in due if entry[2].ring is not None]
        heapq.heapify(due)
        self._sweep_at = max(SWEEP, 2 * len(due))

    def _run(self) -> None:
        me, changed, due = threading.current_thread(), self._changed, self._due
        while True:
            with changed:
                alarm = self._next(me, changed, due)
            if alarm is None:
                return
            self._ring(alarm)
            del alarm  # and with it all that its ring refers to

    def _next(
        self, me: threading.Thread, changed: threading.Condition, due: list[tuple[float, int, Alarm]]
    ) -> Alarm | None:
        """The next that is due, None when the thread is to end."""
        lingering = False
        while True:
            if self._thread is not me:
                return None  # another one has been started
            while due and due[0][2].ring is None:
                heapq.heappop(due)
            if due:
                lingering = False
                at = due[0][0]
                if at <= self.now():
                    return heapq.heappop(due)[2]
                self._wait(changed, at)
            elif lingering or self.closed:
                self._thread = None
                return None
            else:
                lingering = not changed.wait(LINGER)

    def _ring(self, alarm: Alarm) -> None:
        ring = alarm.ring
        if ring is None:
            return
        try:
            ring()
        except BaseException:  # SystemExit too: nobody else's alarms may end with it
            self.failures += 1
            if self.failures == 1:
                log.exception("what an alarm rang raised; further failures are only counted (status: alarm_failures)")


def wake(waited_for: asyncio.Future[None]) -> None:
    """End the wait for a future, unless it has ended already."""
    if not waited_for.done():
        waited_for.set_result(None)


def _after_fork_in_child() -> None:
    for alarms in list(_all):
        alarms._reset()  # the thread, and whom it would call, are the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)
