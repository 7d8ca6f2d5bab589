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

    ``certain``: for who permits by it. To Envoy ``*`` is the regular expression ``.+``, which does not cross lines: a value
    with a line end matches for certain only what names it otherwise."""

    __slots__ = ("_by_prefix", "_by_suffix", "_exact", "_prefix_lengths", "_present", "_suffix_lengths", "certain")

    def __init__(self, entries: Entries, certain: bool = False) -> None:
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
        self._prefix_lengths = _lengths(self._by_prefix)
        self._suffix_lengths = _lengths(self._by_suffix)

    def __call__(self, value: str) -> int:
        """The bits."""
        found = self._exact.get(value, 0)
        length = len(value)
        if self._present and length and not (self.certain and "\n" in value):
            found |= self._present
        prefixes = self._by_prefix.get
        for wanted in self._prefix_lengths:
            if wanted > length:
                break
            found |= prefixes(value[:wanted], 0)
        suffixes = self._by_suffix.get
        for wanted in self._suffix_lengths:
            if wanted > length:
                break
            found |= suffixes(value[length - wanted :], 0)
        return found


def _add(table: dict[str, int], value: str, bits: int) -> None:
    table[value] = table.get(value, 0) | bits


def _lengths(values: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({len(value) for value in values}))


def mapped(entries: Entries, change: Callable[[str], str]) -> list[tuple[int, list[str]]]:
    """The same with each value changed."""
    return [(bits, [change(value) for value in values]) for bits, values in entries]
