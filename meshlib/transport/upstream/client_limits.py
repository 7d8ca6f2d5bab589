"""``limits=`` of one client (httpx.Limits): how many connections it may have, and how long it keeps those it does not use.

The mesh's own limits (DestinationRule ``connectionPool``) count for all clients of a process; these count beside them. A
connection in use holds a slot. HTTP/1.1: from the request to the end of its response; what is idle holds none, and makes
room for a new connection when it must. HTTP/2: as long as it is open, whatever the number of its streams; an idle one is
closed when somebody waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import RLock
from typing import Protocol

from meshlib.engine.effects import Acquire
from meshlib.policy.circuit_limits import Slots


class HttpxLimits(Protocol):
    """``httpx.Limits``."""

    max_connections: int | None
    max_keepalive_connections: int | None
    keepalive_expiry: float | None


class ClientLimits:
    """``max_idle`` and ``expiry`` (seconds) as httpx's ``max_keepalive_connections`` and ``keepalive_expiry``; None: no limit.
    ``slots``: None without ``max_connections``. ``acquire`` waits for an ``Acquire`` in threads, ``acquire_async`` on a loop;
    there is the one that the client needs."""

    __slots__ = ("__weakref__", "acquire", "acquire_async", "expiry", "lock", "max_idle", "slots")

    acquire: Callable[[Acquire], bool | None]
    acquire_async: Callable[[Acquire], Awaitable[bool | None]]

    def __init__(self, limits: HttpxLimits) -> None:
        most = limits.max_connections
        if most is not None and most < 1:
            raise ValueError(f"max_connections={most} would let no call through; None means no limit")
        self.slots = None if most is None else Slots(most)
        self.max_idle: int | None = limits.max_keepalive_connections
        self.expiry: float | None = limits.keepalive_expiry
        self.lock = RLock()

    @property
    def waited_for(self) -> bool:
        """Whether somebody stands in line for a slot."""
        return self.slots is not None and self.slots.pending > 0

    def too_many(self, idle: int) -> bool:
        """Whether ``idle`` connections are more than may be kept."""
        return self.max_idle is not None and idle > self.max_idle

    def excess(self, idle: int) -> int:
        """How many of ``idle`` HTTP/1.1 connections must go before the next one is made; its slot is taken already."""
        return 0 if self.slots is None else min(idle, self.slots.in_use + idle - self.slots.limit)

    def after_fork(self) -> None:
        """In a forked child: those who hold slots, or the lock, do not exist."""
        self.lock = RLock()
        if self.slots is not None:
            self.slots = Slots(self.slots.limit)
