"""What is written at the end of a turn of an event loop: all of it at once.

Who writes to a socket wakes the process that reads it, if that sleeps, which costs as much as the write itself (more, where its
core sleeps, too). Written one by one, between the work for one request and the next, a backend of this machine is woken for
each of them and asleep again before the next: 0.8 times a request with 64 connections, and 0.04 with this. That was a fifth of
what the proxy took (row "proxy: HTTP/1.1").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MOST = 64
"""Functions that are kept for the end of the turn: with as many, they are called at once, so that who waits for the first need
not wait for a thousand."""


class Turn:
    """The turn that the loop is in. ``call_soon`` functions at its end, in their order, by one handle of the loop. Not
    thread-safe: of its loop."""

    __slots__ = ("_due", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[Callable[[], None]] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        """Once."""
        due = self._due
        due.append(function)
        if len(due) == 1:
            self._loop.call_soon(self.end)
        elif len(due) >= MOST:
            self.end()

    def end(self) -> None:
        """Call what was asked for."""
        due, self._due = self._due, []
        rest = iter(due)
        while True:
            try:
                for function in rest:
                    function()
                return
            except Exception as error:  # noqa: BLE001 (as of a function of the loop's own: the others are called)
                said = {"message": "a write at the end of a turn failed", "exception": error}
                self._loop.call_exception_handler(said)
