"""The limit that follows latency, against a server simulated in virtual time."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.adaptive_concurrency import GradientLimit, GradientSettings


def simulate(
    limit: GradientLimit, workers: int, service: float, seconds: float, arrivals: float, seed: int = 1
) -> float:
    """A server of ``workers`` in virtual time, with more callers than it can serve; how many it had at once on average."""
    rng = random.Random(seed)
    now, seen = 0.0, []
    free = [0.0] * workers
    under_way: list[tuple[float, float, int]] = []  # end, start, active at start
    while now < seconds:
        now += rng.expovariate(arrivals)
        while under_way and under_way[0][0] <= now:
            end, start, active = heapq.heappop(under_way)
            limit.record(end - start, active)
        if limit.allows(len(under_way)):
            begin = max(now, free[0])
            heapq.heapreplace(free, begin + service)
            heapq.heappush(under_way, (begin + service, now, len(under_way)))
        if now > seconds / 2:
            seen.append(len(under_way))
    return sum(seen) / len(seen)


@pytest.mark.parametrize("workers", [10, 40])
def test_the_limit_settles_near_what_the_server_can_do(workers):
    crowd = simulate(GradientLimit(GradientSettings(1, 1000)), workers, 0.1, 120.0, workers * 30.0)
    assert workers * 0.8 <= crowd <= workers * 2.5


def test_overload_shrinks_the_limit_and_health_brings_it_back():
    limit = GradientLimit(GradientSettings(2, 200))
    for _ in range(600):
        limit.record(0.1, int(limit.limit))
    high = limit.limit
    for _ in range(30):
        limit.record(5.0, int(limit.limit), dropped=True)
    assert limit.limit < high / 4
    for _ in range(600):
        limit.record(0.1, int(limit.limit))
    assert limit.limit > high * 0.8


@given(
    st.integers(1, 20),
    st.integers(0, 100),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 500), st.booleans()), max_size=200),
)
def test_the_limit_never_leaves_its_bounds(low, more, steps):
    limit = GradientLimit(GradientSettings(low, low + more))
    for seconds, active, dropped in steps:
        limit.record(seconds, active, dropped)
        assert low <= limit.limit <= low + more


# -- step by step -----------------------------------------------------------------------------------------------------


def test_it_begins_at_twenty_within_its_bounds_and_counts_whole_calls():
    assert GradientLimit(GradientSettings()).limit == 20.0
    assert GradientLimit(GradientSettings(1, 7)).limit == 7.0
    assert GradientLimit(GradientSettings(30, 70)).limit == 30.0
    assert GradientSettings() == GradientSettings(1, 1000)
    limit = GradientLimit(GradientSettings(3, 3))
    assert [limit.allows(active) for active in (2, 3)] == [True, False]


def test_it_grows_by_a_fifth_of_a_short_queue_while_calls_are_as_fast_as_ever():
    limit = GradientLimit(GradientSettings())
    limit.record(0.1, 20)
    assert limit.limit == pytest.approx(20 * 0.8 + (20 + 20**0.5) * 0.2)
    before = limit.limit
    limit.record(0.15, 20)  # half as long again is no queue yet
    assert limit.limit == pytest.approx(before + before**0.5 * 0.2)


def test_it_shrinks_in_proportion_to_a_queue_and_by_half_at_most():
    for seconds, gradient in ((0.3, 0.5), (0.2, 0.75), (9.0, 0.5)):
        limit = GradientLimit(GradientSettings())
        limit.record(0.1, 0)
        limit.record(seconds, 20)
        assert limit.limit == pytest.approx(20 * 0.8 + (20 * gradient + 20**0.5) * 0.2)


def test_calls_that_the_limit_does_not_bound_teach_nothing_and_a_dropped_one_costs_a_tenth():
    limit = GradientLimit(GradientSettings())
    limit.record(0.1, 9)
    assert limit.limit == 20.0
    limit.record(0.1, 10)
    assert limit.limit > 20.0
    limit = GradientLimit(GradientSettings())
    limit.record(0.1, 0, dropped=True)
    assert limit.limit == pytest.approx(18.0)


def test_after_a_thousand_measurements_it_looks_at_a_quarter_for_twenty_and_comes_back():
    limit = GradientLimit(GradientSettings())
    for _ in range(999):
        limit.record(0.1, 0)
    assert limit.limit == 20.0
    limit.record(0.1, 0)
    assert limit.limit == 5.0
    limit.record(0.01, 6)  # it began before the look, and says nothing of it
    for _ in range(19):
        limit.record(0.4, 0)
    assert limit.limit == 5.0
    limit.record(0.3, 0)
    assert limit.limit == 20.0
    limit.record(0.5, 20)  # what is normal now is the look's best: 0.3
    assert limit.limit == pytest.approx(20 * 0.8 + (20 * 0.9 + 20**0.5) * 0.2)
