"""A look at the frames of an HTTP/2 server before the protocol library gets them.

Four things that h2 leaves to its user, or does in a way that a client of many streams cannot live with:

- the length of a frame is checked before it is collected, not after;
- GOAWAY is taken out: h2 would close its whole state machine, while the streams that the server still answers go on;
- the server's SETTINGS_HEADER_TABLE_SIZE is lowered to 4096, so that it cannot make us keep (and search) a table of any size;
- frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA ...) have a budget, and so have those that carry hardly
  anything: a flood of them ends the connection. ``FRAMES_AT_ONCE`` are passed on before others get their turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from meshlib.transport.protocol.http2_codec import HEADER_TABLE, MAX_FRAME, Code, Violation

MAX_BLOCK = 64 * 1024  # bytes of one compressed header block, over all its CONTINUATION frames
FRAME_HEAD = 9  # bytes before a frame's payload

BUDGET = 2000.0  # frames that carry nothing which a new connection may send
BUDGET_MOST = 10_000.0
BUDGET_A_SECOND = 100.0
# given for each stream opened and each DATA frame sent (Envoy allows ten WINDOW_UPDATEs for each)
BUDGET_A_FRAME = 10.0

TINY = 16  # bytes of body; a DATA frame with less costs far more to handle than it brings
TINY_BUDGET = 10_000.0  # such frames which a new connection may send
TINY_MOST = 20_000.0
TINY_A_SECOND = 1000.0
TINY_A_STREAM = 1000.0  # given for each stream opened: responses may come in words

FRAMES_AT_ONCE = 512
EACH_AT_ONCE = range(FRAMES_AT_ONCE)
"""Made once: a range of its own for each read takes longer than some of what it is for."""

_DATA, _HEADERS, _SETTINGS, _PUSH_PROMISE, _GOAWAY, _CONTINUATION = 0, 1, 4, 5, 7, 9
_NAMES = {
    number: f" ({name} was one too many)"
    for number, name in (
        (0, "DATA"),
        (2, "PRIORITY"),
        (3, "RST_STREAM"),
        (4, "SETTINGS"),
        (6, "PING"),
        (8, "WINDOW_UPDATE"),
        (9, "CONTINUATION"),
    )
}
_ACK, _END_HEADERS, _PADDED = 1, 4, 8


class GoAway(NamedTuple):
    """The server takes no new streams, and has not touched those above ``last``."""

    last: int
    code: int


class FrameBudget:
    """How many frames that bring nothing, or hardly anything, a server (or a client) may send. Raises ``Violation`` when it
    is spent."""

    __slots__ = ("_left", "_peer", "_seen", "_tiny", "earned")

    def __init__(self, now: float, peer: str = "server") -> None:
        """``peer``: whom to blame."""
        self._peer = peer
        self._left = BUDGET
        self._tiny = TINY_BUDGET
        self._seen = now
        self.earned = 0.0
        """Frames that the peer may send more of by the next ``refill``, for something useful that has happened."""

    def refill(self, now: float) -> float:
        """Time brings some of it back. Returns the seconds since the last time."""
        left, passed = self._left + self.earned, now - self._seen
        self.earned = 0.0
        if passed > 0:
            self._seen = now
            left += passed * BUDGET_A_SECOND
            tiny = self._tiny + passed * TINY_A_SECOND
            self._tiny = tiny if tiny < TINY_MOST else TINY_MOST
        else:
            passed = 0.0
        self._left = left if left < BUDGET_MOST else BUDGET_MOST
        return passed

    def reward(self, amount: float = BUDGET_A_FRAME) -> None:
        """Something useful happened: the server may send more frames about it."""
        left = self._left + amount
        self._left = left if left < BUDGET_MOST else BUDGET_MOST

    def opened(self, streams: int = 1, each: float = BUDGET_A_FRAME) -> None:
        """Streams were opened: there will be responses. The server may send ``each`` more frames about one."""
        left, tiny = self._left + streams * each, self._tiny + streams * TINY_A_STREAM
        self._left = left if left < BUDGET_MOST else BUDGET_MOST
        self._tiny = tiny if tiny < TINY_MOST else TINY_MOST

    def charge(self, kind: int = -1) -> None:
        """A frame that carries nothing, of this kind where it is known."""
        self._left -= 1.0
        if self._left < 0.0:
            self.flooded(kind)

    def data(self, size: int) -> None:
        """A DATA frame with ``size`` bytes of body."""
        if size >= TINY:
            if self._left < BUDGET_MOST - 1.0:
                self._left += 1.0
            else:
                self._left = BUDGET_MOST
        elif size <= 0:
            self.charge()
        else:
            self._tiny -= 1.0
            if self._tiny < 0.0:
                raise Violation(
                    "the server floods the connection with frames that carry next to nothing", Code.ENHANCE_YOUR_CALM
                )

    def flooded(self, kind: int = -1) -> None:
        """It is spent, with a frame of this kind."""
        raise Violation(
            f"the {self._peer} floods the connection with frames that carry nothing{_NAMES.get(kind, '')}: {BUDGET:g} at once, "
            f"{BUDGET_A_SECOND:g} a second and {BUDGET_A_FRAME:g} for each stream are as many as may come",
            Code.ENHANCE_YOUR_CALM,
        )


class FrameGate:
    """``feed`` what arrives, get whole frames to pass on and GOAWAYs between them. Raises ``Violation``. ``behind``: there
    are more, for the next ``feed`` (of nothing, if nothing comes)."""

    __slots__ = ("_block", "_block_of", "_buffer", "_first", "behind", "budget")

    def __init__(self, now: float) -> None:
        self._buffer = bytearray()
        self._first = True
        self._block_of = 0  # the stream whose header block is being received; nothing else may come between
        self._block = 0
        self.budget = FrameBudget(now)
        self.behind = False

    def feed(self, data: bytes, now: float) -> Iterator[bytes | GoAway]:
        """Runs of whole frames, in order. ``now`` in seconds refills the budgets."""
        self.budget.refill(now)
        self.behind = False
        frames = 0
        buffer = self._buffer
        buffer += data
        if self._first and buffer.startswith(b"HTTP/1"):
            raise Violation("the server speaks HTTP/1, not HTTP/2")
        at = 0
        while len(buffer) - at >= 9:
            length = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
            if self._first:
                if kind != _SETTINGS or flags & _ACK:
                    raise Violation("the server does not speak HTTP/2: its first frame is not SETTINGS")
                self._first = False
            if length > MAX_FRAME:
                raise Violation(
                    f"the server sent a frame of {length} bytes; {MAX_FRAME} are allowed", Code.FRAME_SIZE_ERROR
                )
            end = at + 9 + length
            if len(buffer) < end:
                break
            if frames >= FRAMES_AT_ONCE:
                self.behind = True
                break
            frames += 1
            self._order(kind, flags, stream, length)
            if kind == _DATA:
                self.budget.data(length - 1 - buffer[at + 9] if flags & _PADDED and length else length)
            if kind == _GOAWAY:
                if at:
                    yield bytes(buffer[:at])
                goaway = _goaway(buffer[at + 9 : end], stream)
                del buffer[:end]
                at = 0
                yield goaway
                continue
            if kind == _SETTINGS and not flags & _ACK:
                _lower_table(buffer, at + 9, end)
            at = end
        if at:
            whole = bytes(buffer[:at])
            del buffer[:at]
            yield whole

    def _order(self, kind: int, flags: int, stream: int, length: int) -> None:
        if kind != _DATA:
            self.budget.charge()
        if self._block_of:
            if kind != _CONTINUATION or stream != self._block_of:
                raise Violation("the server put another frame into the middle of a header block")
            self._block += length
        elif kind in (_HEADERS, _PUSH_PROMISE):
            self._block = length
        else:
            return
        if self._block > MAX_BLOCK:
            raise Violation(f"a header block of the response is larger than {MAX_BLOCK} bytes", Code.ENHANCE_YOUR_CALM)
        self._block_of = 0 if flags & _END_HEADERS else stream


def _goaway(payload: bytearray, stream: int) -> GoAway:
    if stream:
        raise Violation("the server sent GOAWAY on a stream")
    if len(payload) < 8:
        raise Violation("the server sent a GOAWAY that is too short", Code.FRAME_SIZE_ERROR)
    return GoAway(int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, int.from_bytes(payload[4:8], "big"))


def _lower_table(buffer: bytearray, at: int, end: int) -> None:
    for entry in range(at, end - 5, 6):
        if (
            buffer[entry : entry + 2] == b"\x00\x01"
            and int.from_bytes(buffer[entry + 2 : entry + 6], "big") > HEADER_TABLE
        ):
            buffer[entry + 2 : entry + 6] = HEADER_TABLE.to_bytes(4, "big")
