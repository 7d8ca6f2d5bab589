"""What the task of one HTTP/2 call awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshlib.transport.upstream.loop_deadlines import Deadlines


class Waiter:
    """Wakes one task when its stream has changed since it looked, or when its time has come."""

    _future: asyncio.Future[bool] | None = None
    _timed: Callable[[], None] | None = None
    changed = False

    def __init__(self, loop: asyncio.AbstractEventLoop, deadlines: Deadlines) -> None:
        self._loop = loop
        self._deadlines = deadlines

    def wake(self) -> None:
        """The stream's ``wake``."""
        self.changed = True
        future = self._future
        if future is not None and not future.done():
            future.set_result(True)

    def _late(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(False)

    async def wait(self, until: float | None) -> bool:
        """Until the stream changes (True) or the loop's time has come."""
        if not self.changed:
            future = self.begin(until)
            if future is None:
                return False
            try:
                if not await future:
                    return False
            finally:
                self.over()
        self.changed = False
        return True

    def begin(self, until: float | None) -> asyncio.Future[bool] | None:
        """What ``wait`` awaits when nothing has ``changed``, None when the time has come; ``over`` ends it. For who would not
        have a coroutine of its own for each wait."""
        if until is not None:
            if until <= self._loop.time():
                return None
            self._timed = late = self._late
            self._deadlines.add(late, until)
        self._future = future = self._loop.create_future()
        return future

    def over(self) -> None:
        """Nobody waits any more."""
        self._future = None
        late = self._timed
        if late is not None:
            self._timed = None
            self._deadlines.discard(late)
