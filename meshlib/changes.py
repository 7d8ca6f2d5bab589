"""What has changed in a list or map that is handed in again and again, most of it the same objects as before.

Things are told apart by identity: what is the same object is the same. Looking for what is different is done by passes in C,
some 0.1 ms for 10,000 things; what is done about it costs as much as has changed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, count, filterfalse
from operator import is_, is_not
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
U = TypeVar("U", bound=Hashable)

GAP = 1 << 40
"""Between the places of two neighbours: so often can something come between the same two, each time in the middle."""
_FEW = 64


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """From one list to the next. ``come`` has the place of each thing, a number that sorts things as the list does; what has
    moved is in both lists. ``whole``: all of it is new, and ``gone`` is empty: what there was is to be forgotten."""

    gone: list[T]
    come: list[tuple[int, T]]
    whole: bool = False


def everything(items: Iterable[T]) -> Change[T]:
    """The change from nothing."""
    return Change([], [(position * GAP, item) for position, item in enumerate(items)], True)


class ListFollower(Generic[T]):
    """Follows one list. Something that is in it twice counts once. Not for several threads at once."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._places: dict[int, int] = {}

    def turn(self, items: Iterable[T], known: Differences[T] | None = None) -> Change[T]:
        """What is different now. ``known``: how ``items`` differs from another list; to look through both once more is saved if
        the other is the last one here."""
        before = self.items
        if known is None or known.now is not items:
            known = differences(before, list(items))
        elif known.before is not before:
            known = differences(before, known.now)
        now, gone, come = known.now, known.gone, known.come
        places = self._places
        if len(gone) == len(before) or not self._place(before, gone, now, come):
            things = {id(item): item for item in now}
            self.items = list(things.values())
            self._places = dict(zip(things, range(0, GAP * len(things), GAP), strict=True))
            return Change([], list(zip(self._places.values(), self.items, strict=True)), True)
        self.items = now
        return Change([before[i] for i in gone], [(places[id(now[i])], now[i]) for i in come])

    def _place(self, before: list[T], gone: Sequence[int], now: list[T], come: Sequence[int]) -> bool:
        """Gives what has come its places. False when there is no room, or when something is there twice."""
        places = self._places
        for i in gone:
            del places[id(before[i])]
        for first, last in _runs(come):
            few = last - first + 1
            if last + 1 < len(now):
                right = places[id(now[last + 1])]
                left = places[id(now[first - 1])] if first else right - GAP * (few + 1)
            else:
                left = places[id(now[first - 1])] if first else 0
                right = left + GAP * (few + 1)
            step = (right - left) // (few + 1)
            if not step:
                return False
            places.update(zip(map(id, now[first : last + 1]), count(left + step, step), strict=False))
        return len(places) == len(now)


def _runs(positions: Sequence[int]) -> Iterable[tuple[int, int]]:
    """(first, last) of each row of neighbours."""
    first = last = -1
    for position in positions:
        if first < 0:
            first = position
        elif position != last + 1:
            yield first, last
            first = position
        last = position
    if first >= 0:
        yield first, last


@dataclass(frozen=True, slots=True)
class Differences(Generic[T]):
    """Between two lists: the positions in ``before`` of what is gone, and those in ``now`` of what has come. What stays is in
    the same order."""

    before: list[T]
    now: list[T]
    gone: Sequence[int]
    come: Sequence[int]


def differences(before: list[T], now: list[T]) -> Differences[T]:
    """How ``now`` differs from ``before``."""
    return Differences(before, now, *differing(before, now))


def differing(before: Sequence[T], now: Sequence[T]) -> tuple[Sequence[int], Sequence[int]]:
    """The positions in ``before`` of what is gone and those in ``now`` of what has come, as ``Differences`` has them."""
    least = min(len(before), len(now))
    if len(before) == len(now):
        other = list(compress(count(), map(is_not, before, now)))
        if len(other) <= _FEW:
            return other, other
    first = next(compress(count(), map(is_not, before, now)), least)
    same_end = next(compress(count(), map(is_not, reversed(before), reversed(now))), least)
    same_end = min(same_end, least - first)
    old, new = before[first : len(before) - same_end], now[first : len(now) - same_end]
    had, has = set(map(id, old)), set(map(id, new))
    stays = list(map(has.__contains__, map(id, old))), list(map(had.__contains__, map(id, new)))
    if all(map(is_, compress(old, stays[0]), compress(new, stays[1]))) and sum(stays[0]) == sum(stays[1]):
        return (
            [first + i for i in filterfalse(stays[0].__getitem__, range(len(old)))],
            [first + i for i in filterfalse(stays[1].__getitem__, range(len(new)))],
        )
    return range(first, first + len(old)), range(first, first + len(new))


def changed_keys(before: Mapping[K, object], now: Mapping[K, object]) -> tuple[list[K], list[K]]:
    """The keys of ``now`` whose value is new or another object, and the keys that are gone."""
    if before is now:
        return [], []
    other = list(compress(now, map(is_not, now.values(), map(before.get, now))))
    gone = list(filterfalse(now.__contains__, before)) if len(before) + len(other) > len(now) else []
    return other, gone


class Dependents(Generic[K, U]):
    """Who was made from what: units by the keys that they read."""

    def __init__(self) -> None:
        self._readers: dict[K, list[U]] = {}
        self._read: dict[U, tuple[K, ...]] = {}

    def read(self, unit: U, keys: Iterable[K]) -> None:
        """``unit`` was made from these, and from nothing that was said before."""
        read = tuple(dict.fromkeys(keys))
        if read == self._read.get(unit, ()):
            return
        self.forget(unit)
        if read:
            self._read[unit] = read
            for key in read:
                self._readers.setdefault(key, []).append(unit)

    def forget(self, unit: U) -> None:
        """``unit`` is no more."""
        for key in self._read.pop(unit, ()):
            readers = self._readers[key]
            readers.remove(unit)
            if not readers:
                del self._readers[key]

    def of(self, key: K) -> Sequence[U]:
        """The units that read it."""
        return self._readers.get(key, ())
