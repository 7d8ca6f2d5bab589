"""The mechanisms of ResiliencePolicy on their own: decisions over time, without a network."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy import deadline
from meshlib.policy.adaptive_concurrency import GradientLimit, GradientSettings
from meshlib.policy.balancer import PeakEwma, observe_latency
from meshlib.policy.breaker import Breaker, BreakerSettings
from meshlib.policy.endpoint import EndpointState
from meshlib.policy.hedging import HedgeSettings
from meshlib.policy.latency import BUCKETS, Latencies
from meshlib.policy.retry_budget import RetryBudget
from meshlib.policy.windowed_budget import WindowedBudget, WindowedBudgetSettings

# -- circuit breaker --------------------------------------------------------------------------------------------------


def breaker(threshold: int = 3, reset: float = 10.0) -> Breaker:
    return Breaker(BreakerSettings(threshold, reset))


def test_failures_in_a_row_open_the_breaker():
    made = breaker()
    for success in (False, False, True, False, False):
        assert made.admit(0.0)
        made.record(success, 0.0)
    assert made.state == "closed"
    made.record(False, 0.0)
    assert (made.state, made.admit(0.0), made.admit(9.9)) == ("open", False, False)


@pytest.mark.parametrize(("success", "state"), [(True, "closed"), (False, "open")])
def test_after_its_timeout_one_trial_decides(success, state):
    made = breaker(1)
    made.record(False, 100.0)
    assert made.admit(110.0)
    assert (made.state, made.admit(110.0)) == ("half-open", False)
    made.record(success, 111.0)
    assert (made.state, made.admit(111.0)) == (state, success)


def test_a_trial_without_verdict_leaves_room_for_another():
    made = breaker(1)
    made.record(False, 0.0)
    assert made.admit(10.0)
    made.abandon()
    assert made.admit(10.0)


def test_late_results_of_calls_from_before_change_nothing_while_open():
    made = breaker(1)
    made.record(False, 0.0)
    made.record(True, 1.0)
    made.record(False, 2.0)
    assert made.state == "open"
    assert made.admit(10.0)  # counted from when it opened, not from the late failure


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "minimum", "retries", "active", "allowed"),
    [(20, 3, 2, 0, True), (20, 3, 3, 0, False), (20, 0, 1, 10, True), (20, 0, 2, 10, False), (0, 0, 0, 100, False)],
)
def test_envoys_budget_is_a_share_of_what_is_under_way(percent, minimum, retries, active, allowed):
    assert RetryBudget(percent, minimum).allows(retries, active, 0) is allowed
    assert RetryBudget(percent, minimum).allows(retries, 0, active) is allowed  # those in line count as well


def test_a_windowed_budget_is_a_share_of_the_last_ten_seconds():
    budget = WindowedBudget(WindowedBudgetSettings(20.0, 0))
    for _ in range(50):
        budget.call(100.0)
    taken = 0
    while budget.allows(105.0):
        budget.retry(105.0)
        taken += 1
    assert taken == 10
    assert not budget.allows(109.9)
    assert not budget.allows(110.0)  # the calls are forgotten, and with them the right to retry


def test_some_retries_a_second_are_always_allowed():
    budget = WindowedBudget(WindowedBudgetSettings(0.0, 2))
    taken = 0
    while budget.allows(0.5):
        budget.retry(0.5)
        taken += 1
    assert taken == 20


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=300))
def test_retries_never_exceed_the_budget_whenever_they_come(steps):
    budget = WindowedBudget(WindowedBudgetSettings(25.0, 0))
    now, calls, retries = 50.0, [], []
    for pause, is_call in steps:
        now += pause
        if is_call:
            budget.call(now)
            calls.append(now)
        elif budget.allows(now):
            budget.retry(now)
            retries.append(now)
        recent = [t for t in retries if int(t) > int(now) - 10]
        assert len(recent) <= 0.25 * len([t for t in calls if int(t) > int(now) - 20]) + 1e-9


# -- latencies and hedging --------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("method", "unsafe", "may"), [("GET", False, True), ("POST", False, False), ("POST", True, True)]
)
def test_only_safe_methods_are_hedged_unless_asked(method, unsafe, may):
    assert HedgeSettings(0.1, unsafe_methods=unsafe).may(method) is may


def test_a_hedge_waits_for_its_delay_or_its_percentile():
    latencies = Latencies()
    assert HedgeSettings(0.25).wait(latencies, 0.0) == 0.25
    assert HedgeSettings(percentile=95.0).wait(latencies, 0.0) is None
    for number in range(100):
        latencies.record(0.010 if number < 95 else 1.0, 0.0)
    assert HedgeSettings(percentile=95.0).wait(latencies, 0.0) == pytest.approx(0.010, rel=0.1)


# -- adaptive concurrency ---------------------------------------------------------------------------------------------


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


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "value", "seconds"),
    [
        ("x-request-deadline", "1500", 1.5),
        ("x-request-deadline", " 0 ", 0.0),
        ("x-request-deadline", "1.5", None),
        ("x-request-deadline", "-5", None),
        ("x-request-deadline", "soon", None),
        ("x-request-deadline", "9" * 12, deadline.LONGEST),
        ("x-request-deadline", "9" * 13, None),
        ("grpc-timeout", "100m", 0.1),
        ("grpc-timeout", "5S", 5.0),
        ("grpc-timeout", "5", None),
        ("grpc-timeout", "123456789S", None),
    ],
)
def test_a_deadline_is_read_or_ignored(header, value, seconds):
    assert deadline.read(header, value) == (None if seconds is None else pytest.approx(seconds))


@given(st.floats(-5, deadline.LONGEST), st.sampled_from(["x-request-deadline", "grpc-timeout"]))
def test_what_is_written_is_read_and_never_later(seconds, header):
    found = deadline.read(header, deadline.write(header, seconds))
    assert found is not None
    assert max(0.0, seconds) - 1.0 <= found <= max(0.0, seconds) + 1e-5


# -- peak EWMA --------------------------------------------------------------------------------------------------------


def test_the_faster_endpoint_gets_more_and_idle_strangers_are_tried():
    fast, slow, new = (EndpointState(name) for name in "abc")
    observe_latency(fast, 0.01, 0.0, 10.0)
    observe_latency(slow, 0.10, 0.0, 10.0)
    rng = random.Random(1)
    balancer = PeakEwma()
    picks = [balancer.pick((fast, slow), rng, True).key for _ in range(100)]
    assert picks.count("a") == 100
    fast.active = 20
    assert balancer.pick((fast, slow), rng, True) is slow
    assert balancer.cost(new) == 0.0
    new.active = 1
    assert balancer.cost(new) > balancer.cost(slow)


def test_a_peak_counts_at_once_and_is_forgotten_with_time():
    endpoint = EndpointState("a")
    observe_latency(endpoint, 0.01, 0.0, 10.0)
    observe_latency(endpoint, 1.0, 1.0, 10.0)
    assert endpoint.latency[0] == 1.0
    observe_latency(endpoint, 0.01, 11.0, 10.0)
    assert endpoint.latency[0] == pytest.approx(1.0 * 0.3679 + 0.01 * 0.6321, rel=0.01)
