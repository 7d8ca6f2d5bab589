"""Long work in short slices: reading and compiling while an event loop of the same process must go on answering.

Work that may be long calls ``take_turns()`` at each turn of its loops. In an ordinary thread that does nothing. Inside ``with
slices(...)`` it gives the interpreter away for a moment whenever the thread has worked for ``SLICE_SECONDS`` of its own CPU
time, so that whoever waits for it waits no longer than that.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from meshlib.clock import rest, thread_seconds

SLICE_SECONDS = 0.0008
REST_SECONDS = 0.0005
"""A real sleep: a thread that only offers the interpreter mostly takes it back itself."""

_QUICK = (1000, 2, 1_000_000)
"""Generations of the garbage collector while much is made and kept: the young are looked through, all objects never."""
_SELDOM = (1_000_000, 50, 1_000_000)
"""The same where nobody waits: to look through a million takes 0.2 s, and stops all threads."""
_IN_BETWEEN = (20_000, 1_000_000, 1_000_000)
"""The same while calls may go on in other threads."""
_OURS = (_QUICK, _SELDOM, _IN_BETWEEN)


T = TypeVar("T")
K = TypeVar("K")


class NotWanted(Exception):
    """The work is not wanted any more."""


class Work(Protocol):
    """Who hears that long work goes on."""

    def step(self) -> None:
        """One more turn of a loop."""
        ...


class _Here(threading.local):
    work: Work | None = None


_here = _Here()


class Slices:
    """Work in slices. ``hurry`` says whether somebody waits for the end of it, so that it does not rest; ``stop`` whether it
    is not wanted any more. ``slices`` counts; ``on_slice`` is called with the CPU seconds of each."""

    def __init__(
        self,
        hurry: Callable[[], bool] = lambda: False,
        stop: Callable[[], bool] = lambda: False,
        on_slice: Callable[[float], None] | None = None,
    ) -> None:
        self._hurry = hurry
        self._stop = stop
        self._on_slice = on_slice
        self._began = thread_seconds()
        self.slices = 0

    def step(self) -> None:
        """Rest if it is time to. Raises ``NotWanted`` when the work is not wanted any more."""
        worked = thread_seconds() - self._began
        if worked >= SLICE_SECONDS:
            self._end(worked)

    def _end(self, worked: float) -> None:
        self.slices += 1
        _all_is_old()
        if self._on_slice is not None:
            self._on_slice(worked)
        if self._stop():
            raise NotWanted
        if not self._hurry():
            rest(REST_SECONDS)
        self._began = thread_seconds()


def take_turns() -> None:
    """A point at which long work may rest, or be told to end."""
    work = _here.work
    if work is not None:
        work.step()


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """The same items, with turns taken between."""
    for item in items:
        take_turns()
        yield item


def is_watched() -> bool:
    """Whether the turns of this thread are reported to anyone."""
    return _here.work is not None


def free_in_turns(things: list[T] | dict[K, T]) -> None:
    """Empty a list or map one by one: to free many objects at once takes as long as to make them."""
    if isinstance(things, list):
        while things:
            take_turns()
            things.pop()
    else:
        while things:
            take_turns()
            things.popitem()


@contextmanager
def working(work: Work) -> Iterator[None]:
    """The turns of what this thread does inside are reported to ``work``."""
    before, _here.work = _here.work, work
    try:
        yield
    finally:
        _here.work = before


@contextmanager
def slices(work: Slices) -> Iterator[None]:
    """What this thread does inside is done in slices."""
    work._began = thread_seconds()
    try:
        with working(work):
            yield
    finally:
        worked = thread_seconds() - work._began
        if work._on_slice is not None:
            work._on_slice(worked)


def _all_is_old() -> None:
    """What has been made counts as looked through from here on: the next collection of the young has nothing to look at, and
    none of everything follows at once. (The young are more than their threshold says while as much is given up as is made.)
    Not where somebody has frozen objects, which would be thawed."""
    if _makers and gc.get_threshold() in _OURS and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()


_collecting = threading.Lock()
os.register_at_fork(after_in_child=_collecting._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there
_makers = 0
_before = (0, 0, 0)


@contextmanager
def much_is_made(*, beside_calls: bool = False) -> Iterator[None]:
    """While many objects are made that will all stay, the garbage collector need not look through all that there are, which
    takes half of the time and stops every thread. What it is set to comes back when the last of several has ended; a
    collector that is off stays off. ``beside_calls``: there are calls already that this must not stop for long."""
    global _makers, _before  # the collector is the process's, and so is this
    with _collecting:
        _makers += 1
        if _makers == 1 and gc.isenabled():
            _before = gc.get_threshold()
            gc.set_threshold(*(_QUICK if _here.work is not None else _IN_BETWEEN if beside_calls else _SELDOM))
    try:
        yield
    finally:
        with _collecting:
            if _makers == 1 and gc.get_threshold() in _OURS:
                _all_is_old()
                gc.set_threshold(*_before)
            _makers -= 1
