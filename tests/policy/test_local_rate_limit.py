"""Envoy's local rate limit: which buckets a request takes from. (tests/differential asks a real one.)"""

from __future__ import annotations

import pytest

from meshlib.policy.local_rate_limit import DescriptorBucket, LocalLimiter, LocalRateLimit
from meshlib.policy.token_bucket import Rate

SLOW, FAST, WIDE = Rate(1, 3600.0, 1), Rate(10, 3600.0, 3), Rate(100, 3600.0, 5)
A, B = (("k", "a"),), (("k", "b"),)


def taken(limiter: LocalLimiter, *descriptors, times: int = 1, connection: str = "") -> list[bool]:
    return [limiter.take([(d, 1) for d in descriptors], 0.0, connection)[0] for _ in range(times)]


def test_without_descriptors_all_take_from_the_default():
    assert taken(LocalLimiter(LocalRateLimit(FAST)), times=4) == [True] * 3 + [False]


def test_a_descriptor_takes_from_its_own_and_from_the_default():
    limiter = LocalLimiter(LocalRateLimit(FAST, (DescriptorBucket(A, WIDE),)))
    assert taken(limiter, A, times=4) == [True] * 3 + [False], "the default is empty"
    limiter = LocalLimiter(LocalRateLimit(FAST, (DescriptorBucket(A, WIDE),), always_default=False))
    assert taken(limiter, A, times=6) == [True] * 5 + [False]
    assert taken(limiter, B, times=4) == [True] * 3 + [False]


def test_the_slowest_refuses_first_and_the_others_keep_their_tokens():
    limiter = LocalLimiter(LocalRateLimit(None, (DescriptorBucket(A, FAST), DescriptorBucket(B, SLOW))))
    assert taken(limiter, A, B, times=4) == [True, False, False, False]
    assert taken(limiter, A, times=3) == [True, True, False]


def test_an_open_value_has_a_bucket_each():
    limiter = LocalLimiter(LocalRateLimit(None, (DescriptorBucket((("k", ""),), SLOW),)))
    assert [taken(limiter, d) for d in (A, B, A, B)] == [[True], [True], [False], [False]]
    assert taken(limiter, (("k", "a"), ("x", "y"))) == [True], "other keys are others"


def test_more_keys_than_envoy_would_keep_are_kept():
    limiter = LocalLimiter(LocalRateLimit(None, (DescriptorBucket((("k", ""),), SLOW),)))
    keys = [(("k", str(number)),) for number in range(100)]
    assert [taken(limiter, key) for key in keys] == [[True]] * 100
    assert [taken(limiter, key) for key in keys] == [[False]] * 100


def test_a_bucket_in_shadow_refuses_nothing():
    limiter = LocalLimiter(LocalRateLimit(None, (DescriptorBucket(A, SLOW, shadow=True),)))
    assert taken(limiter, A, times=3) == [True] * 3


def test_each_connection_may_have_its_own_buckets():
    limiter = LocalLimiter(LocalRateLimit(SLOW, (DescriptorBucket((("k", ""),), SLOW),)))
    assert [taken(limiter, A, connection=c) for c in ("1", "2", "1")] == [[True], [True], [False]]


@pytest.mark.parametrize("always", [True, False])
def test_what_is_told_is_of_the_slowest_as_it_is_left(always):
    limiter = LocalLimiter(LocalRateLimit(WIDE, (DescriptorBucket(A, FAST),), always))
    allowed, told = limiter.take([(A, 1), (A, 1)], 0.0)
    assert allowed
    assert told is not None
    assert (told.limit, told.remaining) == (3, 1)
    assert LocalLimiter(LocalRateLimit(None)).take([], 0.0) == (True, None)


def test_a_request_may_count_for_several_or_none():
    limiter = LocalLimiter(LocalRateLimit(None, (DescriptorBucket(A, FAST),)))
    assert [limiter.take([(A, hits)], 0.0)[0] for hits in (2, 2, 1, 1, 0)] == [True, False, True, False, True]


def test_a_child_of_a_fork_waits_for_nobody():
    limiter = LocalLimiter(LocalRateLimit(SLOW, (DescriptorBucket(A, SLOW), DescriptorBucket((("o", ""),), SLOW))))
    for inner in (limiter._default, limiter._exact[A].limiter, limiter._open[0].limiter):
        inner._lock.acquire()
    limiter.after_fork()
    assert taken(limiter, A, (("o", "x"),)) == [True]
