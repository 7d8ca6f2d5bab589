"""Balancers spread as Envoy's do."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshlib.policy.balancer import (
    BALANCERS,
    NOT_SIMPLE,
    LeastRequest,
    PeakEwma,
    Random,
    RoundRobin,
    draw_of,
    equal_weights,
    new_balancer,
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


# -- draw by draw -----------------------------------------------------------------------------------------------------


class Drawn:
    """A generator whose draws are known."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)


@pytest.mark.parametrize(("drawn", "picked"), [(0.0, "e0"), (0.249, "e0"), (0.25, "e1"), (0.749, "e2"), (0.999, "e3")])
def test_an_even_draw_falls_where_its_share_of_the_members_falls(drawn, picked):
    members = endpoints(1, 1, 1, 1)
    assert Random().pick(members, Drawn(drawn), True).key == picked
    assert RoundRobin().pick(members, Drawn(drawn), True).key == picked


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("even", [True, False])
def test_of_one_endpoint_nothing_is_drawn(name, even):
    only = endpoints(3)
    draw = draw_of(new_balancer(name), only, even)
    assert draw is not None
    assert draw(Drawn()) is only[0] is new_balancer(name).pick(only, random.Random(1), even)


def test_draws_for_many_calls_are_picks():
    members, balancer = endpoints(1, 1, 1), LeastRequest()
    members[1].active = 2
    draw = draw_of(balancer, members, True)
    assert draw is not None
    for first in (0.0, 0.4, 0.9):
        for second in (0.0, 0.4, 0.9):
            assert draw(Drawn(first, second)) is balancer.pick(members, Drawn(first, second), True)


@pytest.mark.parametrize(
    ("balancer", "weights"),
    [(LeastRequest(), (2, 1)), (LeastRequest(), ()), (RoundRobin(), (1, 1)), (Random(), (1, 1)), (PeakEwma(), (1, 1))],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else f"weights {value}",
)
def test_what_is_more_than_a_draw_is_left_to_the_balancer(balancer, weights):
    members = endpoints(*weights)
    assert draw_of(balancer, members, equal_weights(members)) is None


@pytest.mark.parametrize(("drawn", "picked"), [(0.0, "e0"), (0.499, "e0"), (0.5, "e1"), (0.799, "e1"), (0.8, "e2")])
def test_a_weighted_draw_falls_where_its_share_of_the_weights_falls(drawn, picked):
    assert Random().pick(endpoints(5, 3, 2), Drawn(drawn), False).key == picked


def test_a_draw_that_rounding_leaves_over_is_the_last_ones():
    assert Random().pick(endpoints(5, 3, 2), Drawn(1.0), False).key == "e2"


@pytest.mark.parametrize(
    ("active", "picked"), [((0, 0), "e0"), ((1, 0), "e1"), ((0, 1), "e0"), ((3, 3), "e0"), ((4, 3), "e1")]
)
def test_of_two_the_less_busy_is_picked_and_at_a_tie_the_first_drawn(active, picked):
    members = endpoints(1, 1, 1)
    members[0].active, members[1].active = active
    assert LeastRequest().pick(members, Drawn(0.0, 0.4), True).key == picked


@pytest.mark.parametrize("count", [2, 3, 10])
def test_those_that_are_picked_among_are_those_that_would_be_picked(count):
    members, one, same = endpoints(*[1] * count), random.Random(4), random.Random(4)
    draw = LeastRequest().among(members)
    for turn in range(300):
        members[turn % count].active = turn % 7
        assert draw(one) is LeastRequest().pick(members, same, True)


