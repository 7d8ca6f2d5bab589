"""The headers of a response as the bytes they came in: passed on without a list of them being made."""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshlib.transport.protocol.raw_head import RawHead
from meshlib.transport.protocol.request_head import IN_VALUES
from meshlib.transport.protocol.strict_parser import REFUSES_ODD_RESPONSES

SERVICE_TIME = b"x-envoy-upstream-service-time"
"""How long a proxy waited for its upstream, in milliseconds: each of a chain says its own."""
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"te", b"upgrade", b"trailer")
)
"""Headers that were for the connection to the upstream only."""

_LINE_END = b"\r\n"
_SPECIAL = re.compile(rb"\r\n((?:content-length|%b):)" % b"|".join(sorted(HOP_BY_HOP)))
"""Beginnings of lines that somebody looks for; each look for one name costs as much (row "proxy-inprocess")."""
_FOLDED = re.compile(rb"\r\n[ \t]")
_KEPT = b"\r\nconnection: keep-alive\r\n"
"""What most servers say."""
_CLOSED = b"\r\nconnection: close\r\n"
"""And those that have said all."""
_TIMED = b"\r\n%b:" % SERVICE_TIME
_BLANK = b" \t"
_new = object.__new__


class ReceivedHead(RawHead):
    """``lines`` are those of one response, checked by ``received``. ``special``: what ``_SPECIAL`` finds in them. ``sized``: it
    has a Content-Length; ``coded``: it has a Transfer-Encoding; ``passed``: the lines that go on, without those for the
    upstream's connection. ``timed``: they came with ``SERVICE_TIME``. ``told``: by which settings, and what a proxy makes of
    them if they have come again (``server_headers.py``)."""

    __slots__ = ("_lower", "_passed", "coded", "sized", "special", "timed", "told")

    def __init__(self, lines: bytes) -> None:
        self.lines = lines
        self._pairs = None
        self._lower = lower = b"\r\n" + lines.lower()
        self._passed: bytes | None = None
        self.told: tuple[object, ReceivedHead | None] | None = None
        self.special: list[bytes] = _SPECIAL.findall(lower)
        self.sized = b"content-length:" in self.special
        self.coded = b"transfer-encoding:" in self.special
        self.timed = _TIMED in lower

    @property
    def passed(self) -> bytes:
        """Found out once."""
        passed = self._passed
        if passed is None:
            passed, rest = self.lines, len(self.special) - self.sized
            if rest:
                at = self._lower.find(_KEPT) if rest == 1 else -1
                passed = passed[:at] + passed[at + len(_KEPT) - 2 :] if at >= 0 else self._end_to_end()
            self._passed = passed
        return passed

    def _end_to_end(self) -> bytes:
        lines = self.lines
        if len(self.special) - self.sized == 1 and (at := self._lower.find(_CLOSED)) >= 0:
            return lines[:at] + lines[at + len(_CLOSED) - 2 :]
        gone = set(HOP_BY_HOP)
        for value in self.values(b"connection"):
            gone.update(token.strip(_BLANK).lower() for token in value.split(b","))
        gone.discard(b"content-length")
        kept = [line for line in lines.split(_LINE_END)[:-1] if line.partition(b":")[0].lower() not in gone]
        return b"".join([line + _LINE_END for line in kept])

    def plus(self, name: bytes, value: bytes) -> ReceivedHead:
        """The same with one more line at the end, of a header that goes on."""
        return self.with_lines(b"".join((name, b": ", value, _LINE_END)))

    def with_lines(self, lines: bytes) -> ReceivedHead:
        """The same with more of them at the end, of headers that go on: each with its line end."""
        made = ReceivedHead.__new__(ReceivedHead)
        made.lines = self.lines + lines
        made._pairs = None
        made.told = None
        made._lower = self._lower
        made._passed = self.passed + lines
        made.special = self.special
        made.sized = self.sized
        made.coded = self.coded
        made.timed = self.timed
        return made

    def says(self, name: bytes) -> bool:
        """Whether a header of this name (in lower case) is there."""
        return self.has_line(b"\r\n%b:" % name)

    def has_line(self, begins: bytes) -> bool:
        """Whether a line begins so: a line end, a name (in lower case), a colon."""
        return self._lower.find(begins) >= 0 or (
            len(self._lower) - 2 != len(self.lines) and self._all_lower().find(begins) >= 0
        )

    def values(self, name: bytes) -> list[bytes]:
        """As ``RawHead``'s."""
        return super().values(name) if self.says(name) else []

    def _all_lower(self) -> bytes:
        """Of the lines that were added, too."""
        lower, known = self._lower, len(self._lower) - 2
        return lower if known == len(self.lines) else lower + self.lines[known:].lower()

    def instead(self, away: Iterable[bytes], added: bytes) -> ReceivedHead:
        """The same with the lines ``added`` at the end, as ``with_lines``, in place of those that begin with one of ``away``: a
        line end, the name of a header that goes on (in lower case), a colon."""
        lines, lower = self.lines, self._lower
        if len(lower) - 2 != len(lines):
            lower = self._all_lower()
        for wanted in away:
            at = lower.find(wanted)
            while at >= 0:
                end = lower.find(_LINE_END, at + 2)
                lines, lower = lines[:at] + lines[end:], lower[:at] + lower[end:]
                at = lower.find(wanted, at)
        made = _new(ReceivedHead)
        made._pairs = made.told = None
        made._lower = lower
        made.special = special = self.special
        made.sized = self.sized
        made.coded = self.coded
        made.timed = self.timed
        passed, rest = lines, len(special) - self.sized
        if rest:  # as ``passed``
            at = lower.find(_KEPT) if rest == 1 else -1
            if at >= 0:
                passed = lines[:at] + lines[at + len(_KEPT) - 2 :]
            else:
                made.lines = lines
                passed = made._end_to_end()
        made.lines = lines + added
        made._passed = passed + added
        return made

    def without(self, name: bytes) -> ReceivedHead:
        """The same without headers of this name (in lower case), which is not Transfer-Encoding."""
        wanted, lines, lower = b"\r\n%b:" % name, self.lines, self._all_lower()
        at = lower.find(wanted)
        if at < 0:
            return self
        while at >= 0:
            end = lower.find(_LINE_END, at + 2)
            lines, lower = lines[:at] + lines[end:], lower[:at] + lower[end:]
            at = lower.find(wanted, at)
        made = ReceivedHead.__new__(ReceivedHead)
        made.lines = lines
        made._pairs = None
        made.told = None
        made._lower = lower
        made._passed = None
        made.special = self.special
        made.sized = self.sized and name != b"content-length"
        made.coded = self.coded
        made.timed = self.timed and name != SERVICE_TIME
        return made

    @property
    def size(self) -> int:
        """Bytes of names and values, as nearly all servers write them."""
        lines = self.lines
        return len(lines) - 4 * lines.count(b"\n")  # a line end has one; to look for both takes twice as long

    def copy(self) -> ReceivedHead:
        """Itself: it never changes."""
        return self


