"""Which of the lines that somebody looks for a request's head has: found in one pass, and what follows from it known by which
they are (``SpecialLines``), not asked of each head again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.engine.wanted_headers import Reading, WantedHeaders

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection te upgrade transfer-encoding expect trailer http2-settings".split()
)
"""Headers that are for this connection only; ``host``, of which a proxy needs one, is never among them."""
CLIENT_CERTS = tuple(
    [b"x%bforwarded%bclient%bcert:" % spelled for spelled in itertools.product((b"-", b"_"), repeat=3)]
)
"""How X-Forwarded-Client-Cert may be spelled to an application that reads headers as CGI names them."""
COUNTED = ("traceparent", "tracestate", "user-agent", "x-forwarded-for", "x-request-id")
"""Headers of telemetry: where they stand need not be looked for if they do not, nor a second one of a name if there is one."""
MAY_COME = frozenset(("x-request-id",))
"""Of those, what a proxy adds to heads that have none."""
_BEGINNINGS = (b"x-envoy-", b"content-type: application/grpc")
_SEEN = (
    b"host",
    b"content-length",
    b"x-forwarded-proto",
    b"authorization",
    b"proxy-authorization",
    b"cookie",
    b"x-request-deadline",
    b"grpc-timeout",
    *[name.encode() for name in COUNTED],
)


def _any_of(beginnings: Iterable[bytes]) -> bytes:
    """A regular expression for names of headers: by their first letters, a fifth faster than one after another."""
    by_letter: dict[bytes, list[bytes]] = {}
    for each in sorted(beginnings):
        by_letter.setdefault(each[:1], []).append(each[1:])
    return b"|".join([b"%b(?:%b)" % (letter, b"|".join(rests)) for letter, rests in by_letter.items()])


SPECIAL = re.compile(
    rb"\r\n(%b)" % _any_of((*_BEGINNINGS, *CLIENT_CERTS, *[name + b":" for name in (*_SEEN, *HOP_BY_HOP)]))
)
"""Beginnings of lines that somebody looks for. Each look for one name costs as much as this, which is one pass (row
"proxy-inprocess")."""
USUAL = frozenset((*_BEGINNINGS, *CLIENT_CERTS, *[name + b":" for name in _SEEN]))
"""Those that ask for nothing to be done with the head."""
_AT_A_GLANCE = USUAL - {b"content-length:"}
"""And that say of no body."""
_PROXIES = frozenset((b"x-envoy-", b"x-forwarded-proto:", *CLIENT_CERTS))
MOST_READINGS = 16
MOST_KNOWN = 1024
"""That are remembered: names alone, of which clients have a few orders."""
LONGEST = 24
"""Lines of one that is."""
KNOWN: dict[tuple[bytes, ...], SpecialLines] = {}
"""Those that were met, by what they are."""


class SpecialLines(tuple[bytes, ...]):
    """What ``SPECIAL`` finds in a head, in its order, as long as the head has just these. ``usual``: it asks for nothing to be
    done with the head, says of no body, and there is one Host. ``kept``: the same but for one Connection, without which it is
    this. ``unproxied``: it says nothing of what proxies tell each other. ``hurries``: it may say how much time there is.
    ``grpc``: None where its type has to be looked at, else False. ``readings``: what reads headers that are wanted of such a
    head."""

    usual: bool
    kept: SpecialLines | None
    unproxied: bool
    hurries: bool
    grpc: bool | None
    readings: dict[WantedHeaders, Reading]

    def __init__(self, found: Iterable[bytes]) -> None:
        self.readings = {}
        self.usual = _AT_A_GLANCE.issuperset(self) and self.count(b"host:") == 1
        self.unproxied = _PROXIES.isdisjoint(self)
        self.hurries = b"x-request-deadline:" in self or b"grpc-timeout:" in self
        self.grpc = None if b"content-type: application/grpc" in self else False
        self.kept = None
        if not self.usual and self.count(b"connection:") == 1:
            rest = SpecialLines([each for each in self if each != b"connection:"])
            self.kept = rest if rest.usual else None

    def counted(self, name: str) -> int | None:
        """How many headers of this name (in lower case) there are, 0 or 1; None: more, or that may change, or is not known."""
        if name not in COUNTED:
            return None
        times = self.count(b"%b:" % name.encode())
        # of how many more there are nobody makes a function of its own: strangers choose that
        return None if times > 1 or (not times and name in MAY_COME) else times

    def reading(self, wanted: WantedHeaders) -> Reading:
        """What reads these; ``readings`` has it from then on."""
        if len(self.readings) >= MOST_READINGS:  # of configurations that are no more
            self.readings.clear()
        order = [name for name in (each[:-1].decode() for each in self) if name in COUNTED]
        made = self.readings[wanted] = wanted.among(self.counted, order if len(set(order)) == len(order) else ())
        return made


def special_lines(found: tuple[bytes, ...]) -> SpecialLines:
    """``found`` as such."""
    known = KNOWN.get(found)
    if known is None:
        known = SpecialLines(found)
        if len(found) <= LONGEST:
            if len(KNOWN) >= MOST_KNOWN:
                KNOWN.clear()
            KNOWN[found] = known
    return known
