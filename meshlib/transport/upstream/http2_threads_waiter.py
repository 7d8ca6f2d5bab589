"""What the thread of one HTTP/2 call sleeps on."""

from __future__ import annotations

import threading


class Waiter:
    """``changed``: the stream has changed since the thread looked. ``outside``: it is not in the middle of what must not be
    interrupted. Under the connection's lock, but for ``sleep``."""

    __slots__ = ("_gate", "changed", "outside")

    def __init__(self) -> None:
        self._gate = (
            threading.Lock()
        )  # a tenth of a Condition's price, which every call would pay (row "HTTP/2 from 8 threads")
        self._gate.acquire()
        self.changed = False
        self.outside = True

    def wake(self) -> None:
        """The stream's ``wake``."""
        self.changed = True
        self.rouse()

    def rouse(self) -> None:
        """Let the thread look around: now, or when it is about to sleep."""
        if self._gate.locked():
            self._gate.release()

    def sleep(self, seconds: float | None) -> bool:
        """Without the connection's lock: until it is roused (True), or the seconds are over."""
        return self._gate.acquire(timeout=-1.0 if seconds is None else seconds)
