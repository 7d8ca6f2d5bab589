"""Balancers spread as Envoy's do; connection slots are never lost, whoever gives up when."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshlib.policy.balancer import BALANCERS, LeastRequest, Random, RoundRobin, equal_weights, pick_avoiding
from meshlib.policy.circuit_limits import Slots
from meshlib.policy.endpoint import EndpointState
from meshlib.policy.fault import FaultPolicy, draw
from meshlib.policy.grpc_status import grpc_of_http, http_of_grpc
from meshlib.policy.retry import RetryPolicy, backoff, merge_request_headers, parse_retry_on, should_retry


def endpoints(*weights: int) -> list[EndpointState]:
    return [EndpointState(f"e{n}", weight=weight) for n, weight in enumerate(weights)]


def spread(balancer, members, draws=12_000, seed=3) -> list[int]:
    rng = random.Random(seed)
    counts = Counter(balancer.pick(members, rng, equal_weights(members)).key for _ in range(draws))
    return [counts[e.key] for e in members]


def chi_square(counts: list[int], shares: list[float]) -> float:
    total = sum(counts)
    return sum((c - total * s) ** 2 / (total * s) for c, s in zip(counts, shares, strict=True))


def test_round_robin_takes_turns_from_a_random_start():
    members = endpoints(1, 1, 1)
    starts = set()
    for seed in range(20):
        balancer, rng = RoundRobin(), random.Random(seed)
        order = [balancer.pick(members, rng, equal_weights(members)).key for _ in range(6)]
        assert order[:3] == order[3:]
        assert len(set(order[:3])) == 3
        starts.add(order[0])
    assert starts == {"e0", "e1", "e2"}


def test_weighted_round_robin_is_exact_and_interleaved():
    members = endpoints(3, 1)
    balancer, rng = RoundRobin(), random.Random(1)
    picks = [balancer.pick(members, rng, equal_weights(members)).key for _ in range(400)]
    assert picks.count("e0") == 300
    assert "e1,e1" not in ",".join(picks)


def test_random_is_uniform_and_follows_weights():
    assert chi_square(spread(Random(), endpoints(1, 1, 1, 1)), [0.25] * 4) < 16.3
    assert chi_square(spread(Random(), endpoints(5, 3, 2)), [0.5, 0.3, 0.2]) < 13.8


def test_least_request_picks_the_less_busy_of_two_and_is_uniform_when_all_are_idle():
    members = endpoints(1, 1, 1, 1)
    assert chi_square(spread(LeastRequest(), members), [0.25] * 4) < 16.3
    members[0].active = 5
    counts = spread(LeastRequest(), members, 16_000)
    # only picked when both draws fall on it: 1/16
    assert counts[0] == pytest.approx(1000, abs=120)
    members = endpoints(1, 1)
    members[1].active = 1
    assert spread(LeastRequest(), members, 4000)[1] == pytest.approx(1000, abs=120)


def test_least_request_with_unequal_weights_follows_weight_over_active_plus_one():
    members = endpoints(4, 2)
    counts = spread(LeastRequest(), members, 6000)
    assert counts[0] == pytest.approx(4000, abs=60)
    members[0].active = 3  # 4 / 4 against 2 / 1
    counts = spread(LeastRequest(), members, 6000)
    assert counts[0] == pytest.approx(2000, abs=60)


@pytest.mark.parametrize("name", list(BALANCERS))
def test_a_balancer_survives_a_change_of_members_between_picks(name):
    balancer, rng = BALANCERS[name](), random.Random(1)
    for count in (5, 1, 3, 2, 8):
        members = endpoints(*range(1, count + 1))
        assert {balancer.pick(members, rng, equal_weights(members)) in members for _ in range(30)} == {True}
        assert balancer.pick(members[:1], rng, True) is members[0]


def test_a_retry_avoids_what_it_tried_when_it_can():
    members = endpoints(1, 1)
    rng = random.Random(4)
    again = sum(
        pick_avoiding(lambda: Random().pick(members, rng, True), [members[0]]) is members[0] for _ in range(6400)
    )
    assert again == pytest.approx(100, abs=45)  # six picks in a row: 1/64
    assert pick_avoiding(lambda: Random().pick(members[:1], rng, True), members) is members[0]


# -- slots ------------------------------------------------------------------------------------------------------------


class SlotsMachine(RuleBasedStateMachine):
    """Callers acquire, wait, give up and release in any order."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(2, 3)
        self.held = 0
        self.line = []  # (waiter, woken)

    @rule()
    def try_acquire(self):
        free = self.held < 2 and not self.line
        assert self.slots.try_acquire() is free
        self.held += free

    @rule()
    def enqueue(self):
        woken = []
        waiter = self.slots.enqueue(lambda: woken.append(1))
        if self.held < 2 and not self.line:
            assert woken
            self.held += 1
        elif len(self.line) >= 3:
            assert waiter is None
        else:
            assert not woken
            self.line.append((waiter, woken))

    @precondition(lambda self: self.held)
    @rule()
    def release(self):
        self.slots.release()
        if self.line:
            _, woken = self.line.pop(0)
            assert woken == [1]  # straight to the first in line
        else:
            self.held -= 1

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data):
        waiter, woken = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        assert self.slots.cancel(waiter) is False
        assert not woken

    @invariant()
    def counts_agree(self):
        assert (self.slots.in_use, self.slots.pending) == (self.held, len(self.line))


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_waiter_that_gives_up_after_it_was_granted_keeps_the_slot():
    slots = Slots(1)
    slots.try_acquire()
    waiter = slots.enqueue(lambda: None)
    slots.release()
    assert slots.cancel(waiter) is True
    assert slots.in_use == 1


