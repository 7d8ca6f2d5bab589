"""Did you mean? The name nearest to one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

FEW = 500
"""Names up to which each is compared; among more only those are found that differ by a letter or two."""


class Nearest:
    """Finds the nearest of ``names``. Nothing is prepared before the first question."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(dict.fromkeys(names))
        self._by_rest: dict[str, list[str]] | None = None
        self._found: dict[str, str] = {}

    def of(self, name: str) -> str:
        """ "" when none is near."""
        found = self._found.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self._candidates(name), n=1, cutoff=0.7)
            found = self._found[name] = near[0] if near else ""
        return found

    def _candidates(self, name: str) -> Iterable[str]:
        if len(self._names) <= FEW:
            return self._names
        if self._by_rest is None:
            self._by_rest = {}
            for known in self._names:
                for rest in _rests(known):
                    self._by_rest.setdefault(rest, []).append(known)
        by_rest = self._by_rest
        return dict.fromkeys(known for rest in _rests(name) for known in by_rest.get(rest, ()))


def _rests(name: str) -> Iterator[str]:
    """The name, and what is left of it without any one letter: shared by names that differ by a letter."""
    yield name
    for index in range(len(name)):
        yield name[:index] + name[index + 1 :]


def did_you_mean(name: str) -> str:
    """A hint; "" for none."""
    return f"did you mean {name}?" if name else ""
