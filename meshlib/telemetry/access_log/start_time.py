"""Points in time in the formats of Envoy: those of ``strftime``, and ``%s``, ``%f``, ``%3f``, ``%E3S`` beside them.

What stays the same within a second is made once a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from math import floor
from typing import NamedTuple

ISO = "%Y-%m-%dT%H:%M:%S.%3fZ"
ISO_LOCAL = "%Y-%m-%dT%H:%M:%S.%3f%Ez"
_OWN = re.compile(r"%(?:(%)|(s)|E([1-9*])S|E?([1-9*])?f|(Ez)|E4(Y))")


MOST_TIMES = 256
"""Milliseconds that are remembered: calls that end in one have begun in several."""


class _Fraction(NamedTuple):
    digits: int


class _Other(NamedTuple):
    """What no ``strftime`` knows everywhere: ``s``, seconds since the epoch, or ``z``, the zone with its colon."""

    kind: str


_Piece = str | _Fraction | _Other


class Milliseconds:
    """A format with milliseconds: ``kept`` has the texts of those that were met last, ``render`` makes that of another one."""

    __slots__ = ("_around", "_rendered", "kept")

    def __init__(self, rendered: Callable[[int], list[str]]) -> None:
        self._rendered = rendered
        self._around = -1, "", ""
        self.kept: dict[int, str] = {}

    def render(self, at: int) -> str:
        """The text of so many milliseconds since the epoch."""
        second, thousandths = divmod(at, 1000)
        around = self._around  # one tuple: other threads see all of it or nothing
        if around[0] != second:
            first, _, last = self._rendered(second)
            self._around = around = second, first, last
        if len(self.kept) >= MOST_TIMES:
            self.kept.clear()
        found = self.kept[at] = f"{around[1]}{thousandths:03d}{around[2]}"
        return found

    def __call__(self, at: float) -> str:
        """The text of a point in time."""
        milliseconds = floor(at * 1e3)
        return self.kept.get(milliseconds) or self.render(milliseconds)


def formatter(form: str, *, local: bool = False) -> Callable[[float], str]:
    """From seconds since the epoch to text. Raises ``ValueError`` for a format that the system refuses."""
    pieces = _pieces(form)
    zone = None if local else UTC
    _rendered(pieces, 0, zone)
    kept: tuple[int, list[str]] = -1, []
    if not any(isinstance(piece, _Fraction) for piece in pieces):

        def whole(at: float) -> str:
            nonlocal kept
            second = int(at)
            found = kept  # one tuple: other threads see all of it or nothing
            if found[0] != second:
                kept = found = second, ["".join(_rendered(pieces, second, zone))]
            return found[1][0]

        return whole
    if len(pieces) == 3 and pieces[1] == _Fraction(3):  # the usual one
        return Milliseconds(lambda second: _rendered(pieces, second, zone))

    def fractions(at: float) -> str:
        second = int(at)
        nanoseconds = f"{int((at - second) * 1e9):09d}"
        rendered = _rendered(pieces, second, zone)
        return "".join(
            nanoseconds[: piece.digits] if isinstance(piece, _Fraction) else text
            for piece, text in zip(pieces, rendered, strict=True)
        )

    return fractions


def _pieces(form: str) -> list[_Piece]:
    """A format as parts that are made at once."""
    made: list[_Piece] = [""]

    def add(text: str) -> None:
        last = made[-1]
        if isinstance(last, str):
            made[-1] = last + text
        else:
            made.append(text)

    at = 0
    for found in _OWN.finditer(form):
        add(form[at : found.start()])
        at = found.end()
        percent, epoch, seconds, digits, zone, _year = found.groups()
        if percent:
            add("%%")
        elif epoch or zone:
            made.append(_Other("s" if epoch else "z"))
        elif _year:
            add("%Y")
        else:
            if seconds:
                add("%S.")
            wanted = seconds or digits
            made.append(_Fraction(9 if wanted in (None, "*") else int(wanted)))
    add(form[at:])
    return made


def _rendered(pieces: list[_Piece], second: int, zone: tzinfo | None) -> list[str]:
    moment = datetime.fromtimestamp(second, UTC)
    if zone is None:
        moment = moment.astimezone()
    offset = moment.strftime("%z")
    others = {"s": str(second), "z": f"{offset[:3]}:{offset[3:5]}"}
    return [
        moment.strftime(piece) if isinstance(piece, str) else others[piece.kind] if isinstance(piece, _Other) else ""
        for piece in pieces
    ]
