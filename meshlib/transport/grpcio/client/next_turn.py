"""What waits for an event loop's next turn: unary calls that nobody has awaited yet, and what is left of those that ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.transport.grpcio.client.aio_run import AioRun


class NextTurn:
    """One channel's, on one loop. ``spent``: gRPC core's calls that have been answered. To destroy one takes as long as all
    the rest that the mesh does for it (`make bench` shows it), so that is not done while the caller waits for the answer."""

    __slots__ = ("_runs", "_scheduled", "_spent", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop: Any = loop
        self._runs: list[AioRun] = []
        self._spent: list[Any] = []
        self._scheduled = False

    def begin(self, run: AioRun) -> None:
        """Let ``run`` be driven by a task of its own then, unless somebody awaits it before (``awaited``)."""
        self._runs.append(run)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._come)

    def awaited(self, run: AioRun) -> None:
        """Somebody drives it."""
        runs = self._runs
        if runs and runs[-1] is run:  # nearly always; calls that end without a turn of the loop do not pile up here
            runs.pop()

    def destroy(self, call: Any) -> None:
        """Keep ``call`` until then."""
        self._spent.append(call)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._come)

    def _come(self) -> None:
        self._scheduled = False
        self._spent.clear()
        runs, self._runs = self._runs, []
        for run in runs:
            if run.waiting is not None:
                run.begin()
