"""Rate limits that a fleet counts together in Redis, through the library ``limits``.

Redis is spoken to in a background thread, so that no event loop waits for it; a request waits for its question, at most as long
as the limit says. When Redis does not say, or was away a moment ago, the request is let through (whoever asks counts that).
"""

from __future__ import annotations

import logging
import queue
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from meshlib.engine.effects import Wait
from meshlib.engine.flight import Flight
from meshlib.policy.token_bucket import Taken

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

    from meshlib.clock import Clock
    from meshlib.compiler.inbound_protection import RateLimit, SharedCount
    from meshlib.engine.inbound_limits import Counting, SharedCounter

log = logging.getLogger("meshlib.limits")

MOST_WAITING = 1000
AWAY = 1.0
"""Seconds after a failure in which nobody asks: the requests would only wait."""
TIMEOUT = 1.0
"""Seconds that Redis's client waits for a connection, or a response."""


class Question(Flight):
    """One that waits for an answer. ``abandoned``: nobody waits for it any more."""

    __slots__ = ("abandoned", "key", "limit", "taken")

    def __init__(self, limit: RateLimit, key: str) -> None:
        super().__init__()
        self.limit = limit
        self.key = key
        self.taken: Taken | None = None
        self.abandoned = False


class Counts(Protocol):
    """What counts: whether one more is within its limit."""

    def __call__(self, limit: RateLimit, key: str) -> Taken: ...


class RedisCounter:
    """One Redis. ``errors`` counts conversations that failed."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._away_until = 0.0
        self.errors = 0

    def count(self, limit: RateLimit, key: str) -> Counting:
        """As ``SharedCounter`` has it."""
        if self._clock.monotonic() < self._away_until or self._questions.qsize() >= MOST_WAITING:
            return None
        question = Question(limit, key)
        self._questions.put(question)
        if self._thread is None:
            self._start()
        assert limit.shared is not None
        try:
            yield Wait(question, limit.shared.timeout)
        finally:
            question.abandoned = not question.landed
        return question.taken

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                arguments = (self._questions,)
                self._thread = threading.Thread(target=self._talk, args=arguments, name="meshlib-limits", daemon=True)
                self._thread.start()

    def _talk(self, questions: queue.SimpleQueue[Question | None]) -> None:
        counts: Counts | None = None
        while (question := questions.get()) is not None:
            if question.abandoned:  # the request has gone in
                continue
            try:
                counts = counts or counting(self._url, self._clock)
                question.taken = counts(question.limit, question.key)
            except Exception as error:  # noqa: BLE001 (whatever the client raises, requests go on; it is counted)
                counts = None
                self._away_until = self._clock.monotonic() + AWAY
                self.errors += 1
                if self.errors == 1:
                    # without the text of others: that may have the URL in it, and the password
                    why = str(error) if isinstance(error, ImportError) else type(error).__name__
                    log.warning("rate limits work without Redis: %s; further failures are only counted", why)
            question.land()

    def after_fork(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._lock = threading.Lock()
        self._questions = queue.SimpleQueue()
        self._thread = None

    def close(self) -> None:
        """End the conversation."""
        self._questions.put(None)


def counting(url: str, clock: Clock) -> Counts:
    """Whole windows, counted by the library ``limits``. Raises ImportError when it is not installed."""
    try:
        from limits import RateLimitItemPerSecond
        from limits.storage import storage_from_string
        from limits.strategies import FixedWindowRateLimiter
    except ImportError as error:
        raise ImportError("rate limits in Redis need the library limits: pip install 'sidecarless[redis]'") from error
    if url.startswith("unix://"):
        url = f"redis+{url}"
    options = {} if url.startswith("memory:") else {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    strategy: RateLimiter = FixedWindowRateLimiter(storage_from_string(url, **options))

    def counts(limit: RateLimit, key: str) -> Taken:
        rate = limit.rate
        item: RateLimitItem = RateLimitItemPerSecond(rate.requests, max(1, round(rate.per)), namespace="meshlib")
        # what keys are (API keys among them) is nobody's business who may read Redis
        names = limit.name, blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        allowed = strategy.hit(item, *names)
        window = strategy.get_window_stats(item, *names)
        missing = 0.0 if allowed else max(0.0, window.reset_time - clock.time()) / rate.interval
        return Taken(allowed, float(window.remaining), missing, rate)

    return counts


class SharedLimits:
    """Those of a mesh, one for each Redis."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[str, RedisCounter] = {}

    def counter(self, settings: SharedCount) -> SharedCounter:
        """What counts there."""
        found = self._made.get(settings.redis)
        if found is None:
            found = self._made[settings.redis] = RedisCounter(settings.redis, self._clock)
        return found

    @property
    def errors(self) -> int:
        """Conversations that failed."""
        return sum(counter.errors for counter in self._made.values())

    def after_fork(self) -> None:
        for counter in self._made.values():
            counter.after_fork()

    def close(self) -> None:
        for counter in self._made.values():
            counter.close()
