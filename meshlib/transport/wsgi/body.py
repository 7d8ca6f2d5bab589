"""The body of a request, of which a check may see the beginning: the application reads it from its first byte all the same.

Nobody touches ``wsgi.input`` unless a check asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.transport.wsgi.contracts import Environ

INPUT = "wsgi.input"


class Body:
    """That of a request with this environ."""

    __slots__ = ("_environ", "_seen")

    def __init__(self, environ: Environ) -> None:
        self._environ = environ
        self._seen: Seen | None = None

    def peek(self, limit: int) -> tuple[bytes, bool]:
        """As ``BlockingSource``'s. What the server raises when the client has gone, it raises here."""
        seen = self._seen
        if seen is None:
            seen = self._seen = self._environ[INPUT] = Seen(self._environ[INPUT], self._left())
        return seen.peek(limit)

    def _left(self) -> int | None:
        """How many bytes may be asked of the server's input, which need not know where it ends; None: as many as one likes."""
        environ = self._environ
        if environ.get("wsgi.input_terminated"):
            return None
        length = environ.get("CONTENT_LENGTH") or "0"
        return int(length) if length.isascii() and length.isdigit() else 0


class Seen:
    """The input as the application gets it: what has been seen of it, and then the rest."""

    def __init__(self, source: Any, left: int | None) -> None:
        self._source = source
        self._left = left
        self._head = b""
        self._ended = left == 0

    def peek(self, limit: int) -> tuple[bytes, bool]:
        """All that is kept, read on until that is ``limit`` bytes or the body has ended, and whether it has."""
        while len(self._head) < limit and not self._ended:
            wanted = limit - len(self._head)
            if self._left is not None:
                wanted = min(wanted, self._left)
            piece = self._source.read(wanted)
            self._head += piece
            if self._left is not None:
                self._left -= len(piece)
            self._ended = not piece or self._left == 0
        return self._head, self._ended

    def read(self, size: int | None = -1) -> bytes:
        """As a file's."""
        head = self._head
        if size is None or size < 0:
            self._head = b""
            return head + (b"" if self._ended else self._source.read())
        taken, self._head = head[:size], head[size:]
        if len(taken) == size or self._ended:
            return taken
        rest: bytes = self._source.read(size - len(taken))
        return taken + rest

    def readline(self, size: int | None = -1) -> bytes:
        """As a file's."""
        limit = -1 if size is None else size
        head = self._head if limit < 0 else self._head[:limit]
        line, end, _ = head.partition(b"\n")
        taken = line + end
        self._head = self._head[len(taken) :]
        if end or len(taken) == limit or self._ended:
            return taken
        rest: bytes = self._source.readline() if limit < 0 else self._source.readline(limit - len(taken))
        return taken + rest

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """As a file's."""
        lines: list[bytes] = []
        read = 0
        for line in self:
            lines.append(line)
            read += len(line)
            if hint is not None and 0 < hint <= read:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")
