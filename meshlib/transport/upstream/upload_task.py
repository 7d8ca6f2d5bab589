"""``UploadTask``: a request's body on its way beside the response, on an event loop."""

from __future__ import annotations

import asyncio


class UploadTask:
    """Sends from when it is made, with its connection's loop, until ``_send`` has ended or nobody wants the rest."""

    __slots__ = ("_task",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task: asyncio.Task[None] | None = loop.create_task(self._send())

    def stop(self) -> None:
        """Nobody hears the rest."""
        task, self._task = self._task, None  # its error has this in its frames: a cycle, if this kept it
        if task is not None:
            task.cancel()

    async def _send(self) -> None:
        raise NotImplementedError