@pytest.mark.parametrize(
    ("first", "second", "picked"), [((0.1, 0), (0.2, 0), "e0"), ((0.2, 0), (0.1, 0), "e1"), ((0.1, 3), (0.2, 0), "e1")]
)
def test_of_two_the_one_with_less_latency_times_requests_is_picked(first, second, picked):
    members = endpoints(1, 1)
    for endpoint, (latency, active) in zip(members, (first, second), strict=True):
        endpoint.latency, endpoint.active = (latency, 0.0), active
    assert PeakEwma().pick(members, Drawn(0.0, 0.5), True).key == picked
    assert PeakEwma().cost(members[0]) == pytest.approx(first[0] * (first[1] + 1))


def test_at_a_tie_the_first_drawn_is_picked_and_drawn_twice_its_neighbour_is_looked_at():
    members = endpoints(1, 1, 1)
    for endpoint in members:
        endpoint.latency = (0.1, 0.0)
    assert PeakEwma().pick(members, Drawn(0.0, 0.5), True).key == "e0"
    members[0].latency, members[1].latency, members[2].latency = (0.3, 0.0), (0.2, 0.0), (0.1, 0.0)
    assert PeakEwma().pick(members, Drawn(0.0, 0.0), True).key == "e1"
    members[2].latency = (0.9, 0.0)
    assert PeakEwma().pick(members, Drawn(0.9, 0.9), True).key == "e0"
    assert PeakEwma().pick(members[:1], Drawn(0.5, 0.5), True).key == "e0"


def test_an_average_follows_time_and_a_clock_that_stands_still_keeps_it():
    endpoint = EndpointState("a")
    observe_latency(endpoint, 1.0, 5.0, 10.0)
    assert endpoint.latency == (1.0, 5.0)
    observe_latency(endpoint, 0.5, 5.0, 10.0)
    assert endpoint.latency == (1.0, 5.0)
    observe_latency(endpoint, 0.5, 3.0, 10.0)
    assert endpoint.latency == (1.0, 3.0)
    observe_latency(endpoint, 1.0, 9.0, 10.0)
    assert endpoint.latency == (1.0, 9.0)


def test_a_retry_picks_at_most_five_times_more():
    members = endpoints(1, 1)
    picks = []

    def pick() -> EndpointState:
        picks.append(1)
        return members[0]

    assert pick_avoiding(pick, [members[0]]) is members[0]
    assert len(picks) == 6
    picks.clear()
    assert pick_avoiding(pick, [members[1]]) is members[0]
    assert len(picks) == 1


def test_a_weighted_schedule_begins_at_a_random_phase():
    firsts = Counter(RoundRobin().pick(endpoints(3, 1), random.Random(seed), False).key for seed in range(400))
    assert firsts["e0"] == pytest.approx(400 * 5 / 6, abs=30)  # the heavier comes due within a third of the time


def test_an_endpoint_without_weight_is_picked_when_there_is_no_other():
    members = endpoints(0, 0)
    assert equal_weights(members)
    assert {RoundRobin().pick(endpoints(0, 2), random.Random(seed), False).key for seed in range(50)} == {"e1"}


# -- by name ----------------------------------------------------------------------------------------------------------


def test_a_balancer_is_found_by_its_name_and_each_cluster_has_its_own():
    for name, kind in BALANCERS.items():
        assert type(new_balancer(name)) is kind
        assert new_balancer(name) is not new_balancer(name) or not vars(kind).get("__slots__")
    assert NOT_SIMPLE == {"PEAK_EWMA"} <= BALANCERS.keys()


@pytest.mark.parametrize("name", ["PASSTHROUGH", "RING_HASH", "MAGLEV"])
def test_a_cluster_whose_calls_say_where_they_go_is_not_balanced(name):
    with pytest.raises(AssertionError, match="is not balanced"):
        new_balancer(name).pick(endpoints(1), random.Random(1), True)


def test_an_unknown_name_is_refused_and_told_with_those_that_are_known():
    with pytest.raises(LookupError) as told:
        new_balancer("FASTEST")
    assert str(told.value) == "no balancer is called 'FASTEST'; there are LEAST_REQUEST, PEAK_EWMA, RANDOM, ROUND_ROBIN"
