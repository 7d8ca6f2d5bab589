"""What telemetry had to drop, of this process: no call waits for a collector, so some of what is told may get lost."""

from __future__ import annotations

import os
import threading


class Dropped:
    """Counts, by what was dropped and why. The lock is re-entrant: the garbage collector may come in at any allocation."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.RLock()

    def add(self, what: str, count: int = 1) -> None:
        """So many more."""
        with self._lock:
            self._counts[what] = self._counts.get(what, 0) + count

    def counts(self) -> dict[str, int]:
        """All of them, by name."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def after_fork(self) -> None:
        """In a forked child: it has dropped nothing yet, and the lock's holder may not exist there."""
        self._lock = threading.RLock()
        self._counts = {}


dropped = Dropped()
os.register_at_fork(after_in_child=dropped.after_fork)
