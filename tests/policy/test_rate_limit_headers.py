"""What callers are told of limits."""

from __future__ import annotations

import pytest

from meshlib.policy.rate_limit_headers import LONGEST, plain_x_ratelimit, retry_after, x_ratelimit
from meshlib.policy.token_bucket import Limiter, Rate


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (0.0, b"1"),
        (0.1, b"1"),
        (1.0, b"1"),
        (1.0000000001, b"1"),
        (1.2, b"2"),
        (59.5, b"60"),
        (float("inf"), b"%d" % LONGEST),
    ],
)
def test_retry_after_is_in_whole_seconds_and_at_least_one(seconds, value):
    assert retry_after(seconds) == (b"retry-after", value)


def test_the_headers_of_the_draft_have_limit_window_rest_and_reset():
    rate = Rate(10, 60.0, 2)
    limiter = Limiter(rate)
    assert x_ratelimit(limiter.take("", 0.0), rate) == (
        (b"x-ratelimit-limit", b"2, 10;w=60"),
        (b"x-ratelimit-remaining", b"1"),
        (b"x-ratelimit-reset", b"0"),
    )
    limiter.take("", 0.0)
    assert x_ratelimit(limiter.take("", 0.0), rate)[1:] == (
        (b"x-ratelimit-remaining", b"0"),
        (b"x-ratelimit-reset", b"6"),
    )


def test_envoys_local_rate_limit_tells_the_bare_numbers():
    assert plain_x_ratelimit(10, 3, -1) == (
        (b"x-ratelimit-limit", b"10"),
        (b"x-ratelimit-remaining", b"3"),
        (b"x-ratelimit-reset", b"0"),
    )
