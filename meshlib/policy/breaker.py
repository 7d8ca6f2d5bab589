"""A circuit breaker for a whole service (ResiliencePolicy ``circuitBreaker``), on pybreaker.

State, counters and storages (memory, Redis) are pybreaker's; deciding and recording are apart here, because a call through
the mesh is no function to wrap, and time comes in from outside. ``wall`` is wall-clock seconds, so that a fleet that
shares a storage agrees on when the breaker opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock

import pybreaker


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Opens after ``failure_threshold`` failures in a row; ``reset_timeout`` seconds later one call may try. ``redis``: URL
    of a storage shared by a fleet, "" for this process's memory."""

    failure_threshold: int = 5
    reset_timeout: float = 30.0
    redis: str = field(default="", repr=False)  # there may be a password in it


class Breaker:
    """closed -> open -> half-open -> closed or open again. One trial at a time in each process while half-open."""

    def __init__(self, settings: BreakerSettings, storage: pybreaker.CircuitBreakerStorage | None = None) -> None:
        self.settings = settings
        self.storage = storage if storage is not None else pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=settings.failure_threshold, reset_timeout=settings.reset_timeout, state_storage=self.storage
        )
        self._lock = RLock()
        self._trial = False

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return str(self.storage.state)

    def admit(self, wall: float) -> bool:
        """Whether a call may be made now; with the trial of a half-open breaker comes the duty to ``record`` or
        ``abandon`` it."""
        if self.storage.state == pybreaker.STATE_CLOSED:
            return True
        with self._lock:
            if self.storage.state == pybreaker.STATE_OPEN:
                opened = self.storage.opened_at
                if opened is not None and wall < opened.timestamp() + self.settings.reset_timeout:
                    return False
                self._breaker.half_open()
                self._trial = False
            if self._trial:
                return False
            self._trial = True
            return True

    def record(self, success: bool, wall: float) -> None:
        """How a call ended."""
        storage = self.storage
        if success and storage.state == pybreaker.STATE_CLOSED:
            if storage.counter:
                storage.reset_counter()
            return
        with self._lock:
            state = storage.state
            if state == pybreaker.STATE_HALF_OPEN:
                self._trial = False
                if success:
                    storage.reset_counter()
                    self._breaker.close()
                else:
                    self._open(wall)
            elif state == pybreaker.STATE_CLOSED and not success:
                storage.increment_counter()
                if storage.counter >= self.settings.failure_threshold:
                    self._open(wall)

    def abandon(self) -> None:
        """A call ended without a verdict (it was cancelled): another one may be the trial."""
        self._trial = False

    def _open(self, wall: float) -> None:
        self._breaker.open()
        self.storage.opened_at = datetime.fromtimestamp(wall, UTC)
