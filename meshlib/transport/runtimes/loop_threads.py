"""How long what an event loop hands to threads stands in line for one (ResiliencePolicy ``loadShedding.maxQueueTime``).

Starlette and FastAPI run endpoints and dependencies that are plain functions in anyio's threads, of which a loop has 40. anyio
does not tell how long they wait, so somebody of ours stands in the same line while there is one. Other threads (asyncio's
executor, asgiref's, those of the application) are not known.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.transport.runtimes.thread_line import ThreadLine

if TYPE_CHECKING:
    from anyio import CapacityLimiter


class LoopThreads:
    """Of all loops of a door; ``now`` tells the time in seconds."""

    __slots__ = ("_by_loop", "_looking", "_now")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._by_loop: dict[asyncio.AbstractEventLoop, ThreadLine] = {}
        self._looking: set[asyncio.Task[None]] = set()

    @property
    def known(self) -> bool:
        """Whether there are threads whose line can be seen: whether anything has loaded anyio."""
        return "anyio.to_thread" in sys.modules

    def seconds(self) -> float:
        """How long it takes on the running loop; 0 where none runs, or nobody uses anyio."""
        to_thread = sys.modules.get("anyio.to_thread")
        if to_thread is None:
            return 0.0
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return 0.0
        line = self._by_loop.get(loop)
        if line is None:
            for ended in [other for other in list(self._by_loop) if other.is_closed()]:
                self._by_loop.pop(ended, None)
            line = self._by_loop[loop] = ThreadLine(self._now)
        limiter: CapacityLimiter = to_thread.current_default_thread_limiter()
        if limiter.available_tokens <= 0 and line.wants_look():
            task = loop.create_task(_look(limiter, line, line.join()))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)
        return line.seconds()


async def _look(limiter: CapacityLimiter, line: ThreadLine, ticket: int) -> None:
    borrower = object()
    try:
        await limiter.acquire_on_behalf_of(borrower)
        limiter.release_on_behalf_of(borrower)
        line.begin(ticket)
    finally:
        line.leave(ticket)
