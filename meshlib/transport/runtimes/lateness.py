"""How late the callbacks of event loops run (ResiliencePolicy ``spec.inbound.loadShedding.maxLag``).

A loop is late while something blocks it: a handler that computes, or waits without await. So a callback is planned every few
milliseconds, as long as requests come, and what counts is how late it is called.
"""

from __future__ import annotations

import asyncio
import math

from meshlib.policy.load_shedding import Lateness

BEAT = 0.01
"""Seconds from one measurement to the next."""
IDLE = 1.0
"""Seconds without a request after which a loop is let alone."""


class LoopLateness:
    """Of one loop, asked on it."""

    __slots__ = ("_asked", "_due", "_lateness", "_loop", "_running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lateness = Lateness()
        self._asked = -math.inf
        self._due = 0.0
        self._running = False

    def seconds(self) -> float:
        """How late it runs. The first question only begins to measure."""
        now = self._asked = self._loop.time()
        if not self._running:
            self._running = True
            self._plan(now)
        return self._lateness.seconds(now)

    def _plan(self, now: float) -> None:
        self._due = now + BEAT
        self._lateness.expect(self._due)
        self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        late = now - self._due
        if now - self._asked > IDLE:
            self._running = False
            self._lateness.stop()
            return
        self._lateness.record(late, now)
        self._plan(now)


class Latenesses:
    """Of all loops of a server."""

    __slots__ = ("_by_loop",)

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopLateness] = {}

    def here(self) -> float:
        """How late the running loop is; 0 where none runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return 0.0
        found = self._by_loop.get(loop)
        if found is None:
            for ended in [other for other in list(self._by_loop) if other.is_closed()]:
                self._by_loop.pop(ended, None)
            found = self._by_loop[loop] = LoopLateness(loop)
        return found.seconds()
