"""Latency percentiles: near enough, and of the last seconds only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.latency import BUCKETS, GROWTH, SHORTEST, Latencies


@given(st.lists(st.floats(2e-5, 100), min_size=20, max_size=300), st.sampled_from([50, 90, 99]))
def test_a_percentile_is_right_within_a_bucket(values, percent):
    latencies = Latencies()
    for value in values:
        latencies.record(value, 1.0)
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    assert exact / 1.09 <= latencies.percentile(percent, 1.0) <= exact * 1.09


def test_old_latencies_are_forgotten_and_memory_stays():
    latencies = Latencies(window=10.0)
    for _ in range(100):
        latencies.record(1.0, 5.0)
    assert latencies.percentile(50, 14.0) == pytest.approx(1.0, rel=0.1)
    for _ in range(100):
        latencies.record(0.001, 16.0)
    assert latencies.percentile(50, 27.0) == pytest.approx(0.001, rel=0.1)
    assert latencies.percentile(50, 200.0) is None
    assert len(latencies._counts) == BUCKETS


def test_few_measurements_say_nothing():
    latencies = Latencies()
    for _ in range(19):
        latencies.record(1.0, 0.0)
    assert latencies.percentile(99, 0.0) is None


def measured(*seconds: float, at: float = 0.0) -> Latencies:
    latencies = Latencies()
    for value in seconds:
        latencies.record(value, at)
    return latencies


@pytest.mark.parametrize("seconds", [-1.0, 0.0, SHORTEST])
def test_what_is_too_short_to_tell_is_the_shortest(seconds):
    assert measured(seconds).percentile(50, 0.0, at_least=1) == SHORTEST


def test_what_is_too_long_to_tell_is_in_the_last_bucket():
    assert measured(1e9).percentile(50, 0.0, at_least=1) == pytest.approx(SHORTEST * GROWTH ** (BUCKETS - 1))
    assert SHORTEST * GROWTH ** (BUCKETS - 1) > 3000, "an hour, nearly"


@given(st.floats(2e-5, 1000))
def test_a_percentile_is_never_too_low_and_at_most_8_percent_too_high(seconds):
    told = measured(seconds).percentile(50, 0.0, at_least=1)
    assert seconds * 0.999999 <= told <= seconds * 1.080001


@pytest.mark.parametrize(("percent", "told"), [(1, 1), (50, 1), (50.1, 2), (75, 2), (75.1, 3), (100, 3)])
def test_a_percentile_is_what_so_many_were_within(percent, told):
    latencies = measured(1.0, 1.0, 2.0, 3.0)
    assert latencies.percentile(percent, 0.0, at_least=4) == pytest.approx(told, rel=0.09)
    assert latencies.percentile(percent, 0.0, at_least=5) is None


def test_a_measurement_counts_for_one_or_two_windows_of_half_a_minute():
    latencies = measured(1.0, at=29.9)
    assert latencies.percentile(50, 30.0, at_least=1) is not None
    assert latencies.percentile(50, 59.9, at_least=1) is not None
    assert latencies.percentile(50, 60.0, at_least=1) is None


def test_both_windows_count():
    latencies = measured(1.0, 1.0, 1.0, at=0.0)
    latencies.record(2.0, 30.0)
    assert latencies.percentile(75, 59.0, at_least=4) == pytest.approx(1.0, rel=0.09)
    assert latencies.percentile(76, 59.0, at_least=4) == pytest.approx(2.0, rel=0.09)


def test_after_a_silence_of_two_windows_nothing_is_left():
    latencies = measured(1.0, at=0.0)
    assert latencies.percentile(50, 60.0, at_least=1) is None
    latencies = measured(1.0, at=0.0)
    latencies.record(2.0, 60.0)
    assert latencies.percentile(1, 60.0, at_least=1) == pytest.approx(2.0, rel=0.09)
