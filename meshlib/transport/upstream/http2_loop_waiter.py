"""What the task of one HTTP/2 call awaits."""

from __future__ import annotations

import asyncio

from meshlib.transport.upstream.loop_deadlines import Deadlines


class Waiter:
    """Wakes one task when its stream has changed since it looked, or when its time has come."""

    _future: asyncio.Future[bool] | None = None
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
            if until is not None and until <= self._loop.time():
                return False
            future = self._future = self._loop.create_future()
            late = self._late
            if until is not None:
                self._deadlines.add(late, until)
            try:
                if not await future:
                    return False
            finally:
                self._future = None
                if until is not None:
                    self._deadlines.discard(late)
        self.changed = False
        return True
