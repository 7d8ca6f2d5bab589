"""Heads of requests that are alike: one method, and the same names of headers in one order and spelling. Those of a client
nearly always are, and what follows from it is known by it (``HeadLayout``), not asked of each head again.

A layout is learnt of heads that were taken, once some were looked at that have it. Nothing is kept of what they say but these
names, and of those there are few (``MOST_LAYOUTS``), and short (``MOST_BYTES``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from meshlib.transport.protocol.http1_head import RequestHead
from meshlib.transport.protocol.special_lines import MOST_READINGS, SpecialLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.wanted_headers import InGroups, WantedHeaders

TIMES = 16
"""Heads that are looked at before their layout is made: that takes as long as some of them, and strangers choose names."""
MOST_LAYOUTS = 64
"""That are kept."""
MOST_MET = 1024
"""Which may become some."""
LONGEST = 32
"""Headers of one."""
MOST_BYTES = 1024
"""Of its names: to compile a layout takes a millisecond or two then, and what ``re`` keeps of those that strangers choose (512
patterns) some megabytes."""
MAY_COME = ("x-request-id", "x-forwarded-proto", "x-forwarded-client-cert")
"""What a proxy adds to heads that have none."""

NAMES = re.compile(rb"([^:\r]*):[^\r]*\r\n")
_BLANKS = rb":[ \t]*+"
_VALUE = _BLANKS + rb"([^\r]*+)\r\n"
_OTHER_VALUES = {
    b"host": _BLANKS + rb"([^\r \t]*+)[ \t]*+\r\n",
    b"content-type": _BLANKS + rb"(?!(?i:application/grpc))([^\r]*+)\r\n",  # what such a request is, its value says
}
_TARGET = rb"(/[!$&-;=?-\[\]_a-z~]*+)"
"""A path and a query that no normalization changes, but for dots and slashes (``proxy/forwarded_path.py``)."""
_VERSION = b" HTTP/1.1\r\n"

_Key = tuple[bytes, ...]
Layout = TypeVar("Layout")
_layouts: dict[_Key, HeadLayout] = {}
_met: dict[_Key, int] = {}


class HeadLayout:
    """``match``: takes what a connection has brought, where that is one head of this layout whose target is a path that stays
    as it is (dots and slashes are to be looked at); its groups are the target, and the value of each header, with the blanks
    behind it. What the parser takes of it is the parser's to say. ``method``, ``special`` and its ``hurries``: as a head's.
    ``at``: by its name in lower case, the group of a header's value; 0: it has to be looked for. ``host``: the group of Host's.
    ``before``: bytes before the headers, without the target. ``lines``: how many there are. ``has_id``: whether there is an
    x-request-id. ``readings``: what reads headers that are wanted of what was matched."""

    __slots__ = ("at", "before", "has_id", "host", "hurries", "lines", "match", "method", "readings", "special")

    def __init__(self, method: bytes, names: tuple[bytes, ...], special: SpecialLines) -> None:
        self.method = method
        self.special = special
        self.hurries = special.hurries
        self.readings: dict[WantedHeaders, InGroups] = {}
        self.lines = len(names)
        lower = [name.lower() for name in names]
        self.host = lower.index(b"host") + 2
        self.has_id = b"x-request-id" in lower
        self.before = len(method) + 1 + len(_VERSION)
        self.at = dict.fromkeys(MAY_COME, 0)
        for group, name in enumerate(lower, 2):
            self.at[name.decode("latin-1")] = group if lower.count(name) == 1 else 0
        values = [
            re.escape(spelled) + _OTHER_VALUES.get(name, _VALUE) for spelled, name in zip(names, lower, strict=True)
        ]
        pattern = b"".join((re.escape(method), b" ", _TARGET, re.escape(_VERSION), *values, b"\r\n"))
        self.match: Callable[[bytes], re.Match[bytes] | None] = re.compile(pattern).fullmatch

    def reading(self, wanted: WantedHeaders) -> InGroups:
        """What reads these; ``readings`` has it from then on."""
        if len(self.readings) >= MOST_READINGS:  # of configurations that are no more
            self.readings.clear()
        made = self.readings[wanted] = wanted.in_groups(self.at)
        return made


def layout_of(head: RequestHead) -> HeadLayout | None:
    """That of a head that was taken. None: there is none, or not yet."""
    special = head.special
    if (
        type(head) is not RequestHead
        or type(special) is not SpecialLines
        or not special.unproxied
        or special.grpc is not False
    ):
        return None
    names = tuple(NAMES.findall(head.lines))
    return learnt(_layouts, _met, (head.method, *names), names, lambda: HeadLayout(head.method, names, special))


def learnt(
    layouts: dict[_Key, Layout], met: dict[_Key, int], key: _Key, names: tuple[bytes, ...], make: Callable[[], Layout]
) -> Layout | None:
    """The layout of ``key`` among ``layouts``, of heads with these names. None: there is none, or not yet, and that it was
    ``met`` is noted."""
    found = layouts.get(key)
    if found is not None or len(names) > LONGEST or sum(map(len, names)) > MOST_BYTES:
        return found
    times = met.get(key, 0) + 1
    if times < TIMES:
        if len(met) >= MOST_MET:
            met.clear()
        met[key] = times
        return None
    met.pop(key, None)
    if len(layouts) >= MOST_LAYOUTS:
        layouts.clear()
    made = layouts[key] = make()
    return made
