"""The values of a few headers at once, of a message whose headers are pairs.

Programs send other values each time, and the same names: where the wanted ones stand is found once for each list of names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from meshlib.engine.wire_headers import joined_value

MOST = 256
LONGEST = 1024
"""Bytes of a list of names that is remembered: strangers choose them."""

_NAME = itemgetter(0)


Pairs = Sequence[tuple[bytes, bytes]]
Take = Callable[[Pairs], tuple[str | None, ...]]


class WantedHeaders:
    """``names`` are in lower case. For all threads: whoever comes second finds the same."""

    __slots__ = ("_takes", "names", "takes_of_environs")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._takes: dict[tuple[bytes, ...] | bytes, Take] = {}
        self.takes_of_environs: dict[tuple[str, ...], Callable[[Any], Any]] = {}
        """What takes them from environs of WSGI with these keys: for their door to keep."""

    def values(self, headers: Pairs) -> tuple[str | None, ...]:
        """In the order of ``names``: of repeated headers all, joined with ","; None when absent."""
        names = tuple(map(_NAME, headers))
        take = self._takes.get(names)
        return self._learn(names, headers)(headers) if take is None else take(headers)

    def values_by(self, names: bytes, headers: Pairs) -> tuple[str | None, ...]:
        """``values`` of headers whose names are ``names``, in this order, in lower case, with a line end between two."""
        take = self._takes.get(names)
        return self._learn(names, headers)(headers) if take is None else take(headers)

    def _learn(self, key: tuple[bytes, ...] | bytes, headers: Pairs) -> Take:
        names = [name.lower() for name, _ in headers]
        wanted = [name.encode("latin-1", "replace") for name in self.names]
        take: Take = self._each
        if all(names.count(name) <= 1 for name in wanted):
            take = _taking(tuple(names.index(name) if name in names else None for name in wanted))
        if sum(map(len, names)) <= LONGEST:
            if len(self._takes) >= MOST:
                self._takes.clear()
            self._takes[key] = take
        return take

    def _each(self, headers: Pairs) -> tuple[str | None, ...]:
        """Where one of them is repeated."""
        return tuple(joined_value(headers, name) for name in self.names)


@functools.lru_cache(MOST)
def _taking(places: tuple[int | None, ...]) -> Take:
    """What takes the values at these places: a function of its own, as a loop over them takes twice as long."""
    values = "".join("None, " if at is None else f'headers[{at:d}][1].decode("latin-1"), ' for at in places)
    made: Take = eval(f"lambda headers: ({values})", {"__builtins__": {}})
    return made
