"""Heads that were met before, and what came of them: a program sends the same few heads again and again, and so does a server.

``MESHLIB_PLAIN=1`` turns this off, as it does with every shortcut.
"""

from __future__ import annotations

from itertools import chain
from typing import Generic, TypeVar

from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.shortcuts import PLAIN

MOST_HEADS = 256
LONGEST_HEAD = 2048
"""Bytes of a head that is remembered; with ``MOST_HEADS``, what others can make this process hold."""

FEW_MISSES = 128
SELDOM = 64
"""After ``FEW_MISSES`` heads that were not met before, one in so many is remembered: where each is another (a date, the number
of a request), remembering costs more than it saves."""

Key = tuple[tuple[bytes, ...], ...]
"""Pairs, or what a library has in their place."""
Found = TypeVar("Found")


class HeadsSeen(Generic[Found]):
    """``of(head)`` is what was learned of it, None when nothing was. What is learned depends on nothing but the head and is
    never changed. For all threads: whoever comes second learns the same."""

    __slots__ = ("_known", "_misses", "of")

    def __init__(self) -> None:
        self._known: dict[Key, Found] = {}
        self._misses = 0
        self.of = self._known.get

    def worth_learning(self) -> bool:
        """Whether what was just met, for the first time, is to be remembered: whether heads come again here."""
        self._misses += 1
        return not PLAIN and (self._misses <= FEW_MISSES or not self._misses % SELDOM)

    def learn(self, head: Key, found: Found) -> None:
        """Remember it, if it is short and heads come again here."""
        if self.worth_learning():
            self.keep(head, found)

    def keep(self, head: Key, found: Found) -> None:
        """Remember it, if it is short."""
        if size_of(head) > LONGEST_HEAD:
            return
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        self._known[head] = found


def size_of(head: Key | RawHeaders) -> int:
    """Bytes of all its names and values."""
    return sum(map(len, chain.from_iterable(head)))
