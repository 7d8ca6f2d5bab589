"""Unary calls on asyncio that nobody has awaited yet: they begin at the loop's next turn."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import Any, Protocol

from meshlib.transport.protocol.shortcuts import PLAIN


class Startable(Protocol):
    """A call that nobody has awaited yet."""

    waiting: NextTurn | None
    """When it will begin; None: it has begun, or will not."""

    def begin(self) -> None:
        """Drive it in a task of its own."""
        ...


class NextTurn:
    """One channel's, on one loop.

    Nearly all calls are awaited in the step of their task that has made them. What asks the loop for a turn is taken back then:
    a turn, with its look at the sockets, costs as much as half of policy does. Only asyncio's own loops have a line to take it
    back from; in others the turn comes, and finds nothing to do.

    ``only`` is the first call that waits on one of asyncio's own loops; more are in a list, as are all of other loops.
    """

    __slots__ = ("_asked", "_handle", "_line", "_runs", "loop", "only")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.only: Startable | None = None
        self._runs: list[Startable] = []
        self._asked = False
        self._line = line_of(loop)
        if self._line is not None:
            # in a context of its own: it is kept, and nobody's variables with it; calls begin in those of their callers
            self._handle = asyncio.Handle(self._turn, (), loop, contextvars.Context())

    def begin(self, run: Startable) -> None:
        """Let ``run`` be driven by a task of its own then, unless somebody awaits it before (``awaited``)."""
        line = self._line
        if line is None:
            self._runs.append(run)
            if not self._asked:
                self._asked = True
                self.loop.call_soon(self._turn)
        elif self.only is None:
            self.only = run
            line.append(self._handle)
        else:
            self._runs.append(run)

    def awaited(self, run: Startable) -> None:
        """Somebody drives it."""
        if self.only is run:  # nearly always
            self.only = None
            line = self._line
            if line and line[-1] is self._handle and not self._runs:
                line.pop()
        else:
            runs = self._runs
            if runs and runs[-1] is run:  # calls that end without a turn of the loop do not pile up here
                runs.pop()

    def _turn(self) -> None:
        self._asked = False
        only, self.only = self.only, None
        runs, self._runs = self._runs, []
        for run in runs if only is None else (only, *runs):
            if run.waiting is not None:
                run.begin()


def line_of(loop: asyncio.AbstractEventLoop) -> deque[asyncio.Handle] | None:
    """What the loop does in its next turn; None: it is not one of asyncio's own, or does it in its own way (qasync)."""
    kind: Any = type(loop)
    own = asyncio.BaseEventLoop
    if PLAIN or not isinstance(loop, own) or kind.call_soon is not own.call_soon:
        return None
    if getattr(kind, "_run_once", None) is not getattr(own, "_run_once", own):
        return None
    line: Any = getattr(loop, "_ready", None)
    return line if type(line) is deque else None
