"""Load over priorities and localities, as Envoy spills it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.endpoint import EndpointState
from meshlib.policy.tiers import availability, build, choose, leaving_out, spread


@pytest.mark.parametrize(
    ("usable", "total", "percent"),
    [(0, 0, 0), (0, 5, 0), (5, 5, 100), (3, 4, 100), (5, 7, 100), (1, 2, 70), (1, 10, 14)],
)
def test_a_priority_serves_140_percent_of_its_health(usable, total, percent):
    assert availability(usable, total) == percent


@pytest.mark.parametrize(
    ("health", "loads"),
    [
        ([100], [100]),
        ([100, 100], [100, 0]),
        ([70, 100], [70, 30]),
        ([0, 100], [0, 100]),
        ([25, 25], [50, 50]),
        ([14, 0, 14], [50, 0, 50]),
        ([0, 0], [0, 0]),
        ([10, 20], [34, 66]),
        ([70, 70, 70], [70, 30, 0]),
    ],
)
def test_load_goes_to_the_next_priority_as_health_sinks(health, loads):
    assert spread(health) == loads


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_all_of_the_load_goes_somewhere_that_can_serve(health):
    loads = spread(health)
    assert sum(loads) == (100 if any(health) else 0)
    assert all(load >= 0 for load in loads)
    assert not any(load for load, part in zip(loads, health, strict=True) if not part)


def members(*places: tuple[int, int, bool]) -> dict[EndpointState, tuple[int, int]]:
    return {
        EndpointState(f"e{number}", healthy=usable): (priority, group)
        for number, (priority, group, usable) in enumerate(places)
    }


def tiers(places, weights, panic=0):
    return build(places, places, weights, panic, lambda priority, group: None)


def test_endpoints_are_sorted_into_priorities_and_localities():
    there = tiers(members((1, 1, True), (0, 0, True), (0, 0, False), (0, 0, True), (0, 0, True)), [4.0, 1.0])
    assert [(t.priority, t.load, [[e.key for e in g.usable] for g in t.groups]) for t in there] == [
        (0, 100, [["e1", "e3", "e4"]]),
        (1, 0, [["e0"]]),
    ]


def test_a_locality_loses_weight_with_its_health():
    (tier,) = tiers(members((0, 0, True), (0, 0, False), (0, 1, True), (0, 1, True)), [1.0, 1.0])
    assert [round(group.weight, 3) for group in tier.groups] == [0.7, 1.0]


def test_localities_are_chosen_by_weight():
    (tier,) = tiers(members((0, 0, True), (0, 1, True)), [80.0, 20.0])
    rng = random.Random(1)
    hits = sum(tier.group(rng).usable[0].key == "e0" for _ in range(5000))
    assert 3850 < hits < 4150


def test_in_panic_everybody_is_used():
    there = members((0, 0, False), (0, 0, False), (0, 0, True))
    assert [len(g.usable) for g in tiers(there, [1.0], 50)[0].groups] == [3]
    assert [len(g.usable) for g in tiers(there, [1.0], 0)[0].groups] == [1]


def test_a_draw_finds_its_tier():
    there = tiers(members((0, 0, True), (0, 0, False), (1, 1, True)), [1.0, 1.0])
    assert [t.load for t in there] == [70, 30]
    assert [choose(there, at).priority for at in (0, 69, 70, 99)] == [0, 0, 1, 1]
    assert choose(tiers(members((0, 0, False)), [1.0]), 0) is None


def test_a_retry_leaves_tried_priorities_after_every_second_try():
    places = members((0, 0, True), (0, 0, True), (1, 1, True), (2, 2, True))
    there, endpoints = tiers(places, [1.0, 1.0, 1.0]), list(places)
    tried = [endpoints[0]]
    assert leaving_out(there, tried, places) is there
    tried.append(endpoints[1])
    assert [(t.priority, t.load) for t in leaving_out(there, tried, places)] == [(1, 100), (2, 0)]
    tried += [endpoints[2], endpoints[2]]
    assert [(t.priority, t.load) for t in leaving_out(there, tried, places)] == [(2, 100)]
    tried += [endpoints[3], endpoints[3]]
    assert leaving_out(there, tried, places) is there
