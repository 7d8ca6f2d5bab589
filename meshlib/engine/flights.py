"""One fetch of a key at a time, for all who need it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import Lock
from typing import Generic, TypeVar

from meshlib.engine.effects import Wait
from meshlib.engine.flight import Flight

T = TypeVar("T")
S = TypeVar("S")
"""What a fetch yields."""


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
        self, key: str, make: Callable[[], Generator[S, None, T | None]], timeout: float | None = None
    ) -> Generator[S | Wait, None, T | None]:
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
