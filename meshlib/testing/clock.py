"""``FakeClock``: time for tests. It moves when it is told to, or when somebody sleeps on it, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
from collections.abc import Iterator
from typing import Final

from meshlib.clock import SystemClock

TURNS: Final = 4
"""Turns of an event loop in which others may begin to sleep before its clock moves: they sleep at the same time then."""
PATIENCE: Final = 30.0
"""Seconds of the machine's time that a test waits for sleepers that do not come, before it is told so."""


class FakeClock:
    """A ``meshlib.clock.Clock`` for ``Mesh(clock=...)``. Durations are seconds.

    ``advance`` moves it: ejections end, breakers and rates recover, connections grow old, alarms ring. Whoever sleeps on it (a
    retry's backoff, an injected delay) moves it so far and goes on at once; ``sleeps`` lists how long everybody has slept.
    Tasks of one event loop that sleep at the same time do so side by side: two that sleep 1 s take 1 s together.

    Inside ``with clock.held():`` nobody's sleep moves it: sleepers wait until ``advance`` has come to their time.

    ``monotonic()`` begins at ``now``; ``time()``, which certificates and tokens are judged by, at ``time``: seconds since the
    epoch, by default what the machine's clock says.
    """

    def __init__(self, now: float = 1000.0, time: float | None = None) -> None:
        self._now = now
        self._epoch = (SystemClock.time() if time is None else time) - now
        self.sleeps: list[float] = []
        self._holds = 0
        self._changed = threading.Condition(threading.RLock())
        self._asleep = 0
        self._waiting: set[threading.Condition] = set()
        self._order = itertools.count()
        self._dues: dict[asyncio.AbstractEventLoop, list[tuple[float, int]]] = {}
        self._futures: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<FakeClock {self._now:g}{' held' if self._holds else ''}>"

    # -- what a mesh asks ---------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._now

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._epoch + self._now

    def sleep(self, seconds: float) -> None:
        """Move the clock by ``seconds``; while it is held, wait for somebody else to."""
        with self._changed:
            self.sleeps.append(seconds)
            until = self._now + max(0.0, seconds)
            if self._holds:
                self._asleep += 1
                self._changed.notify_all()
                try:
                    while self._holds and self._now < until:
                        self._changed.wait()
                finally:
                    self._asleep -= 1
        self._move_to(until)

    async def sleep_async(self, seconds: float) -> None:
        """The same for a task."""
        self.sleeps.append(seconds)
        until = self._now + max(0.0, seconds)
        loop = asyncio.get_running_loop()
        for ended in [other for other in list(self._dues) if other.is_closed()]:
            self._dues.pop(ended, None)
        dues = self._dues.setdefault(loop, [])
        mine = until, next(self._order)
        heapq.heappush(dues, mine)
        try:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            while self._now < until:
                if self._holds:
                    await self._until_moved(loop, until)
                elif dues[0] == mine:
                    self._move_to(until)
                else:
                    await asyncio.sleep(0)
        finally:
            dues.remove(mine)
            heapq.heapify(dues)

    async def _until_moved(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        moved: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if not self._holds or self._now >= until:
                return
            self._futures.add(moved)
            self._asleep += 1
            self._changed.notify_all()
        try:
            await moved
        finally:
            with self._changed:
                self._futures.discard(moved)
                self._asleep -= 1

    def wait(self, condition: threading.Condition, until: float) -> None:
        """See ``meshlib.clock.Clock``."""
        with self._changed:
            if self._now >= until:
                return
            self._waiting.add(condition)
        condition.wait()

    # -- what tests ask -----------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the clock. Raises ValueError for less than nothing: time does not go back."""
        if not seconds >= 0:
            raise ValueError(f"the clock cannot move by {seconds} s: time does not go back")
        self._move_to(self._now + seconds)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, whoever sleeps waits for ``advance``. At the end all sleepers go on."""
        with self._changed:
            self._holds += 1
        try:
            yield
        finally:
            with self._changed:
                self._holds -= 1
            self._wake()

    def wait_for_sleepers(self, count: int = 1, seconds: float = PATIENCE) -> None:
        """Block this thread until so many threads and tasks sleep on the held clock. (In a task that they need to go on,
        ``await asyncio.sleep(0)`` until ``sleeping`` says so.) Raises TimeoutError after ``seconds`` of the machine's time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._asleep >= count, seconds):
                why = "" if self._holds else ": it is not held, so that nobody waits"
                raise TimeoutError(f"{self._asleep} of {count} sleep on the clock after {seconds:g} s{why}")

    @property
    def sleeping(self) -> int:
        """How many sleep on the held clock."""
        return self._asleep

    def _move_to(self, when: float) -> None:
        with self._changed:
            if when <= self._now:
                return
            self._now = when
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            waiting, self._waiting = self._waiting, set()
            futures, self._futures = self._futures, set()
            self._changed.notify_all()
        for condition in waiting:
            with condition:
                condition.notify_all()
        for future in futures:
            with contextlib.suppress(RuntimeError):  # its loop was closed
                future.get_loop().call_soon_threadsafe(_moved, future)


def _moved(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
