"""systemd's watchdog (``WatchdogSec=``): it is told that the proxy is alive by what has to be, the event loops that serve.

Of several workers it is their parent that may tell (``NotifyAccess=main``), and it does while the loop of each beats: a worker
whose loop is stuck has the whole service started again.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from meshlib.proxy.notify import notify

_BEAT = struct.Struct("d")


class Beat(NamedTuple):
    """``tell`` is to be called every so many seconds."""

    every: float
    tell: Callable[[], object]


def interval(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Seconds within which systemd wants to hear of this process; None: it does not, or of another one."""
    said, of = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (said.isascii() and said.isdecimal()) or not int(said):
        return None
    if of and of != str(os.getpid() if pid is None else pid):
        return None
    return int(said) / 1e6


def told(environ: Mapping[str, str] = os.environ) -> Beat | None:
    """Of a single process; None: nobody wants to hear."""
    within = interval(environ)
    return None if within is None else Beat(within / 2, lambda: notify("WATCHDOG=1", environ))


class LoopBeat:
    """Calls ``beat.tell`` on ``loop`` from now on until ``close``: for as long as that loop turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop, beat: Beat) -> None:
        self._loop = loop
        self._beat = beat
        self._turn()

    def _turn(self) -> None:
        self._beat.tell()
        self._next = self._loop.call_later(self._beat.every, self._turn)

    def close(self) -> None:
        """Idempotent."""
        self._next.cancel()


class Heartbeats:
    """Of ``count`` workers, in memory that they share with who has made this before they were forked. ``within``: seconds that
    one may be silent."""

    def __init__(self, count: int, within: float, now: Callable[[], float]) -> None:
        self._shared = mmap.mmap(-1, _BEAT.size * count)
        self.within = within
        self._now = now
        for slot in range(count):
            self.beat(slot)

    def beat(self, slot: int) -> None:
        """That one is alive."""
        _BEAT.pack_into(self._shared, _BEAT.size * slot, self._now())

    def of(self, slot: int) -> Beat:
        """For its loop."""
        return Beat(self.within / 4, lambda: self.beat(slot))

    def alive(self, slots: Iterable[int]) -> bool:
        """Whether all of these are."""
        oldest = self._now() - self.within
        return all(_BEAT.unpack_from(self._shared, _BEAT.size * slot)[0] >= oldest for slot in slots)

    def close(self) -> None:
        """Nobody beats any more."""
        self._shared.close()
