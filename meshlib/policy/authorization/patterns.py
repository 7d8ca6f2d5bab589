"""Istio's patterns of values: ``exact``, ``prefix*``, ``*suffix``, and ``*``, which is any value that is not empty."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)

Entries: TypeAlias = Sequence[tuple[int, Sequence[str]]]
"""Which bits have which values."""
Index: TypeAlias = Callable[[K], int]
"""From a value to the bits that have it."""


class Patterns:
    """Which bits have a pattern that ``value`` matches. Exact ones by dict, prefixes and suffixes by their length.

    ``certain``: the bits for which only that counts which is beyond doubt. To Envoy ``*`` is the regular expression ``.+``,
    which does not cross lines: a value with a line end matches for certain only what names it otherwise."""

    __slots__ = (
        "_by_prefix",
        "_by_suffix",
        "_exact",
        "_head",
        "_prefix_lengths",
        "_present",
        "_suffix_lengths",
        "_tail",
        "certain",
    )

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self.certain = certain
        self._present = 0
        self._exact: dict[str, int] = {}
        self._by_prefix: dict[str, int] = {}
        self._by_suffix: dict[str, int] = {}
        for bits, values in entries:
            for value in values:
                if value == "*":
                    self._present |= bits
                elif value.startswith("*"):
                    _add(self._by_suffix, value[1:], bits)
                elif value.endswith("*"):
                    _add(self._by_prefix, value[:-1], bits)
                else:
                    _add(self._exact, value, bits)
        # most values begin like few patterns, and end like few: only their lengths are looked up
        self._head = min(map(len, self._by_prefix), default=0)
        self._prefix_lengths = lengths_by(self._by_prefix, lambda prefix: prefix[: self._head])
        self._tail = min(map(len, self._by_suffix), default=0)
        self._suffix_lengths = lengths_by(self._by_suffix, lambda suffix: suffix[len(suffix) - self._tail :])

    def __call__(self, value: str) -> int:
        """The bits."""
        found = self._exact.get(value, 0)
        length = len(value)
        if self._present and length:
            found |= self._present & ~self.certain if "\n" in value else self._present
        if self._head:
            prefixes = self._by_prefix.get
            for wanted in self._prefix_lengths.get(value[: self._head], ()):
                if wanted > length:
                    break
                found |= prefixes(value[:wanted], 0)
        if self._tail and length >= self._tail:
            suffixes = self._by_suffix.get
            for wanted in self._suffix_lengths.get(value[length - self._tail :], ()):
                if wanted > length:
                    break
                found |= suffixes(value[length - wanted :], 0)
        return found


def _add(table: dict[str, int], value: str, bits: int) -> None:
    table[value] = table.get(value, 0) | bits


def lengths_by(values: Iterable[str], part: Callable[[str], str]) -> dict[str, tuple[int, ...]]:
    """The lengths of the values that have the same part, the shortest first."""
    found: dict[str, set[int]] = {}
    for value in values:
        found.setdefault(part(value), set()).add(len(value))
    return {key: tuple(sorted(lengths)) for key, lengths in found.items()}


def mapped(entries: Entries, change: Callable[[str], str]) -> list[tuple[int, list[str]]]:
    """The same with each value changed."""
    return [(bits, [change(value) for value in values]) for bits, values in entries]
