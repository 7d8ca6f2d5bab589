"""How long requests stand in line for a thread of a pool (ResiliencePolicy ``spec.inbound.loadShedding.maxQueueTime``): the
99th percentile of short windows, and those who still stand there count, too.

Where a server tells when a request came, that is measured. Where it does not, somebody is sent into the line every few
milliseconds, as long as requests come, who only looks how long it takes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import count

from meshlib.policy.load_shedding import Lateness
from meshlib.transport.upstream.forked import this_process

BEAT = 0.01
"""Seconds from one who looks to the next."""
MOST_LOOKING = 100
"""Who look at a time: the oldest of them tells enough of a line that is so long."""


class ThreadLine:
    """The line of one pool; ``now`` tells the time in seconds. For several threads at once, and for forked children, in which
    nobody stands in line."""

    __slots__ = ("_lateness", "_lock", "_looked", "_now", "_pid", "_standing", "_tickets")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._lateness = Lateness()
        self._standing: dict[int, float] = {}  # in the order in which they came
        self._tickets = count()
        self._looked = -math.inf
        self._pid = this_process.pid

    def join(self) -> int:
        """Somebody begins to stand in line. Whoever that is tells by this number when it is over: ``begin`` or ``leave``."""
        if self._pid != this_process.pid:
            self._begin()
        ticket = next(self._tickets)
        self._standing[ticket] = self._now()
        return ticket

    def begin(self, ticket: int) -> None:
        """A thread has begun with it."""
        since = self._standing.pop(ticket, None)
        if since is not None:
            self.waited(self._now() - since)

    def leave(self, ticket: int) -> None:
        """It was given up. Nothing if it stands there no more."""
        self._standing.pop(ticket, None)

    def waited(self, seconds: float) -> None:
        """A thread has begun with somebody who stood in line so long."""
        if self._pid != this_process.pid:
            self._begin()
        with self._lock:
            self._lateness.record(max(0.0, seconds), self._now())

    def seconds(self) -> float:
        """The 99th percentile of the last window, or of the one under way when that is more; or how long the first in line
        stands there by now."""
        if self._pid != this_process.pid:
            self._begin()
        now = self._now()
        with self._lock:
            found = self._lateness.seconds(now)
        while True:
            try:
                first = next(iter(self._standing.values()), now)
            except RuntimeError:  # somebody has come or gone meanwhile
                continue
            return max(found, now - first)

    def wants_look(self) -> bool:
        """Whether it is time that somebody looks; the next time is a beat later."""
        now = self._now()
        if now - self._looked < BEAT or len(self._standing) >= MOST_LOOKING:
            return False
        self._looked = now
        return True


def _no_time() -> float:
    return 0.0


class PoolThreads:
    """The line for a pool that meshlib has itself, for the door in front of it: ``line`` is told who comes and goes."""

    __slots__ = ("line",)

    known = True

    def __init__(self) -> None:
        self.line = ThreadLine(_no_time)

    def go_by(self, now: Callable[[], float]) -> None:
        """``now`` tells the time from here on: the mesh's clock does. Before, nobody asks."""
        self.line = ThreadLine(now)

    def seconds(self) -> float:
        """How long requests stand there."""
        return self.line.seconds()
