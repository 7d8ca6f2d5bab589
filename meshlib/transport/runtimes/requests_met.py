"""Requests that a server has met before, to the letter, and what came of them: callers send the same few again and again.

``MESHLIB_PLAIN=1`` turns this off, as it does with every shortcut.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar

from meshlib.transport.protocol.shortcuts import PLAIN

MOST_REQUESTS = 1024
MOST_BYTES = 2 * 1024 * 1024
"""Of the keys of one door, as ``keep`` is told: strangers choose what is in them."""
LONGEST = 8192
"""Of one."""

FEW_MISSES = 256
SELDOM = 16
"""After ``FEW_MISSES`` that were not met before, one in so many is remembered: where each is another (the number of a request,
a trace), remembering costs more than it saves."""
USELESS = 64
PAUSE = 16_384
"""When so many of those that are given up, one after the other, were never met again, nobody looks for so many requests."""


class Kept(Protocol):
    """``met``: whether it came again; whoever finds it says so. ``size``: of its key."""

    met: bool
    key_size: int


Found = TypeVar("Found", bound=Kept)


class RequestsMet(Generic[Found]):
    """``of(key)`` is what was kept, None when nothing was; where ``of`` itself is None, nobody needs to make a key, and each
    request that went straight is ``passed``. For all threads; the oldest is given up first."""

    __slots__ = ("_found", "_left", "_lock", "_misses", "_size", "_useless", "of")

    def __init__(self) -> None:
        self._found: dict[Hashable, Found] = {}
        self._lock = Lock()
        self._misses = self._size = self._useless = self._left = 0
        self.of: Callable[[Hashable], Found | None] | None = None if PLAIN else self._found.get

    def wants(self) -> bool:
        """Whether one that was not found is to be kept."""
        if PLAIN or self._left:
            return False
        self._misses += 1
        return self._misses <= FEW_MISSES or not self._misses % SELDOM

    def keep(self, key: Hashable, found: Found) -> None:
        """For the next one like it, if it is not too long."""
        if found.key_size > LONGEST or not self._lock.acquire(blocking=False):  # in a forked child perhaps for ever
            return
        try:
            before = self._found.pop(key, None)
            if before is not None:
                self._size -= before.key_size
            self._found[key] = found
            self._size += found.key_size
            while len(self._found) > MOST_REQUESTS or self._size > MOST_BYTES:
                oldest = self._found.pop(next(iter(self._found)))
                self._size -= oldest.key_size
                self._useless = 0 if oldest.met else self._useless + 1
            if self._useless >= USELESS:
                self._useless, self._left = 0, PAUSE
                self.of = None
        finally:
            self._lock.release()

    def passed(self) -> None:
        """One more that nobody has looked for."""
        if self._left:  # else nobody ever looks
            self._left -= 1
            if self._left <= 0:  # several threads may count at once
                self._left = 0
                self.of = self._found.get

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"<RequestsMet {len(self._found)}>"  # their headers are nobody's business
