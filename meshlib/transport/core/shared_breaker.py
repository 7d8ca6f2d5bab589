"""A circuit breaker's storage in Redis, shared by a fleet, without a round trip on the path of calls.

pybreaker's own Redis storage does the talking, in a background thread: what this process decides is written as soon as
possible, what others decided is read every ``REFRESH`` seconds while the breaker is in use. When Redis is away, the breaker
goes on with what this process knows.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pybreaker

log = logging.getLogger("meshlib.breaker")

REFRESH = 0.1
IDLE = 5.0
"""Seconds without a question after which others' decisions are no longer read."""
TIMEOUT = 1.0
"""Seconds that Redis's client waits for a connection, or a response."""


class SharedStorage(pybreaker.CircuitBreakerStorage):
    """``errors`` counts conversations with Redis that failed."""

    def __init__(self, url: str, host: str) -> None:
        super().__init__("shared")
        self._url = url
        self._host = host
        self._state: str = pybreaker.STATE_CLOSED
        self._counter = 0
        self._opened_at: datetime | None = None
        self._jobs: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.errors = 0

    # -- what pybreaker asks: answered from memory ----------------------------------------------------------------------

    @property
    def state(self) -> str:
        self._asked.set()
        if self._thread is None:
            self._start()
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        self._later(lambda redis: setattr(redis, "state", state))

    @property
    def counter(self) -> int:
        return self._counter

    def increment_counter(self) -> None:
        self._counter += 1
        self._later(lambda redis: redis.increment_counter())

    def reset_counter(self) -> None:
        self._counter = 0
        self._later(lambda redis: redis.reset_counter())

    @property
    def success_counter(self) -> int:
        return 0

    def increment_success_counter(self) -> None:
        """Not used: one success closes the breaker."""

    def reset_success_counter(self) -> None:
        """Not used."""

    @property
    def opened_at(self) -> datetime | None:
        return self._opened_at

    @opened_at.setter
    def opened_at(self, at: datetime) -> None:
        self._opened_at = at
        self._later(lambda redis: setattr(redis, "opened_at", at))

    # -- the conversation -----------------------------------------------------------------------------------------------

    def _later(self, job: Callable[[Any], None]) -> None:
        if self._jobs.qsize() < 1000:  # Redis is away: what is decided here still counts here
            self._jobs.put(job)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._talk, name="meshlib-breaker", daemon=True)
                self._thread.start()

    def _talk(self) -> None:
        redis: Any = None
        while True:
            try:
                job = self._jobs.get(timeout=REFRESH)
            except queue.Empty:
                if not self._asked.wait(IDLE):
                    continue
                self._asked.clear()
                job = self._read
            if job is None:
                return
            try:
                if redis is None:
                    redis = self._connect()
                redis._redis.ping()  # pybreaker's storage swallows errors: ask in a way that tells
                job(redis)
            except Exception as error:  # noqa: BLE001 (whatever the client raises, calls go on; it is counted)
                redis = None
                self.errors += 1
                if self.errors == 1:
                    # without the text of others: that may have the URL in it, and the password
                    why = str(error) if isinstance(error, ImportError) else type(error).__name__
                    log.warning(
                        "the circuit breaker of %s works without Redis: %s; further failures are only counted "
                        "(status: failures)",
                        self._host,
                        why,
                    )

    def _connect(self) -> Any:
        try:
            import redis as client
        except ImportError as error:
            raise ImportError("Redis needs the library redis: pip install 'sidecarless[redis]'") from error
        made = client.Redis.from_url(self._url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        return pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, made, namespace=f"meshlib:{self._host}")

    def _read(self, redis: Any) -> None:
        if not self._jobs.empty():
            return  # something of ours is on its way: what Redis says is older
        self._counter = redis.counter
        self._opened_at = redis.opened_at
        before, self._state = self._state, redis.state
        if self._state != before and self._state != pybreaker.STATE_HALF_OPEN:
            log.info("the circuit breaker of %s is %s: another process of the fleet says so", self._host, self._state)

    def after_fork(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._lock = threading.Lock()
        self._jobs = queue.SimpleQueue()
        self._thread = None

    def close(self) -> None:
        """End the conversation."""
        self._jobs.put(None)
