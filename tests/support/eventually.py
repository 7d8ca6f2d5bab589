"""Waiting for what another thread does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether the condition holds, at the latest after so long. Somebody must look at that (``tests/test_laws.py``)."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


async def soon(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """The same for what also the loop of the test may have to do."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.002)
    return True


def turned(loop: asyncio.AbstractEventLoop) -> None:
    """When a loop of another thread is through with the turn that it is in, and a few more: what it counts after it has
    written a response is counted then. (Whoever reads the response may well be quicker.)"""
    done = threading.Event()

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        else:
            done.set()

    try:
        loop.call_soon_threadsafe(turn, 4)
    except RuntimeError:
        return  # it is closed, and has been through with everything
    until = time.monotonic() + 20
    while not done.wait(0.05) and not loop.is_closed():
        assert time.monotonic() < until, "the loop is stuck"