def test_sixteen_threads_that_wait_and_give_up_lose_no_slot():
    slots = Slots(3)
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        rng = random.Random(seed)
        for _ in range(400):
            granted = threading.Event()
            waiter = slots.enqueue(granted.set)
            if granted.wait(rng.random() * 0.002) or slots.cancel(waiter):
                most = max(most, slots.in_use)
                slots.release()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (slots.in_use, slots.pending) == (0, 0)
    assert most <= 3


# -- retries and faults -----------------------------------------------------------------------------------------------

CASES = [
    ("5xx", None, 503, True),
    ("5xx", None, 499, False),
    ("5xx", "TIMEOUT", 0, True),
    ("5xx", "CONNECT_FAILED", 0, True),
    ("gateway-error", None, 500, False),
    ("gateway-error", None, 502, True),
    ("gateway-error", "RESET", 0, True),
    ("reset", None, 503, False),
    ("reset", "RESET", 0, True),
    ("reset", "TIMEOUT", 0, True),
    ("connect-failure", "RESET", 0, False),
    ("connect-failure", "CONNECT_FAILED", 0, True),
    ("connect-failure", "CONNECT_TIMEOUT", 0, True),
    ("connect-failure", "TIMEOUT", 0, False),
    ("reset-before-request", "CONNECT_FAILED", 0, True),
    ("reset-before-request", "RESET", 0, False),
    ("retriable-4xx", None, 409, True),
    ("retriable-4xx", None, 404, False),
    ("503,418", None, 418, True),
    ("503,418", None, 500, False),
    ("5xx,reset", "OVERFLOW", 0, False),
    ("5xx,reset", "POOL_TIMEOUT", 0, False),
    ("5xx,reset", "REQUEST_BODY_FAILED", 0, False),
]


@pytest.mark.parametrize(("on", "failure", "status", "again"), CASES)
def test_each_condition_asks_for_a_retry_of_just_what_envoy_says(on, failure, status, again):
    policy = RetryPolicy(retry_on=parse_retry_on(on))
    assert should_retry(policy, failure=failure, status=status) is again


def test_the_global_timeout_is_never_retried():
    policy = RetryPolicy(retry_on=parse_retry_on("5xx,reset"))
    assert not should_retry(policy, failure="TIMEOUT", status=0, global_timeout=True)


def test_a_rate_limited_answer_is_retried_only_when_asked_for():
    headers = [(b"X-Envoy-RateLimited", b"true")]
    assert not should_retry(RetryPolicy(retry_on=parse_retry_on("5xx")), failure=None, status=503, headers=headers)
    both = RetryPolicy(retry_on=parse_retry_on("5xx,envoy-ratelimited"))
    assert should_retry(both, failure=None, status=503, headers=headers)


@pytest.mark.parametrize(
    ("on", "status", "again"),
    [("unavailable", b"14", True), ("unavailable", b"13", False), ("internal", b"13", True), ("cancelled", b"1", True)],
)
def test_grpc_conditions_look_at_a_trailers_only_status(on, status, again):
    policy = RetryPolicy(retry_on=parse_retry_on(on))
    assert should_retry(policy, failure=None, status=200, headers=[(b"grpc-status", status)]) is again
    assert not should_retry(policy, failure=None, status=200, headers=[])


def test_an_unknown_condition_is_refused_by_name():
    with pytest.raises(ValueError, match="'fxx'"):
        parse_retry_on("5xx,fxx")


def test_without_x_envoy_headers_the_policy_is_the_very_same_object():
    policy = RetryPolicy()
    assert merge_request_headers(policy, {}.get) is policy


def test_x_envoy_headers_are_merged():
    policy = RetryPolicy(attempts=1, retry_on=parse_retry_on("connect-failure"))
    headers = {"x-envoy-retry-on": "gateway-error,nonsense", "x-envoy-retriable-status-codes": "418"}
    merged = merge_request_headers(policy, headers.get)
    assert should_retry(merged, failure=None, status=502)
    assert should_retry(merged, failure="CONNECT_FAILED", status=0)
    assert merged.attempts == 1


def test_backoff_replays_from_the_seed():
    policy = RetryPolicy()
    one = [backoff(policy, n, random.Random(1), None) for n in (1, 2, 3)]
    assert one == [backoff(policy, n, random.Random(1), None) for n in (1, 2, 3)]


def test_a_fault_draws_delay_and_abort_independently():
    fault = FaultPolicy.from_percents(delay=2.0, delay_percent=50, abort_status=500, abort_percent=50)
    rng = random.Random(1)
    draws = Counter((bool(d), bool(s)) for d, s, _ in (draw(fault, rng) for _ in range(8000)))
    assert all(
        draws[key] == pytest.approx(2000, abs=180) for key in [(a, b) for a in (True, False) for b in (True, False)]
    )


def test_a_grpc_abort_has_the_http_status_that_stands_for_it():
    fault = FaultPolicy.from_percents(abort_grpc_status="UNAVAILABLE", abort_percent=100)
    assert draw(fault, random.Random(1)) == (0.0, 503, 14)


def test_four_decimals_of_a_percentage_count():
    assert FaultPolicy.from_percents(abort_status=500, abort_percent=0.0001).abort_share == 1


@pytest.mark.parametrize(("http", "grpc"), [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (503, 14), (418, 2)])
def test_http_statuses_map_to_grpc_as_in_envoy(http, grpc):
    assert grpc_of_http(http) == grpc


def test_every_grpc_status_has_an_http_status():
    assert [http_of_grpc(n) for n in (0, 14, 4, 12)] == [200, 503, 504, 501]
