"""The headers of a response as the bytes they came in: passed on without a list of them being made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshlib.transport.protocol.raw_head import RawHead
from meshlib.transport.protocol.request_head import IN_VALUES
from meshlib.transport.protocol.strict_parser import REFUSES_ODD_RESPONSES

if TYPE_CHECKING:
    from meshlib.transport.protocol.response_layout import Parts, ResponseLayout

SERVICE_TIME = b"x-envoy-upstream-service-time"
"""How long a proxy waited for its upstream, in milliseconds: each of a chain says its own."""
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"te", b"upgrade", b"trailer")
)
"""Headers that were for the connection to the upstream only."""

_LINE_END = b"\r\n"
_KEEPS = b"connection: keep-alive"
_SERVER, _DATE, _LENGTH, _CODING, _TIMED = (
    b"server:",
    b"date:",
    b"content-length:",
    b"transfer-encoding:",
    b"%b:" % SERVICE_TIME,
)
_HOPS = frozenset((_KEEPS, *[b"%b:" % name for name in HOP_BY_HOP]))
_LOOKED_FOR = re.compile(
    rb"\r\n(%b(?=\r\n)|(?:%b):)"
    % (_KEEPS, b"|".join(sorted((*HOP_BY_HOP, b"content-length", b"date", b"server", SERVICE_TIME))))
)
"""Beginnings of lines that somebody looks for; each look for one name costs as much (row "proxy-inprocess")."""
_FOLDED = re.compile(rb"\r\n[ \t]")
_KEPT = b"\r\n%b\r\n" % _KEEPS
"""What most servers say."""
_KEPT_LINE = len(_KEPT) - 2
_CLOSED = b"\r\nconnection: close\r\n"
"""And those that have said all."""
_SERVERS = b"\r\nserver:"
_BLANK = b" \t"
_new = object.__new__
UNTOLD: tuple[object, None] = None, None
"""``told`` of a head that is remembered, of which nothing was made yet."""
MOST_SHAPES = 256
"""That are remembered: names alone, of which servers have a few orders."""
LONGEST_SHAPE = 16
"""Lines of one that is."""


class Shape:
    """What heads need done that have these of the lines that somebody looks for, in this order. ``special``: the
    length of the body and what is for the upstream's connection. ``sized``: there is a Content-Length; ``coded``: there is a
    Transfer-Encoding; ``timed``: they came with ``SERVICE_TIME``; ``hops``: how many lines are for the upstream's connection;
    ``kept``: it is one, which says that the connection stays. ``plain``: that at most, and one length of the body.
    ``usual``: they are, and have a Date and one Server."""

    __slots__ = ("coded", "hops", "kept", "plain", "sized", "special", "timed", "usual")

    def __init__(self, found: tuple[bytes, ...]) -> None:
        self.special = special = [each for each in found if each in _HOPS or each == _LENGTH]
        self.sized = _LENGTH in special
        self.coded = _CODING in special
        self.timed = _TIMED in found
        self.hops = hops = sum([each in _HOPS for each in found])
        self.kept = hops == 1 and _KEEPS in found
        self.plain = found.count(_LENGTH) == 1 and (not hops or self.kept)
        self.usual = (
            self.plain and found.count(_SERVER) == 1 and found.count(_DATE) == 1 and not self.timed  # as nearly all
        )


_shapes: dict[tuple[bytes, ...], Shape] = {}


def shape_of(found: tuple[bytes, ...]) -> Shape:
    """That of heads in which these are ``_LOOKED_FOR``. There are a few: servers have their order of names."""
    made = _shapes.get(found)
    if made is None:
        made = Shape(found)
        if len(found) <= LONGEST_SHAPE:
            if len(_shapes) >= MOST_SHAPES:
                _shapes.clear()
            _shapes[found] = made
    return made


class ReceivedHead(RawHead):
    """``lines`` are those of one response, checked by ``received``. ``shape``: what is to be done with them; ``passed``: the
    lines that go on, without those for the upstream's connection. ``told``: None of a head that comes once; else by which
    settings, and what a proxy makes of them if they have come again (``server_headers.py``)."""

    __slots__ = ("_count", "_layout", "_lower", "_parts", "_passed", "shape", "told")

    _lower: bytes | None
    """None: nobody has asked for it."""
    _parts: Parts | None
    """What ``_layout`` has found in ``lines``; None: nobody has looked, or they are others now."""
    _layout: ResponseLayout[Shape]
    _count: int
    """How many lines there are; 0: nobody has counted them."""

    def __init__(self, lines: bytes) -> None:
        self.lines = lines
        self._pairs = None
        self._lower = lower = b"\r\n" + lines.lower()
        self._passed: bytes | None = None
        self._parts = None
        self._count = 0
        self.told: tuple[object, ReceivedHead | None] | None = None
        self.shape = shape_of(tuple(_LOOKED_FOR.findall(lower)))

    @property
    def sized(self) -> bool:
        """Whether it has a Content-Length; ``shape`` says so without a call."""
        return self.shape.sized

    @property
    def coded(self) -> bool:
        """Whether it has a Transfer-Encoding."""
        return self.shape.coded

    @property
    def passed(self) -> bytes:
        """Found out once."""
        passed = self._passed
        if passed is None:
            passed, shape = self.lines, self.shape
            if self._parts is not None:
                passed = b"".join(self._layout.passed(self._parts))
            elif shape.hops:
                at = (self._lower or self._look()).find(_KEPT) if shape.kept else -1
                passed = passed[:at] + passed[at + _KEPT_LINE :] if at >= 0 else self._end_to_end()
            self._passed = passed
        return passed

    def _look(self) -> bytes:
        """The lines in lower case, behind a line end: made for who asks."""
        self._lower = lower = _LINE_END + self.lines.lower()
        return lower

    def _end_to_end(self) -> bytes:
        lines = self.lines
        if self.shape.hops == 1 and (at := (self._lower or self._look()).find(_CLOSED)) >= 0:
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
        made._pairs = made._parts = None
        made.told = None
        made._count = 0
        made._lower = self._lower
        made._passed = self.passed + lines
        made.shape = self.shape
        return made

    def says(self, name: bytes) -> bool:
        """Whether a header of this name (in lower case) is there."""
        return self.has_line(b"\r\n%b:" % name)

    def has_line(self, begins: bytes) -> bool:
        """Whether a line begins so: a line end, a name (in lower case), a colon."""
        lower = self._lower or self._look()
        return lower.find(begins) >= 0 or (len(lower) - 2 != len(self.lines) and self._all_lower().find(begins) >= 0)

    def values(self, name: bytes) -> list[bytes]:
        """As ``RawHead``'s."""
        return super().values(name) if self.says(name) else []

    def _all_lower(self) -> bytes:
        """Of the lines that were added, too."""
        lower = self._lower or self._look()
        known = len(lower) - 2
        return lower if known == len(self.lines) else lower + self.lines[known:].lower()

    def instead(self, away: Iterable[bytes], added: bytes) -> ReceivedHead:
        """The same with the lines ``added`` at the end, as ``with_lines``, in place of those that begin with one of ``away``: a
        line end, the name of a header that goes on (in lower case), a colon."""
        lines, lower = self.lines, self._lower or self._look()
        if len(lower) - 2 != len(lines):
            lower = self._all_lower()
        for wanted in away:
            at = lower.find(wanted)
            while at >= 0:
                end = lower.find(_LINE_END, at + 2)
                lines, lower = lines[:at] + lines[end:], lower[:at] + lower[end:]
                at = lower.find(wanted, at)
        made = _new(ReceivedHead)
        made._pairs = made.told = made._parts = None
        made._count = 0
        made._lower = lower
        made.shape = shape = self.shape
        passed = lines
        if shape.hops:  # as ``passed``
            at = lower.find(_KEPT) if shape.kept else -1
            if at >= 0:
                passed = lines[:at] + lines[at + _KEPT_LINE :]
            else:
                made.lines = lines
                passed = made._end_to_end()
        made.lines = lines + added
        made._passed = passed + added
        return made

    def served(self, added: bytes) -> ReceivedHead | None:
        """As ``instead`` of the line that says who serves, of a head whose shape is ``usual``, with fewer looks at it. None: it
        has been changed since it came."""
        parts, shape = self._parts, self.shape
        if parts is not None:
            made, layout = _new(ReceivedHead), self._layout
            made.lines = b"".join((*layout.left(parts), added))
            made._passed = b"".join((*layout.served(parts), added))
            made._count = layout.lines - 1 + added.count(b"\n")
            made._pairs = made.told = made._lower = made._parts = None
            made.shape = shape
            return made
        lines, lower = self.lines, self._lower or self._look()
        at = lower.find(_SERVERS)
        if at < 0 or len(lower) - 2 != len(lines):
            return None
        end = lower.find(_LINE_END, at + 2)
        made = _new(ReceivedHead)
        made.lines = left = b"".join((lines[:at], lines[end:], added))
        if not shape.kept:
            made._passed = left
        else:
            kept = lower.find(_KEPT)
            if kept < 0:
                return None
            if kept < at:
                made._passed = b"".join((lines[:kept], lines[kept + _KEPT_LINE : at], lines[end:], added))
            else:
                made._passed = b"".join((lines[:at], lines[end:kept], lines[kept + _KEPT_LINE :], added))
        made._pairs = made.told = made._parts = None
        made._count = 0
        made._lower = lower[:at] + lower[end:]
        made.shape = shape
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
        made._pairs = made.told = made._parts = None
        made._count = 0
        made._lower = lower
        made._passed = None
        made.shape = shape_of(tuple(_LOOKED_FOR.findall(lower)))
        return made

    @property
    def size(self) -> int:
        """Bytes of names and values, as nearly all servers write them."""
        lines = self.lines
        return len(lines) - 4 * (
            self._count or lines.count(b"\n")
        )  # a line end has one; to look for both takes twice as long

    def copy(self) -> ReceivedHead:
        """Itself: it never changes."""
        return self


def at_a_glance(lines: bytes, length: int) -> ReceivedHead | None:
    """``ReceivedHead``, where nothing but the length of the body has to be known of it: that is said once, and is ``length``
    bytes, and the connection stays. None: it has to be looked at. What the parser takes of it is the parser's to say."""
    lower = b"\r\n" + lines.lower()
    if lower.find(b"\r\ncontent-length: %d\r\n" % length) < 0:
        return None
    found = tuple(_LOOKED_FOR.findall(lower))
    shape = _shapes.get(found) or shape_of(found)
    if not shape.plain:
        return None
    made = _new(ReceivedHead)  # without its ``__init__``, which would look again
    made.lines = lines
    made._pairs = made._passed = made.told = made._parts = None
    made._count = 0
    made._lower = lower
    made.shape = shape
    return made


def laid_out(lines: bytes, layout: ResponseLayout[Shape], parts: Parts) -> ReceivedHead:
    """The same, known by the layout of its names."""
    made = _new(ReceivedHead)
    made.lines = lines
    made._pairs = made._passed = made.told = made._lower = None
    made._parts = parts
    made._layout = layout
    made._count = layout.lines
    made.shape = layout.shape
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
