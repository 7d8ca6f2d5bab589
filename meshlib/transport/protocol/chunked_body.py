"""A request's body in chunks (RFC 9112, 7.1) as bytes in, bytes out: the end is found to the byte, so that what follows it is
the next request and nothing else. Stricter than most readers: one way to write a chunk, no extensions worth mentioning."""

from __future__ import annotations

MAX_LINE = 256
"""Bytes of a chunk's size line, with its extensions, which nobody reads."""

MAX_TRAILERS = 8 * 1024
"""Bytes of all trailers, which are dropped, as Envoy does with HTTP/1.1's."""

MOST_DIGITS = 16
_LINE_END = b"\r\n"
_HEX = frozenset(b"0123456789abcdefABCDEF")
_IN_NAMES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IN_EXTENSIONS = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])


class InvalidChunk(Exception):
    """The body cannot be read in exactly one way."""


class ChunkedBody:
    """One body. ``take`` it what has come."""

    __slots__ = ("_left", "_trailers")

    def __init__(self) -> None:
        self._left = 0  # of a chunk: its bytes that are to come, and its line end; 0: a size line is to come
        self._trailers = -1  # bytes of the trailers so far; -1: the last chunk has not come

    def take(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Bytes of the body in ``data``; what is left of it, to be given again with what comes next, or, after the end, what is
        not of this body; whether the body has ended. Raises ``InvalidChunk``."""
        parts: list[bytes] = []
        at, size = 0, len(data)
        while True:
            if self._trailers >= 0:
                at, ended = self._trailer(data, at)
                return b"".join(parts), data[at:], ended
            if self._left == 0:
                end = data.find(_LINE_END, at, at + MAX_LINE + 2)
                if end < 0:
                    _check_beginning(data[at : at + MAX_LINE + 2])
                    break
                self._left = _size_of(data[at:end])
                at = end + 2
                if self._left == 0:
                    self._trailers = 0
                    continue
                self._left += 2
            if at >= size:
                break
            content = self._left - 2
            if content > 0:
                part = data[at : at + content]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            if self._left <= 2:
                ending = data[at : at + self._left]
                if not _LINE_END[2 - self._left :].startswith(ending):
                    raise InvalidChunk("a chunk of the request is longer than its size says")
                at += len(ending)
                self._left -= len(ending)
                if self._left:
                    break
        return b"".join(parts), data[at:], False

    def _trailer(self, data: bytes, at: int) -> tuple[int, bool]:
        """Trailers are read over, line by line."""
        while True:
            end = data.find(_LINE_END, at)
            line = data[at:end] if end >= 0 else data[at:]
            if self._trailers + len(line) > MAX_TRAILERS:
                raise InvalidChunk(f"the request's trailers are larger than {MAX_TRAILERS} bytes")
            if b"\n" in line or b"\r" in line[:-1] or (end >= 0 and b"\r" in line):
                raise InvalidChunk("a trailer of the request holds a bare line break")
            if end < 0:
                return at, False
            at = end + 2
            if not line:
                return at, True
            name, colon, _ = line.partition(b":")
            if not colon or not name or name.translate(None, _IN_NAMES) or line.translate(None, _IN_EXTENSIONS):
                raise InvalidChunk("a trailer of the request is not a header")
            self._trailers += len(line) + 2


def _size_of(line: bytes) -> int:
    digits, semicolon, extension = line.partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")
    if not digits or len(digits) > MOST_DIGITS or not _HEX.issuperset(digits):
        raise InvalidChunk("a chunk of the request has no valid size")
    if extension.translate(None, _IN_EXTENSIONS):
        raise InvalidChunk("an extension of a chunk holds a control character")
    return int(digits, 16)


def _check_beginning(line: bytes) -> None:
    """Of a size line that is not whole."""
    if len(line) > MAX_LINE:
        raise InvalidChunk(f"the size line of a chunk is longer than {MAX_LINE} bytes")
    if b"\n" in line or b"\r" in line[:-1]:
        raise InvalidChunk("the size line of a chunk holds a bare line break")
    if line and line[0] not in _HEX:
        raise InvalidChunk("a chunk of the request has no valid size")
