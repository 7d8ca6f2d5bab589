"""Functions for calls whose headers have the same names in the same order: where each value stands is known when they are
made, and which of them are not there. They take a sixth less than the function for all (row access-log-whole of the
benchmarks): nothing is handed over, and what is not there is part of what is the same.

A function takes a millisecond to make. So it is made when as many calls have had these names as pay for that, and there are
few: programs send the same names, and strangers, who may send others each time, make nobody work.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from meshlib.engine.wanted_headers import LONGEST
from meshlib.telemetry.access_log.line_code import Reading

OFTEN = 200
"""Calls with the same names, before there is a function for them."""
MOST = 16
"""Functions of one format."""
MOST_MET = 256
"""Names that are counted at once; then counting begins again."""

Places = Mapping[str, int | None]
"""Where a header stands in a list of pairs, by its name in lower case; None: it is not there."""
There = Callable[..., Any]
Names = Hashable
"""Those of headers, in their order: with a line end between two, or one by one."""


class Layouts:
    """``find`` gives the function for the names of a call's headers, None where there is none; it is ``make``'s, which is given
    where ``wanted`` headers stand, and how many headers there are."""

    __slots__ = ("_left", "_made", "_make", "_met", "_wanted", "find")

    def __init__(self, wanted: Sequence[str], make: Callable[[Places, int], There]) -> None:
        self._wanted = [name.encode("latin-1", "replace") for name in wanted]
        self._make = make
        self._made: dict[Names, There] = {}
        self._met: dict[Names, int] = {}
        self._left = MOST
        self.find = self._made.get

    def meet(self, names: bytes | tuple[bytes, ...]) -> None:
        """One more call with these, for which there is no function."""
        if self._left <= 0 or (len(names) if isinstance(names, bytes) else sum(map(len, names))) > LONGEST:
            return
        met = self._met
        if len(met) >= MOST_MET:
            met.clear()
        met[names] = often = met.get(names, 0) + 1
        if often != OFTEN:
            return
        there = names.split(b"\n") if isinstance(names, bytes) else list(names)
        if any(name != name.lower() for name in there) or any(there.count(name) > 1 for name in self._wanted):
            return  # what all of them say is put together
        self._left -= 1
        places = {name.decode("latin-1"): there.index(name) if name in there else None for name in self._wanted}
        self._made[names] = self._make(places, len(there))

    def forget(self) -> None:
        """There is room for as many again."""
        self._made.clear()
        self._met.clear()
        self._left = MOST


def taken_apart(places: Places, count: int) -> str:
    """Lines that take the values from ``headers`` that are there, ``p0`` that of the first one. They return False where there
    are not so many headers: a name that has a line end in it may look like two."""
    there = sorted({place for place in places.values() if place is not None})
    if 4 * len(there) <= count + 2:  # one by one is six steps each, all at once three each, one for each other, and two
        return "\n".join(
            [f"    if len(headers) != {count:d}: return False", *[f"    p{n:d} = headers[{n:d}][1]" for n in there]]
        )
    names = "".join([f"(_, p{n:d}), " if n in there else "_, " for n in range(count)])
    return f"    try: {names}= headers\n    except ValueError: return False"


def placed(reading: Reading, places: Places) -> Reading | None:
    """``reading`` of headers at ``places``; None: what it reads is not there."""
    if not reading.headers:
        return reading
    at = [places[name] for name in reading.headers]
    says = bool(reading.absent) and not reading.there
    if says and all(place is None for place in at):
        return None
    values = ["empty" if place is None else f"p{place:d}" for place in at]
    there = {f"has{n}": str(place is not None) for n, place in enumerate(at)}
    code = reading.code.format(*values, **there)
    if reading.there and reading.brief == "{0}" and reading.code.startswith("{0} or ") and at[0] is not None:
        return reading._replace(code=values[0], left=code, headers=())
    absent = "" if says else reading.absent.format(**there)
    return reading._replace(code=code, headers=(), absent=absent, sure=says)
