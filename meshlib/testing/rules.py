"""A rule of chaos: something that goes wrong, which of the attempts or served requests it happens to, and how often it has."""

from __future__ import annotations

import math
import random
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

    from meshlib.clock import Clock
    from meshlib.testing.outage import Kind

Nth = int | Container[int] | None
Event = TypeVar("Event")
EventIn = TypeVar("EventIn", contravariant=True)


class Where(Protocol[EventIn]):
    """Which events a rule is about."""

    rate: float

    def _about(self, event: EventIn, /) -> bool: ...
    def _now(self, now: float, /) -> bool: ...
    def _nth_is(self, number: int, /) -> bool: ...


class Chance:
    """What all that say where have in common: the ``nth`` of the events, a part of them (``rate``), those of a while
    (``between``, in seconds from ``made``)."""

    def __init__(self, nth: Nth, rate: float, between: tuple[float, float] | None, made: float) -> None:
        """Raises ValueError for a rate that is not between 0 and 1, an ``nth`` that never comes (below 1, no whole number, none
        at all), and a ``between`` that is no pair of numbers or ends before it begins."""
        if not (_is_number(rate) and 0 <= rate <= 1):
            raise ValueError(f"the rate {rate!r} is not between 0 and 1: one in ten is 0.1")
        _check_nth(nth)
        if between is not None:
            if not (isinstance(between, (tuple, list)) and len(between) == 2 and all(map(_is_number, between))):
                raise ValueError(f"between={between!r}: it is (start, end), in seconds from now")
            if between[0] > between[1]:
                raise ValueError(f"between={between} ends before it begins: it is (start, end), in seconds from now")
        self.nth = nth
        self.rate = rate
        self._between = between
        self._made = made

    def _now(self, now: float) -> bool:
        if self._between is None:
            return True
        start, end = self._between
        return start <= now - self._made < end

    def _nth_is(self, number: int) -> bool:
        return self.nth is None or (number == self.nth if isinstance(self.nth, int) else number in self.nth)

    def _chances(self) -> list[str]:
        """For people."""
        said = [f"rate={self.rate:g}"] if self.rate < 1 else []
        return said + ([f"between={self._between}"] if self._between is not None else [])


class Rule(Generic[Event]):
    """Something that goes wrong until ``end()``, or until the ``with`` block that it stands in is left. ``seen`` counts the
    attempts (or served requests) that it is about, ``times`` those that it has happened to."""

    events = "attempts"

    def __init__(self, seed: int, clock: Clock, where: Where[Event], kind: Kind, number: int) -> None:
        self._clock = clock
        self._where = where
        self._random = f"{seed}/{number}"
        self.kind: Kind = kind
        self.seen = 0
        self.times = 0
        self._came = False
        self.ended = False

    @property
    def missed(self) -> bool:
        """Whether there were events that it is about, and none was its ``nth``."""
        return bool(self.seen) and not self._came

    def end(self) -> None:
        """It happens no more: an endpoint that was down is up again."""
        self.ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<chaos: {self}>"

    def __str__(self) -> str:
        ended = ", ended" if self.ended else ""
        return f"{self._where}.{self.kind}(): {self.times} of {self.seen} {self.events}{ended}"

    def _happens(self, event: Event) -> random.Random | None:
        """The random numbers of this time; None: not to this event. Under the lock of ``chaos``."""
        where = self._where
        if self.ended or not where._about(event) or not where._now(self._clock.monotonic()):
            return None
        self.seen += 1
        # by the number of the attempt: in which order others come does not matter
        rng = random.Random(f"{self._random}/{self.seen}")
        if not where._nth_is(self.seen):
            return None
        self._came = True
        return None if rng.random() >= where.rate else rng


def seconds_of(name: str, seconds: float) -> float:
    """They are a while. Raises ValueError where they are not: it would come to nothing, and the test could not fail."""
    if not _is_number(seconds) or not 0 <= seconds < math.inf:
        raise ValueError(f"{name}={seconds!r}: it is a number of seconds, 0 or more")
    return seconds


def after_of(after: int) -> int:
    """So many bytes or messages. Raises ValueError for what is no such number."""
    if not _is_whole(after) or after < 0:
        raise ValueError(f"after={after!r}: it is a number of bytes (of a gRPC stream: messages), 0 or more")
    return after


def path_of(path: str) -> str:
    """A path that requests can have. Raises ValueError for one that none has."""
    if not isinstance(path, str) or not path.startswith(("/", "*")) or "*" in path[:-1]:
        raise ValueError(f"path={path!r}: it begins with /, and a * at its end makes it a prefix")
    return path


def _check_nth(nth: object) -> None:
    if nth is None or (_is_whole(nth) and isinstance(nth, int) and nth >= 1):
        return
    if isinstance(nth, (int, float)) and not isinstance(nth, bool):
        raise ValueError(f"nth={nth}: " + ("the first one is nth=1" if nth < 1 else "it is a whole number"))
    if isinstance(nth, (str, bytes, bool)) or not isinstance(nth, Container):
        raise ValueError(f"nth={nth!r}: it is a number, counted from 1, or several: nth={{3, 5}}, nth=range(3, 6)")
    if isinstance(nth, range):
        some = [nth[0], nth[-1]] if nth else []
    else:
        some = list(nth) if isinstance(nth, Iterable) else [1]
    if not some or any(not _is_whole(each) or each < 1 for each in some):
        raise ValueError(f"nth={nth!r}: " + ("the first one is 1" if some else "that is none of them"))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value  # not NaN


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def matches(path: str, wanted: str) -> bool:
    """``wanted`` ends with ``*``: it is a prefix."""
    return path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted
