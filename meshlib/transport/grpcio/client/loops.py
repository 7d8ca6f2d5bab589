"""From one runtime to another: what belongs to an event loop is touched on that loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this thread runs ``loop`` right now."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def soon_on(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    """Do ``work`` on ``loop``: now if this is the loop, else at its next turn; not at all when it is closed, since what
    belonged to it ended with it."""
    if here(loop):
        work()
    elif not loop.is_closed():
        try:
            loop.call_soon_threadsafe(work)
        except RuntimeError:  # closed at this very moment
            return
