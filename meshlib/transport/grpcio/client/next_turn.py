"""What waits for an event loop's next turn: unary calls that nobody has awaited yet, and what is left of those that ended."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Startable(Protocol):
    """A call that nobody has awaited yet."""

    waiting: NextTurn | None
    """When it will begin; None: it has begun, or will not."""

    def begin(self) -> None:
        """Drive it in a task of its own."""
        ...


class NextTurn:
    """One channel's, on one loop. It keeps gRPC core's calls that have ended: to destroy one takes as long as all the rest that
    the mesh does for it (`make bench` shows it), so that is not done while the caller waits for the response."""

    __slots__ = ("_ended", "_runs", "_scheduled", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._runs: list[Startable] = []
        self._ended: list[object] = []
        self._scheduled = False

    def begin(self, run: Startable) -> None:
        """Let ``run`` be driven by a task of its own then, unless somebody awaits it before (``awaited``)."""
        self._runs.append(run)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def awaited(self, run: Startable) -> None:
        """Somebody drives it."""
        runs = self._runs
        if runs and runs[-1] is run:  # nearly always; calls that end without a turn of the loop do not pile up here
            runs.pop()

    def destroy(self, call: object) -> None:
        """Keep ``call`` until then."""
        self._ended.append(call)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._ended.clear()
        runs, self._runs = self._runs, []
        for run in runs:
            if run.waiting is not None:
                run.begin()
