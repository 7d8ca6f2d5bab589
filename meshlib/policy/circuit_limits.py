"""Connection-pool limits (DestinationRule ``connectionPool``) and the fair line for a connection slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock

UNLIMITED = 2**32 - 1
"""Istio's default for every count: effectively no limit."""


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """Counts per client process and cluster; times in seconds (None: no limit). ``max_requests_per_connection`` 0 means
    no limit; ``http2_keepalive`` is (interval, timeout). Despite their names ``http1_max_pending_requests`` and
    ``http2_max_requests`` count for both protocols."""

    max_connections: int = UNLIMITED
    connect_timeout: float = 10.0
    idle_timeout: float = 3600.0
    max_connection_duration: float | None = None
    http1_max_pending_requests: int = UNLIMITED
    http2_max_requests: int = UNLIMITED
    max_requests_per_connection: int = 0
    max_retries: int = UNLIMITED
    max_concurrent_streams: int = 2**31 - 1
    tcp_keepalive: TcpKeepalive | None = None
    http2_keepalive: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TcpKeepalive:
    """Probes of idle connections; 0 leaves the system's value. ``time`` and ``interval`` in whole seconds."""

    probes: int = 0
    time: int = 0
    interval: int = 0


class Waiter:
    """A place in line. ``state`` moves once: waiting -> granted, or waiting -> cancelled."""

    __slots__ = ("state", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.state = "waiting"


class Slots:
    """``limit`` slots and a first-come line of at most ``pending_limit``, for threads and event loops alike.

    A released slot goes straight to the first in line, so nobody can overtake; a waiter that gives up at the very moment
    it is granted keeps the slot and must release it (``cancel`` tells). The lock is re-entrant: the garbage collector may
    finalise an abandoned answer, which releases, while this thread is inside.
    """

    __slots__ = ("_line", "_lock", "in_use", "limit", "pending_limit")

    def __init__(self, limit: int, pending_limit: int = UNLIMITED) -> None:
        self.limit = max(1, limit)
        self.pending_limit = pending_limit
        self.in_use = 0
        self._line: deque[Waiter] = deque()
        self._lock = RLock()

    @property
    def pending(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def try_acquire(self) -> bool:
        """Take a free slot; False when there is none. (While somebody stands in line there is none: a released slot goes
        to the line.)"""
        with self._lock:
            if self.in_use >= self.limit:
                return False
            self.in_use += 1
            return True

    def enqueue(self, wake: Callable[[], None]) -> Waiter | None:
        """Stand in line: ``wake`` is called once, from whichever thread releases, when the slot is ours. None when the
        line is full (overflow). A slot that is free at once is granted at once, before this returns."""
        waiter = Waiter(wake)
        with self._lock:
            if self.in_use < self.limit:
                self.in_use += 1
                waiter.state = "granted"
            elif len(self._line) >= self.pending_limit:
                return None
            else:
                self._line.append(waiter)
                return waiter
        wake()
        return waiter

    def cancel(self, waiter: Waiter) -> bool:
        """Leave the line. True when the slot had been granted already: it is the caller's, to use or to release."""
        with self._lock:
            if waiter.state == "granted":
                return True
            if waiter.state == "waiting":
                waiter.state = "cancelled"
                self._line.remove(waiter)
            return False

    def admit(self, waiter: Waiter) -> None:
        """Let one who stands in line through although no slot is free: the mesh is closed, and what it goes on to do fails.
        It has a slot to release, as any other."""
        with self._lock:
            if waiter.state != "waiting":
                return
            self._line.remove(waiter)
            self.in_use += 1
            waiter.state = "granted"
        waiter.wake()

    def release(self) -> None:
        """Give a slot back, to the first in line if there is one."""
        with self._lock:
            if not self._line:
                self.in_use -= 1
                return
            waiter = self._line.popleft()
            waiter.state = "granted"
        waiter.wake()
