"""A cluster at work: what counts as under way, with the GIL and without it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from meshlib.engine.cluster import BoundCluster
from meshlib.engine.cluster_state import ClusterState
from meshlib.engine.locked_cluster import LockedCluster
from meshlib.policy.balancer import BALANCERS, LeastRequest
from meshlib.policy.retry import NO_RETRY
from meshlib.policy.slow_start import SlowStart
from meshlib.registry.service import Endpoint
from tests.support.resources import pod, service
from tests.support.scripted import Bench

ALL = "outbound|9080||reviews.default.svc.cluster.local"


def bound(kind: type[BoundCluster]) -> BoundCluster:
    live = Bench(service("reviews"), pod("reviews", "v1", 1)).live
    assert live is not None
    return kind(live.snapshot.clusters[ALL], ClusterState(ALL), 0.0)


@pytest.mark.parametrize("kind", [BoundCluster, LockedCluster])
def test_an_attempt_counts_once_as_long_as_it_is_under_way(kind):
    cluster = bound(kind)
    (endpoint,) = cluster.endpoints
    first, second = (SimpleNamespace(endpoint=endpoint, under_way=False) for _ in range(2))
    cluster.begin(first)
    cluster.begin(second)
    assert (cluster.state.active, endpoint.active) == (2, 2)
    cluster.end(first)
    cluster.end(first)
    assert (cluster.state.active, endpoint.active, first.under_way) == (1, 1, False)
    cluster.end(second)
    assert (cluster.state.active, cluster.state.requests, endpoint.active) == (0, 2, 0)


TWO = tuple(Endpoint(f"10.0.0.{n}", 80) for n in (1, 2))


class OnesOwn(LeastRequest):
    def pick(self, usable, rng, even):
        return usable[-1]


@pytest.mark.parametrize(
    ("other", "draws"),
    [
        ({}, True),
        ({"endpoints": TWO[:1]}, True),
        ({"endpoints": TWO[:1], "balancer": "ROUND_ROBIN"}, True),
        ({"endpoints": TWO[:1], "slow_start": SlowStart(window=60.0)}, False),
        ({"endpoints": ()}, False),
        ({"endpoints": (TWO[0], replace(TWO[1], weight=2))}, False),
        ({"slow_start": SlowStart(window=60.0)}, False),
        ({"balancer": "ROUND_ROBIN"}, False),
        ({"balancer": "ONES_OWN"}, False),
    ],
)
def test_a_pick_is_a_draw_where_nothing_else_is_asked_for(other, draws, monkeypatch):
    monkeypatch.setitem(BALANCERS, "ONES_OWN", OnesOwn)
    spec = replace(bound(BoundCluster).spec, **{"endpoints": TWO, "balancer": "LEAST_REQUEST", **other})
    cluster, drawn = BoundCluster(spec, ClusterState(ALL), 0.0), random.Random(3)
    assert (cluster.draw is not None) is draws
    picked = {cluster.pick(drawn, 0.0) for _ in range(20)}
    if other.get("balancer") == "ONES_OWN":
        assert picked == {cluster.endpoints[-1]}
    else:
        assert picked == (set(cluster.endpoints) or {None})


def test_those_that_are_not_tried_again_are_not_drawn():
    spec = replace(bound(BoundCluster).spec, endpoints=TWO, balancer="LEAST_REQUEST")
    cluster, rng = BoundCluster(spec, ClusterState(ALL), 0.0), random.Random(3)
    first, second = cluster.endpoints
    retry = replace(NO_RETRY, ignore_previous_hosts=True)
    assert {cluster.pick(rng, 0.0, None, (first,), retry) for _ in range(20)} == {second}


def test_those_that_are_tried_again_are_drawn_as_any():
    spec = replace(bound(BoundCluster).spec, endpoints=TWO, balancer="LEAST_REQUEST")
    cluster, rng = BoundCluster(spec, ClusterState(ALL), 0.0), random.Random(3)
    first, second = cluster.endpoints
    retry = replace(NO_RETRY, ignore_previous_hosts=False)
    picked = Counter(cluster.pick(rng, 0.0, None, (first,), retry) for _ in range(100))
    assert picked.keys() == {first, second}
    assert picked[first] > 30


def test_whoever_is_ejected_is_neither_drawn_nor_picked_again():
    three = (*TWO, Endpoint("10.0.0.3", 80))
    spec = replace(bound(BoundCluster).spec, endpoints=three, balancer="LEAST_REQUEST")
    cluster, rng = BoundCluster(spec, ClusterState(ALL), 0.0), random.Random(3)
    ejected, *others = cluster.endpoints
    ejected.ejected = True
    cluster.state.generation += 1
    assert {cluster.pick(rng, 0.0) for _ in range(50)} == set(others)
    assert cluster.draw is not None
    retry = replace(NO_RETRY, ignore_previous_hosts=True)
    for tried in others:
        again = {cluster.pick(rng, 0.0, None, (ejected, tried), retry) for _ in range(50)}
        assert again - {tried} == {other for other in others if other is not tried}
        assert ejected not in {cluster.pick(rng, 0.0, None, (tried,), retry) for _ in range(50)}
    any_again = replace(NO_RETRY, ignore_previous_hosts=False)
    assert {cluster.pick(rng, 0.0, None, (others[0],), any_again) for _ in range(50)} == set(others)
