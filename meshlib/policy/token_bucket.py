"""Rate limits by token buckets, one a key: Envoy's local rate limit (``token_bucket`` of its local_ratelimit filter).

A bucket begins full. It fills all the time, ``requests`` tokens each ``per`` seconds, up to ``burst``; a request takes one
out, and is refused when there is not one. (Envoy fills continuously, too: a bucket of 10 each second has one more
token every 100 ms, not ten at once.)
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock

MAX_KEYS = 10_000
"""Buckets of a limiter. The one that was not asked for longest is forgotten when there is one more: of those who take seldom,
it is full again by then."""
MAX_KEY = 200
"""Characters of a key that is kept as it is; of longer ones a digest is: what strangers send takes no more memory."""
SLOWEST = 365 * 24 * 3600.0
"""Seconds in which at least one token comes, as in Envoy."""

_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "m": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_RATE = re.compile(r"\s*([0-9]{1,9})\s*(?:/|\s+per\s+)\s*([0-9]{1,6})?\s*([a-z]+?)s?\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """``requests`` each ``per`` seconds, and at most ``burst`` at once (0: none is ever let through)."""

    requests: int
    per: float
    burst: int

    @property
    def interval(self) -> float:
        """Seconds from one token to the next."""
        return min(self.per / self.requests, SLOWEST) if self.requests else SLOWEST


def parse_rate(text: str) -> Rate:
    """The rate of ``"10/second"``, ``"100/minute"``, ``"5 per 2 hours"``, ``"1000/day"``: as many at once as come in the
    whole time. Raises ValueError: what is wrong with it."""
    found = _RATE.fullmatch(text)
    unit = None if found is None else _UNITS.get(found[3].lower())
    if found is None or unit is None:
        raise ValueError(
            f"{text!r} is not a valid rate: for example 10/second, 100/minute, 5/hour or 20 per 30 seconds"
        )
    requests, times = int(found[1]), int(found[2] or 1)
    if not requests or not times:
        raise ValueError(f"{text!r} is not a valid rate: both numbers are at least 1")
    return Rate(requests, float(times * unit), requests)


class Taken:
    """What became of a request at a bucket: whether it was ``allowed``."""

    __slots__ = ("_missing", "_rate", "_tokens", "allowed")

    def __init__(self, allowed: bool, tokens: float, missing: float, rate: Rate) -> None:
        self.allowed = allowed
        self._tokens = tokens
        self._missing = missing
        self._rate = rate

    @property
    def limit(self) -> int:
        """How many tokens the bucket holds."""
        return self._rate.burst

    @property
    def remaining(self) -> int:
        """Whole tokens that are left."""
        return int(self._tokens)

    @property
    def retry_after(self) -> float:
        """Seconds until there are enough tokens; 0 when it was let through."""
        return self._missing * self._rate.interval

    @property
    def reset(self) -> float:
        """Seconds from now to the next whole token; 0 when there is one."""
        return (1.0 - self._tokens) * self._rate.interval if self._tokens < 1.0 else 0.0

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        verdict = "allowed" if self.allowed else f"refused for {self.retry_after:.3g} s"
        return f"<Taken {verdict}, {self.remaining} of {self.limit} left>"


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at  # when there were so many


class Limiter:
    """The buckets of one limit, for threads and event loops alike."""

    __slots__ = ("_buckets", "_interval", "_limit", "_lock", "_max_keys", "rate")

    def __init__(self, rate: Rate, max_keys: int = MAX_KEYS) -> None:
        self.rate = rate
        self._limit = rate.burst
        self._interval = rate.interval
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float, hits: int = 1) -> Taken:
        """Take ``hits`` tokens out of the bucket of ``key`` ("" when there is but one), all or none. ``now`` in seconds of a
        clock that only grows; a reading older than the last one fills nothing."""
        if len(key) > MAX_KEY:
            key = _digest(key)
        limit = self._limit
        buckets = self._buckets
        with self._lock:
            bucket = buckets.get(key)
            if bucket is None:
                tokens: float = limit
                bucket = buckets[key] = _Bucket(tokens, now)
                if len(buckets) > self._max_keys:
                    buckets.popitem(last=False)
            else:
                buckets.move_to_end(key)
                tokens = bucket.tokens
                if now > bucket.at:
                    tokens += (now - bucket.at) / self._interval
                    if tokens > limit:
                        tokens = limit
                    bucket.at = now
            if tokens >= hits:
                bucket.tokens = tokens = tokens - hits
                return Taken(True, tokens, 0.0, self.rate)
            bucket.tokens = tokens
        return Taken(False, tokens, hits - tokens, self.rate)

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = Lock()


def _digest(key: str) -> str:
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=32).hexdigest()
