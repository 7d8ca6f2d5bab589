"""Time as a parameter.

The law: whatever a policy decides by or waits for goes by the mesh's Clock (timeouts of routes, delays, backoffs, hedges,
lines for a slot, ejections, rates, how long connections are kept, when calls are counted). Policy itself never reads it: it
is given ``now`` (seconds, monotonic) and a ``random.Random``. Tests give a clock they move by hand.

Real time, by its nature, is how long others take: the limits of an attempt under way, which are handed to the kernel, to
gRPC core or to the event loop that waits for the socket; and how often what others change is looked at (files, names,
Redis). Nobody but this file imports ``time``; tests/test_time_is_a_parameter.py holds that and names every exception.
"""

from __future__ import annotations

import asyncio
import threading
import time as _time
from collections.abc import Callable
from typing import Any, Protocol

from meshlib.distribution import require_ours

require_ours()

Wait = Callable[[threading.Condition, float], Any]


class Clock(Protocol):
    """What meshlib asks of time. All durations are seconds as float.

    A clock may also have ``wait(condition, until)``: wait on a condition that the caller holds, until it is notified or
    ``monotonic()`` has come to ``until`` (earlier does no harm). Then the alarms of a clock that is moved by hand ring when
    it is moved; one without is looked at every few milliseconds while something waits for it.
    """

    def monotonic(self) -> float:
        """Seconds that only grow; the base of every timeout, ejection and rate."""
        ...

    def time(self) -> float:
        """Wall-clock seconds since the epoch; only for what people and certificates read."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task."""
        ...


class SystemClock:
    """The machine's own clock."""

    __slots__ = ()

    monotonic = staticmethod(_time.monotonic)
    time = staticmethod(_time.time)
    sleep = staticmethod(_time.sleep)
    sleep_async = staticmethod(asyncio.sleep)

    @staticmethod
    def wait(condition: threading.Condition, until: float) -> None:
        """See ``Clock``."""
        left = until - _time.monotonic()
        if left > 0:
            condition.wait(min(left, LONGEST))


LONGEST = 3600.0
"""Seconds that one wait of the system takes at most: it refuses those that are longer than some 292 years."""

LOOK = 0.005
"""Seconds between two looks at a clock that has no ``wait``."""


def waiting(clock: Clock) -> Wait:
    """The clock's ``wait``."""
    own: Wait | None = getattr(clock, "wait", None)
    if own is not None:
        return own
    now = clock.monotonic

    def look(condition: threading.Condition, until: float) -> None:
        if until > now():
            condition.wait(LOOK)

    return look


def is_real(clock: Clock) -> bool:
    """Whether the clock is the machine's, so that the system's own timers agree with it."""
    return type(clock) is SystemClock


thread_seconds = _time.thread_time
"""CPU seconds of the calling thread: how long it has kept others from the interpreter. Not of the mesh's clock: work takes
what it takes, whatever time a test pretends it is."""

rest = _time.sleep
"""Let other threads of the process go first for so many seconds; as ``thread_seconds``, not of the mesh's clock."""

machine_seconds = _time.monotonic
"""For what is shown to a person who waits."""
