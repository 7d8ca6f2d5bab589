"""A look at the heads of an HTTP/2 client's frames before nghttp2 gets them: what it does not tell its user, or lets pass.

- Frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, unknown and empty ones) have a budget: a
  flood ends the connection, however little of it nghttp2 tells.
- WINDOW_UPDATE that makes the window of a stream larger than it may be ends the stream, not the connection with it.
- A frame on a stream that the client itself has ended, one of a stream that it never opened, and PRIORITY that depends on
  itself or is on stream 0 are ignored by nghttp2; RFC 9113 (5.1, 5.1.1, 6.3) and h2spec want the connection to end.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from itertools import islice

from meshlib.transport.protocol.http2_codec import Code, Violation
from meshlib.transport.protocol.http2_frames import FRAME_HEAD, FrameBudget

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client that speaks HTTP/2 begins with."""

REMEMBERED = 1024
"""Streams that are over, of which it is known who has ended them."""

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 2, 3, 8, 9
_END_STREAM, _END_HEADERS, _PADDED = 1, 4, 8
_PRIORITY_SIZE = 5
_PADDING = 256
_WINDOW_SIZE = 4
_RESERVED = 0x80000000  # the bit before the number of a stream
_read_head = struct.Struct(">BHBBI").unpack_from
"""Of a frame: its length, the first byte by itself, its kind, flags, and the stream."""
_LARGE = 0x40  # the first byte of half of the largest window: a smaller increment is not looked at


def never(_stream: int, _increment: int) -> bool:
    """No window is too large."""
    return False


class ClientFrames:
    """One connection's. ``look`` at what arrives; what it returns is for nghttp2. ``budget`` is charged for frames that carry
    nothing; ``overflows(stream, increment)`` says whether a WINDOW_UPDATE is more than its stream can have, and not to be
    passed on."""

    __slots__ = ("_ended", "_head", "_newest", "_open", "_part", "_reset", "_skip", "budget", "overflows")

    def __init__(self, now: float, overflows: Callable[[int, int], bool] = never) -> None:
        self.overflows = overflows
        self.budget = FrameBudget(now, "client")
        self._part = b""  # of a frame's head, or of a PRIORITY frame, which is looked at when it is whole
        self._skip = len(PREFACE)  # bytes of a frame that have not come yet
        self._head = -1, 0  # kind and flags of the last frame; before the first: -1
        self._newest = 0
        self._open: dict[int, None] = {}  # streams whose requests are not over
        self._ended: dict[int, None] = {}  # those that the client has ended
        self._reset: dict[int, None] = {}  # and those that we have reset: of them, more may be under way

    def look(self, data: bytes) -> bytes:
        """Bytes from the client. Returns those that nghttp2 is to have. Raises ``Violation``."""
        if self._part:
            data, self._part = self._part + data, b""
        size, at = len(data), self._skip
        last = size - FRAME_HEAD  # where a frame's head can begin
        opened, ended = self._open, self._ended
        kind, flags = self._head
        while at <= last:
            top, length, kind, flags, stream = _read_head(data, at)
            if top:
                length |= top << 16
            if not kind and flags & _END_STREAM and stream in opened:  # the last DATA of a request...
                del opened[stream]
                ended[stream] = None
            elif kind == _HEADERS and self._newest < stream < _RESERVED:  # ... and its beginning, as nearly all are
                self._newest = stream
                if flags & _END_STREAM:
                    ended[stream] = None  # as ``_over`` of one that never was open
                else:
                    opened[stream] = None
            elif kind <= _HEADERS:
                self._of_request(kind, flags, stream & 0x7FFFFFFF, length)
            else:
                self.budget.charge(kind)
                if kind == _PRIORITY and length == _PRIORITY_SIZE:
                    if at + FRAME_HEAD + length > size:
                        break
                    _check_priority(data[at + 5 : at + 13])
                elif kind == _RST_STREAM:
                    self._over(stream & 0x7FFFFFFF)
                elif kind == _WINDOW_UPDATE and length == _WINDOW_SIZE:
                    if at + FRAME_HEAD + length > size:
                        break
                    if data[at + FRAME_HEAD] & 0x7F >= _LARGE and self.overflows(*_numbers(data[at + 5 : at + 13])):
                        data = data[:at] + data[at + FRAME_HEAD + length :]
                        size = len(data)
                        last = size - FRAME_HEAD
                        continue
            at += FRAME_HEAD + length
        self._head = kind, flags
        if len(ended) > REMEMBERED:
            deque(map(ended.pop, list(islice(ended, len(ended) - REMEMBERED))), 0)  # no step of bytecode a stream
        if at >= size:
            self._skip = at - size
            return data
        self._skip = 0
        self._part = data[at:]
        return data[:at]

    @property
    def begun(self) -> int | None:
        """There is a part of the preface, a frame or a header block that the rest of has not come: the last stream whose
        request has begun to come. None: there is not."""
        kind, flags = self._head
        if self._part or self._skip:
            return None if kind < 0 and self._skip == len(PREFACE) else self._newest
        # nothing may come between the frames of a block: the last one tells whether it is open (RFC 9113, 6.10)
        is_block = kind in (_HEADERS, _CONTINUATION) and not flags & _END_HEADERS
        return self._newest if is_block else None

    def _of_request(self, kind: int, flags: int, stream: int, length: int) -> None:
        ends = flags & _END_STREAM
        if kind == _DATA:
            if not ends and (not length or (flags & _PADDED and length <= _PADDING)):
                self.budget.charge(kind)
            if stream in self._ended:
                raise Violation("DATA on a stream that it had ended", Code.STREAM_CLOSED)
        elif stream > self._newest:
            self._newest = stream
            if not ends:
                self._open[stream] = None
                return
        elif stream in self._ended:
            raise Violation("HEADERS on a stream that it had ended", Code.STREAM_CLOSED)
        elif stream and stream not in self._open and stream not in self._reset:
            raise Violation("it opens a stream with a number below that of another")
        if ends:
            self._over(stream)

    def _over(self, stream: int) -> None:
        """For the client."""
        self._open.pop(stream, None)
        if stream > self._newest:
            return  # it is not open: nghttp2's to refuse
        self._ended[stream] = None
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def reset(self, stream: int) -> None:
        """By us: what is under way of it is no violation."""
        if stream in self._open:
            self._open.pop(stream, None)
            self._reset[stream] = None
            if len(self._reset) > REMEMBERED:
                del self._reset[next(iter(self._reset))]


def _numbers(frame: bytes) -> tuple[int, int]:
    """That of the stream, and the one that the frame begins with."""
    return int.from_bytes(frame[:4], "big") & 0x7FFFFFFF, int.from_bytes(frame[4:], "big") & 0x7FFFFFFF


def _check_priority(frame: bytes) -> None:
    """``frame``: the number of the stream, and the one that it depends on."""
    stream, other = _numbers(frame)
    if not stream:
        raise Violation("PRIORITY on stream 0")
    if stream == other:
        raise Violation("a stream that depends on itself")
