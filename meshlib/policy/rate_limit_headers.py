"""What callers are told of limits, in headers: ``retry-after``, ``x-ratelimit-limit``, ``-remaining`` and ``-reset``.

The latter are those of draft-polli-ratelimit-headers-03, as Envoy sends them: the limit, what is left of it, and in how many
whole seconds there is more.
"""

from __future__ import annotations

import math

from meshlib.policy.token_bucket import Rate, Taken

Headers = tuple[tuple[bytes, bytes], ...]
RATE_LIMITED: Headers = ((b"x-envoy-ratelimited", b"true"),)
OVERLOADED: Headers = ((b"x-envoy-overloaded", b"true"), (b"retry-after", b"1"))
LONGEST = 365 * 24 * 3600


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """In whole seconds, at least one: who comes back at once would be refused again."""
    whole = LONGEST if seconds >= LONGEST else max(1, math.ceil(seconds - 1e-6))
    return b"retry-after", b"%d" % whole


def x_ratelimit(taken: Taken, rate: Rate) -> Headers:
    """With the time window of the limit (``10, 10;w=60``)."""
    window = max(1, math.ceil(rate.per))
    return (
        (b"x-ratelimit-limit", b"%d, %d;w=%d" % (taken.limit, rate.requests, window)),
        *_left(taken.remaining, math.ceil(taken.reset - 1e-6)),
    )


def plain_x_ratelimit(limit: int, remaining: int, reset: int) -> Headers:
    """As Envoy's local rate limit has them."""
    return ((b"x-ratelimit-limit", b"%d" % limit), *_left(remaining, reset))


def quotas(limit: int, remaining: int, reset: int, windows: list[tuple[int, int, str]]) -> Headers:
    """As Envoy's filter ratelimit has them: the nearest limit, and all ``windows`` (requests, seconds, name)."""
    said = "".join(
        f", {requests};w={seconds}" + (f';name="{name}"' if name.isprintable() and '"' not in name and name else "")
        for requests, seconds, name in windows
    )
    return ((b"x-ratelimit-limit", f"{limit}{said}".encode()), *_left(remaining, reset))


def _left(remaining: int, reset: int) -> Headers:
    return (b"x-ratelimit-remaining", b"%d" % remaining), (b"x-ratelimit-reset", b"%d" % max(0, reset))
