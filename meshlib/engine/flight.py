"""What one call fetches and others wait for: a key set, say, that many requests need at once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import Lock
from typing import Generic, TypeVar

from meshlib.engine.effects import Step, Wait

T = TypeVar("T")


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


class _Fetch(Flight, Generic[T]):
    __slots__ = ("result",)

    def __init__(self) -> None:
        super().__init__()
        self.result: T | None = None


class Flights(Generic[T]):
    """At most one fetch of each key at a time; the others of that key wait for it. Keeps no result: that is the caller's."""

    __slots__ = ("_lock", "_under_way")

    def __init__(self) -> None:
        self._under_way: dict[str, _Fetch[T]] = {}
        self._lock = Lock()

    def fetch(
        self, key: str, make: Callable[[], Generator[Step, None, T | None]], timeout: float | None = None
    ) -> Generator[Step, None, T | None]:
        """What ``make`` fetches, or what another's fetch under way does. None: that came to nothing, was given up, or took
        longer than ``timeout`` seconds."""
        with self._lock:
            other = self._under_way.get(key)
            if other is None:
                mine = self._under_way[key] = _Fetch()
        if other is not None:
            yield Wait(other, timeout)
            return other.result
        try:
            mine.result = yield from make()
            return mine.result
        finally:  # also when whoever fetches is cancelled: nobody waits for ever
            with self._lock:
                del self._under_way[key]
            mine.land()
