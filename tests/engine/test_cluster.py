"""A cluster at work: what counts as under way, with the GIL and without it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from meshlib.engine.cluster import BoundCluster
from meshlib.engine.cluster_state import ClusterState
from meshlib.engine.locked_cluster import LockedCluster
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
