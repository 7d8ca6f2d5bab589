"""The values of a few headers at once, of a message whose headers are pairs.

Programs send other values each time, and the same names: where the wanted ones stand is found once for each list of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from meshlib.engine.wire_headers import joined_value

MOST = 256
LONGEST = 1024
"""Bytes of a list of names that is remembered: strangers choose them."""

_NAME = itemgetter(0)


class WantedHeaders:
    """``names`` are in lower case. For all threads: whoever comes second finds the same."""

    __slots__ = ("_places", "names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._places: dict[tuple[bytes, ...], tuple[int | None, ...] | None] = {}

    def values(self, headers: Sequence[tuple[bytes, bytes]]) -> list[str | None]:
        """In the order of ``names``: of repeated headers all, joined with ","; None when absent."""
        names = tuple(map(_NAME, headers))
        try:
            places = self._places[names]
        except KeyError:
            places = self._find(names)
        if places is None:
            return [joined_value(headers, name) for name in self.names]
        return [None if at is None else headers[at][1].decode("latin-1") for at in places]

    def _find(self, names: tuple[bytes, ...]) -> tuple[int | None, ...] | None:
        """Where they are; None: one of them is repeated."""
        lower = [name.lower() for name in names]
        wanted = [name.encode("latin-1", "replace") for name in self.names]
        found = None
        if all(lower.count(name) <= 1 for name in wanted):
            found = tuple(lower.index(name) if name in lower else None for name in wanted)
        if sum(map(len, names)) <= LONGEST:
            if len(self._places) >= MOST:
                self._places.clear()
            self._places[names] = found
        return found
