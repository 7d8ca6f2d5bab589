"""Token buckets: Envoy's local rate limit, and the rates that users write."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.token_bucket import MAX_KEY, SLOWEST, Limiter, Rate, parse_rate

TEN = Rate(10, 1.0, 10)


def taken(limiter: Limiter, times: int, now: float, key: str = "") -> int:
    return sum(limiter.take(key, now).allowed for _ in range(times))


def test_a_bucket_begins_full_and_refuses_when_it_is_empty():
    limiter = Limiter(TEN)
    assert taken(limiter, 10, 5.0) == 10
    refused = limiter.take("", 5.0)
    assert not refused
    assert (refused.limit, refused.remaining) == (10, 0)
    assert refused.retry_after == pytest.approx(0.1)
    assert refused.reset == pytest.approx(0.1)


def test_it_fills_all_the_time_not_all_at_once():
    limiter = Limiter(TEN)
    taken(limiter, 10, 0.0)
    assert taken(limiter, 10, 0.05) == 0
    assert taken(limiter, 10, 0.1001) == 1
    assert taken(limiter, 10, 0.5001) == 4


def test_it_holds_no_more_than_its_burst_however_long_nobody_came():
    limiter = Limiter(Rate(10, 1.0, 3))
    assert taken(limiter, 10, 0.0) == 3
    assert taken(limiter, 10, 1e6) == 3


def test_a_burst_of_none_lets_nothing_through():
    limiter = Limiter(Rate(10, 1.0, 0))
    assert [taken(limiter, 1, now) for now in (0.0, 1.0, 100.0)] == [0, 0, 0]


def test_what_is_let_through_says_what_is_left():
    first = Limiter(TEN).take("", 0.0)
    assert first
    assert (first.limit, first.remaining, first.retry_after, first.reset) == (10, 9, 0.0, 0.0)
    last = Limiter(Rate(1, 60.0, 1)).take("", 0.0)
    assert last
    assert (last.remaining, last.reset) == (0, 60.0)


def test_several_tokens_are_taken_all_or_none():
    limiter = Limiter(TEN)
    assert limiter.take("", 0.0, 8).remaining == 2
    refused = limiter.take("", 0.0, 5)
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(0.3)
    assert limiter.take("", 0.0, 2).allowed


def test_each_key_has_its_own_bucket():
    limiter = Limiter(Rate(1, 1.0, 1))
    assert [limiter.take(key, 0.0).allowed for key in ("a", "b", "a", "b", "c")] == [True, True, False, False, True]


def test_a_clock_read_earlier_by_another_thread_fills_nothing_and_takes_nothing_back():
    limiter = Limiter(TEN)
    taken(limiter, 10, 10.0)
    refused = limiter.take("", 9.0)
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert refused.retry_after == pytest.approx(0.1)
    assert not limiter.take("", 10.05)
    assert limiter.take("", 10.11)


def test_keys_are_bounded_and_the_one_longest_unseen_is_forgotten():
    limiter = Limiter(Rate(1, 3600.0, 1), max_keys=3)
    for key in ("a", "b", "c"):
        limiter.take(key, 0.0)
    limiter.take("a", 1.0)  # seen again
    limiter.take("d", 2.0)  # b goes
    assert len(limiter) == 3
    assert not limiter.take("a", 3.0)
    assert limiter.take("b", 3.0)
    for number in range(1000):
        limiter.take(str(number), 4.0)
    assert len(limiter) == 3


def test_a_long_key_is_kept_as_a_digest_and_counts_the_same():
    limiter = Limiter(Rate(1, 3600.0, 1))
    long = "x" * 100_000
    assert limiter.take(long, 0.0)
    assert not limiter.take(long, 0.0)
    assert limiter.take(long + "y", 0.0)
    assert all(len(key) <= MAX_KEY for key in limiter._buckets)
    assert limiter.take("\udcff" * 300, 0.0)  # of bytes that are no text


def test_as_slow_as_envoy_goes_is_one_a_year():
    assert Rate(1, 3 * SLOWEST, 1).interval == SLOWEST
    assert Rate(0, 1.0, 1).interval == SLOWEST


def test_threads_never_get_one_token_more_than_there_are():
    limiter = Limiter(Rate(1, 1e6, 1000))
    got = [0] * 4

    def take(at: int) -> None:
        got[at] = taken(limiter, 500, 0.0)

    threads = [threading.Thread(target=take, args=(at,)) for at in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert sum(got) == 1000


def test_a_child_of_a_fork_waits_for_no_thread_of_its_parent():
    limiter = Limiter(TEN)
    limiter._lock.acquire()
    limiter.after_fork()
    assert limiter.take("", 0.0)


@given(
    st.integers(1, 50),
    st.floats(0.05, 100),
    st.integers(0, 50),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 3)), max_size=60),
)
def test_never_more_than_the_burst_and_what_has_come_since(requests, per, burst, steps):
    rate = Rate(requests, per, burst)
    limiter, now, let = Limiter(rate), 0.0, 0
    for wait, hits in steps:
        now += wait
        verdict = limiter.take("", now, hits)
        let += hits if verdict.allowed else 0
        assert let <= burst + now / rate.interval + 1e-6
        assert 0 <= verdict.remaining <= burst
        if not verdict.allowed and hits <= burst:
            # whoever waits as long as he is told is let through
            again = Limiter(rate)
            again._buckets[""] = type(limiter._buckets[""])(limiter._buckets[""].tokens, now)
            assert again.take("", now + verdict.retry_after * (1 + 1e-9) + 1e-9, hits)


# -- what users write -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "requests", "per"),
    [
        ("10/second", 10, 1),
        ("10/s", 10, 1),
        ("100/minute", 100, 60),
        ("100 / Minutes", 100, 60),
        ("5/hour", 5, 3600),
        ("5 per hour", 5, 3600),
        ("1000/day", 1000, 86400),
        ("20 per 30 seconds", 20, 30),
        ("20/30s", 20, 30),
        ("3/2h", 3, 7200),
        ("7/min", 7, 60),
    ],
)
def test_rates_as_people_write_them(text, requests, per):
    assert parse_rate(text) == Rate(requests, float(per), requests)


@pytest.mark.parametrize(
    "text",
    ["", "10", "/second", "10/", "10/fortnight", "-1/second", "1.5/s", "ten/second", "10/second/minute", "1/s s"],
)
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is not a valid rate: for example 10/second"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0/second", "10/0seconds"])
def test_a_rate_of_nothing_is_refused(text):
    with pytest.raises(ValueError, match="at least 1"):
        parse_rate(text)


@given(st.text(max_size=30))
def test_any_text_is_a_rate_or_a_value_error(text):
    try:
        rate = parse_rate(text)
    except ValueError:
        return
    assert rate.requests > 0
    assert rate.interval > 0
