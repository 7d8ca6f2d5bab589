"""When the waits of one event loop are over: one timer of the loop for all of them.

A timer of its own for each attempt would be set and cancelled a thousand times for each one that rings, at the cost of a heap
entry and a handle; here that is one entry of a dict (row "httpx.AsyncClient at 32 in flight"). Never early.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class Deadlines:
    """Functions of no argument, and the loop's time at which they are called unless they were discarded. By the loop's clock:
    what is waited for is the network. Not thread-safe."""

    __slots__ = ("_loop", "_timer", "at", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.at: dict[Callable[[], None], float] = {}
        """What is waited for. A hot path (``proxy/http2_forwarding.py``) adds and discards here itself, as ``add`` does:
        ``next`` is never later than the first of them."""
        self.next = math.inf
        """When the timer rings."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, ring: Callable[[], None], at: float) -> None:
        """Call ``ring`` when the loop's time is ``at``."""
        self.at[ring] = at
        if at < self.next:
            self.ring_at(at)

    def after(self, ring: Callable[[], None], seconds: float) -> None:
        """Call ``ring`` in so many seconds."""
        self.add(ring, self._loop.time() + seconds)

    def discard(self, ring: Callable[[], None]) -> None:
        """Do not call it. The timer stays: it finds out, and there is hardly ever more than one."""
        self.at.pop(ring, None)

    def close(self) -> None:
        """Call nothing more."""
        self.at.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.next = math.inf

    def ring_at(self, at: float) -> None:
        """Let the timer ring then, which would ring later."""
        if self._timer is not None:
            self._timer.cancel()
        self.next = at
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.next = math.inf
        now = self._loop.time()
        due = [ring for ring, at in self.at.items() if at <= now]
        later = [at for at in self.at.values() if at > now]
        if later:
            self.ring_at(min(later))
        for ring in due:
            if self.at.pop(ring, None) is not None:  # one that was called before may have discarded it
                ring()


class UntilClosed:
    """Bounds what is awaited inside by ``limit`` seconds: TimeoutError. Meanwhile it is among ``waits``; who calls it ends it.

    As ``asyncio.timeout``, but its time is one of ``deadlines``: no timer is set and cancelled for each connection."""

    __slots__ = ("_cancelling", "_deadlines", "_limit", "_over", "_task", "_waits")

    def __init__(self, waits: set[UntilClosed], deadlines: Deadlines, limit: float | None) -> None:
        self._waits = waits
        self._deadlines = deadlines
        self._limit = limit
        self._over = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0  # by others, before

    async def __aenter__(self) -> None:
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._waits.add(self)
        if self._limit is not None:
            self._deadlines.after(self, self._limit)

    def __call__(self) -> None:
        """Its time is over."""
        if not self._over and self._task is not None:
            self._over = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits.discard(self)
        if self._limit is not None:
            self._deadlines.discard(self)
        task, self._task = self._task, None
        assert task is not None
        if (
            self._over
            and task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from error
