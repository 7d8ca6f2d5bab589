"""The end of an event loop, of which asyncio tells nobody.

What ends a loop well (``asyncio.run``, ``asyncio.Runner``, anyio, uvloop) first ends its asynchronous generators, so that one
which waits there learns of it while the loop can still close connections. A loop that is only stopped and closed
(``loop.close()`` alone) tells nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from meshlib.transport.upstream.loop_connection import closed


class LoopEnds:
    """``ended`` is called on a loop that ends, once, when its tasks are over (other generators may still end beside it); some
    turns are waited for then, so that what ``ended`` closes holds no socket any more."""

    def __init__(self, ended: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self._ended = ended
        self._watched: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None] | None] = {}  # None: it is over

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be told of the end of the running loop."""
        if loop in self._watched:
            return
        for over in [other for other in list(self._watched) if other.is_closed()]:
            self._watched.pop(over, None)
        self._watched[loop] = waiting = self._until_end(loop)
        # asyncio warns of a generator that begins after the others have been ended: this one will not be told, that is all
        with contextlib.suppress(StopIteration, ResourceWarning):
            waiting.__anext__().send(None)

    async def _until_end(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        except GeneratorExit:
            if self._watched.get(loop) is None:
                raise  # ``forget``: nobody wants to know any more
            self._watched[loop] = None
            self._ended(loop)
            await closed()
            raise

    def forget(self) -> None:
        """Nobody wants to know any more. From any thread."""
        for loop, waiting in list(self._watched.items()):
            self._watched[loop] = None
            if waiting is not None:
                # a RuntimeError: its loop ends it at this very moment
                with contextlib.suppress(StopIteration, StopAsyncIteration, RuntimeError):
                    waiting.aclose().send(None)
