"""The headers of a request as the bytes they came in: sent on without a list of them being made.

Stands wherever a list of headers is read (it is a sequence of pairs, made of the bytes when somebody looks); whoever changes
headers makes a list, or adds lines with ``plus``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.sent_head import SentHead

_LINE_END = b"\r\n"


class RawHead(Sequence[tuple[bytes, bytes]]):
    """``lines``: header lines, each with its line end, without the empty one behind the last. Whoever makes one vouches that a
    strict parser took them as the headers of one request (names are tokens, no line is folded); what is left to be checked
    when they are written is that nothing in them can end a line or the head."""

    __slots__ = ("_pairs", "lines")

    def __init__(self, lines: bytes) -> None:
        self.lines = lines
        self._pairs: RawHeaders | None = None

    @property
    def pairs(self) -> RawHeaders:
        """Names and values, order, case and repetition kept; made once."""
        pairs = self._pairs
        if pairs is None:
            pairs = []
            for line in self.lines.split(_LINE_END)[:-1]:
                name, _, value = line.partition(b":")
                pairs.append((name, value.strip(b" \t")))
            self._pairs = pairs
        return pairs

    def plus(self, name: bytes, value: bytes) -> RawHead:
        """The same with one more line at the end."""
        return RawHead(b"%b%b: %b\r\n" % (self.lines, name, value))

    def values(self, name: bytes) -> list[bytes]:
        """The values of the headers of this name (in lower case), found without making the list."""
        lines = b"\r\n%b" % self.lines
        lower, wanted, found = lines.lower(), b"\r\n%b:" % name, []
        at = lower.find(wanted)
        while at >= 0:
            start = at + len(wanted)
            end = lower.find(_LINE_END, start)
            found.append(lines[start:end].strip(b" \t"))
            at = lower.find(wanted, end)
        return found

    def encode(self, method: bytes, target: bytes) -> bytes | None:
        """Request line and headers as they came, None when they would not be one head."""
        lines = self.lines
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)
        whole = not lines or (lines.endswith(_LINE_END) and not lines.startswith((b"\r", b" ", b"\t")))
        if not whole or b"\r\n\r\n" in lines or b"\r\n " in lines or b"\r\n\t" in lines:
            return None
        return head

    def __len__(self) -> int:
        return len(self.pairs) if self._pairs is not None else self.lines.count(_LINE_END)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.pairs)

    @overload
    def __getitem__(self, at: int) -> tuple[bytes, bytes]: ...
    @overload
    def __getitem__(self, at: slice) -> RawHeaders: ...
    def __getitem__(self, at: int | slice) -> tuple[bytes, bytes] | RawHeaders:
        return self.pairs[at]


Headers = RawHeaders | RawHead | SentHead
"""Of a request that is sent."""
