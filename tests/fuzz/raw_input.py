"""Structure out of a fuzzer's bytes. Reading past the end gives zeros, so every input means something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class RawInput:
    """``data`` taken from its front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return max(0, len(self._data) - self._at)

    def take(self, size: int) -> bytes:
        """At most so many bytes."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def byte(self) -> int:
        """0..255."""
        found = self.take(1)
        return found[0] if found else 0

    def flag(self) -> bool:
        """One bit's worth."""
        return bool(self.byte() & 1)

    def below(self, limit: int) -> int:
        """0..limit - 1, for limits up to 65536."""
        if limit <= 256:
            return self.byte() % limit
        return (self.byte() << 8 | self.byte()) % limit

    def pick(self, among: Sequence[T]) -> T:
        """One of several."""
        return among[self.below(len(among))]

    def piece(self) -> bytes:
        """A byte string with its length before it."""
        size = self.byte()
        return self.take(size if size < 250 else 16 * size)

    def wire_text(self) -> str:
        """A piece as bytes read as latin-1."""
        return self.piece().decode("latin-1")

    def text(self) -> str:
        """A piece as text of any kind, also what is no Unicode."""
        return self.piece().decode("utf-8", "surrogateescape")
