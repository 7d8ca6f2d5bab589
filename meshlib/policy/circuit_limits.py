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
    no limit, as ``tcp_idle_timeout`` (of connections that are no HTTP) 0; ``http2_keepalive`` is (interval, timeout). Despite
    their names ``http1_max_pending_requests`` and ``http2_max_requests`` count for both protocols."""

    max_connections: int = UNLIMITED
    connect_timeout: float = 10.0
    idle_timeout: float = 3600.0
    max_connection_duration: float | None = None
    tcp_idle_timeout: float = 3600.0
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


class Place:
    """What one call has of ``Slots``: a slot, or a place in line, or nothing (any more).

    It changes in one step with the count, so that an interrupt (Ctrl-C comes between any two lines that call something)
    never leaves a slot that nobody knows to be his; and giving back twice gives back once.
    """

    __slots__ = ("slots", "waiter")

    def __init__(self, slots: Slots | None = None) -> None:
        self.slots = slots  # whose slot is held
        self.waiter: Waiter | None = None

    def give_back(self, slots: Slots) -> None:
        """Leave the line, release the slot: whatever there is of ``slots``."""
        if self.waiter is not None:
            slots.cancel(self.waiter)
        if self.slots is not None:
            slots.release(self)


class Waiter:
    """A place in line. ``state`` moves once: waiting -> granted, or waiting -> cancelled."""

    __slots__ = ("place", "state", "wake")

    def __init__(self, wake: Callable[[], None], place: Place) -> None:
        self.wake = wake
        self.place = place
        self.state = "waiting"


class Slots:
    """``limit`` slots and a first-come line of at most ``pending_limit``, for threads and event loops alike.

    A released slot goes straight to the first in line, so nobody can overtake; a waiter that gives up at the very moment
    it is granted keeps the slot and must release it (``cancel`` tells). The lock is re-entrant: the garbage collector may
    finalise an abandoned response, which releases, while this thread is inside.
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

    def try_acquire(self, place: Place | None = None) -> bool:
        """Take a free slot, into ``place``; False when there is none. (While somebody stands in line there is none: a
        released slot goes to the line.)"""
        if place is None:
            place = Place()
        with self._lock:
            if self.in_use >= self.limit:
                return False
            self.in_use, place.slots = self.in_use + 1, self
            return True

    def enqueue(self, wake: Callable[[], None], place: Place | None = None) -> Waiter | None:
        """Stand in line: ``wake`` is called once, from whichever thread releases, when the slot is in ``place``. None when
        the line is full (overflow). A slot that is free at once is granted at once, before this returns."""
        if place is None:
            place = Place()
        waiter = Waiter(wake, place)
        with self._lock:
            if self.in_use < self.limit:
                self.in_use, waiter.state, place.slots = self.in_use + 1, "granted", self
            elif len(self._line) >= self.pending_limit:
                return None
            else:
                place.waiter = waiter
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
            if waiter in self._line:  # an interrupt may have come before it stood there, or before it left
                self._line.remove(waiter)
            return False

    def admit(self, waiter: Waiter) -> None:
        """Let one who stands in line through although no slot is free: the mesh is closed, and what it goes on to do fails.
        It has a slot to release, as any other."""
        with self._lock:
            if waiter.state != "waiting":
                return
            self.in_use, waiter.state, waiter.place.slots = self.in_use + 1, "granted", self
            self._line.remove(waiter)
        waiter.wake()

    def release(self, place: Place | None = None) -> None:
        """Give the slot of ``place`` back, if it (still) has one, to the first in line if there is one."""
        if place is None:
            place = Place(self)
        waiter: Waiter | None = None
        try:
            with self._lock:
                line = self._line
                while line and line[0].state != "waiting":
                    line.popleft()
                if place.slots is not self:
                    return
                if not line:
                    self.in_use, place.slots = self.in_use - 1, None
                    return
                waiter = line[0]
                waiter.state, waiter.place.slots, place.slots = "granted", self, None
                line.popleft()
        finally:
            if waiter is not None and waiter.state == "granted":
                try:
                    waiter.wake()
                except BaseException:
                    waiter.wake()  # interrupted: nobody else would
                    raise
