"""Latency percentiles: near enough, and of the last seconds only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.latency import BUCKETS, Latencies


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
