"""Heads of responses that are alike: the same names of headers in one order and spelling, as those of a server nearly always
are (``head_layout.py`` has it of requests). What follows from it is known by it, not asked of each head again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

from meshlib.transport.protocol.head_layout import NAMES, learnt

LOOKED_AT = 16
"""One in so many responses of a connection that nothing was known of is, the first among them, for what it has in common with
others."""

Parts = tuple[bytes, ...]
_Key = tuple[bytes, ...]
_layouts: dict[_Key, ResponseLayout[Any]] = {}
_met: dict[_Key, int] = {}


class IsUsual(Protocol):
    """``received_head.Shape``, whose module needs this one."""

    usual: bool


AnyShape = TypeVar("AnyShape", bound=IsUsual)


class ResponseLayout(Generic[AnyShape]):
    """Of heads whose ``shape`` is ``usual``. ``match``: takes what a connection has brought; its groups are the reason, pieces
    of the header lines, and the length of the body (``length``: where that is among them). What the parser takes of it is the
    parser's to say. Of the groups, ``passed`` takes the lines that go on, ``served`` those without the one that says who
    serves, ``left`` all without that one. ``lines``: how many there are."""

    __slots__ = ("left", "length", "lines", "match", "passed", "served", "shape")

    def __init__(self, names: tuple[bytes, ...], shape: AnyShape) -> None:
        self.shape = shape
        self.lines = len(names)
        pattern, pieces, group = [rb"HTTP/1\.1 [0-9]{3} ([^\r]*+)\r\n("], [1], 2
        for name in names:
            spelled, lower = re.escape(name), name.lower()
            if lower == b"content-length":
                pattern.append(spelled + rb": (0|[1-9][0-9]*+)\r\n")
                self.length = group
                group += 1
            elif lower in (b"server", b"connection"):
                value = rb":[^\r]*+\r\n" if lower == b"server" else b": keep-alive\r\n"
                pattern.append(b")(" + spelled + value + b")(")
                if lower == b"server":
                    server = group
                else:
                    pieces.append(-group)
                pieces.append(group + 1)
                group += 2
            else:
                pattern.append(spelled + rb":[^\r]*+\r\n")
        self.left: Callable[[Parts], Parts] = itemgetter(*map(abs, pieces))
        kept = [piece for piece in pieces if piece > 0]
        self.served: Callable[[Parts], Parts] = itemgetter(*kept)
        self.passed: Callable[[Parts], Parts] = itemgetter(*sorted([*kept, server]))
        self.match: Callable[[bytes], re.Match[bytes] | None] = re.compile(b"".join((*pattern, rb")\r\n"))).match


def response_layout_of(lines: bytes, shape: AnyShape) -> ResponseLayout[AnyShape] | None:
    """That of a head with these lines that was taken. None: there is none, or not yet."""
    if not shape.usual:
        return None
    names = tuple(NAMES.findall(lines))
    return learnt(_layouts, _met, names, names, lambda: ResponseLayout(names, shape))
