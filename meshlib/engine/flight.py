"""What one call fetches and others wait for: a key set, say, that many requests need at once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class Flight:
    """Something under way that others wait for, on threads, loops and callbacks alike."""

    __slots__ = ("_lock", "_waiting", "landed")

    def __init__(self) -> None:
        self.landed = False
        self._lock = Lock()
        self._waiting: list[Callable[[], None]] = []

    def board(self, wake: Callable[[], None]) -> bool:
        """Have ``wake`` called once, from whichever thread, when it lands. False: it has landed already."""
        with self._lock:
            if self.landed:
                return False
            self._waiting.append(wake)
            return True

    def leave(self, wake: Callable[[], None]) -> None:
        """Wait no longer."""
        with self._lock:
            if wake in self._waiting:
                self._waiting.remove(wake)

    def land(self) -> None:
        """It is over, whichever way: whoever waits is woken."""
        with self._lock:
            self.landed = True
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