def at_a_glance(lines: bytes, length: int) -> ReceivedHead | None:
    """``ReceivedHead``, where nothing but the length of the body has to be known of it: that is said once, and is ``length``
    bytes, and the connection stays. None: it has to be looked at. What the parser takes of it is the parser's to say."""
    lower = b"\r\n" + lines.lower()
    if lower.find(b"\r\ncontent-length: %d\r\n" % length) < 0:
        return None
    special = _SPECIAL.findall(lower)
    passed = lines
    if len(special) != 1:  # it is the length, then
        at = lower.find(_KEPT)
        if at < 0 or len(special) != 2:  # else it is these two
            return None
        passed = lines[:at] + lines[at + len(_KEPT) - 2 :]
    made = _new(ReceivedHead)  # without its ``__init__``, which would look again
    made.lines = lines
    made._pairs = made.told = None
    made._lower = lower
    made._passed = passed
    made.special = special
    made.sized = True
    made.coded = False
    made.timed = _TIMED in lower
    return made


def received(head: bytes) -> ReceivedHead | None:
    """The headers of ``head``, from the status line to the empty line, which llhttp has taken. None: there is more than one way
    to read it, for somebody who gets these bytes."""
    end = head.find(_LINE_END)
    if head[:end].translate(None, IN_VALUES) or not (REFUSES_ODD_RESPONSES or _is_usual(head)):
        return None
    return ReceivedHead(head[end + 2 : -2])


def _is_usual(head: bytes) -> bool:
    """For a parser that is more lenient than llhttp 9 (``strict_parser.py``)."""
    left = head.translate(None, IN_VALUES)
    return left == _LINE_END * (len(left) // 2) and _FOLDED.search(head) is None
