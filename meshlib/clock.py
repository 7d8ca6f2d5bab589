"""Time as a parameter.

Rules of this file: it is the only place in meshlib that reads a clock or sleeps. Policy never does either: it is given
``now`` (seconds, monotonic) and a ``random.Random``. Tests give a clock they move by hand.
"""

from __future__ import annotations

import asyncio
import time as _time
from typing import Protocol

from meshlib.distribution import require_ours

require_ours()


class Clock(Protocol):
    """What meshlib asks of time. All durations are seconds as float."""

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
