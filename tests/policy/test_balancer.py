"""Balancers spread as Envoy's do."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshlib.policy.balancer import (
    BALANCERS,
    LeastRequest,
    PeakEwma,
    Random,
    RoundRobin,
    equal_weights,
    observe_latency,
    pick_avoiding,
)
from meshlib.policy.endpoint import EndpointState


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
