"""Without the GIL: what counts as under way is counted under the cluster's lock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from meshlib.engine.cluster_state import ClusterState
from meshlib.engine.locked_cluster import COUNTS_UNLOCKED, LockedCluster, NewCluster
from tests.support.resources import pod, service
from tests.support.scripted import Bench

ALL = "outbound|9080||reviews.default.svc.cluster.local"


class Watched(SimpleNamespace):
    """An attempt that notes, as its count changes, whether the cluster's lock is held."""

    def __setattr__(self, name: str, value: object) -> None:
        with ThreadPoolExecutor(1) as other:
            self.held.append(not other.submit(self.lock.acquire, blocking=False).result())
        super().__setattr__(name, value)


def test_without_the_gil_the_counts_change_under_the_lock():
    live = Bench(service("reviews"), pod("reviews", "v1", 1)).live
    assert live is not None
    cluster = LockedCluster(live.snapshot.clusters[ALL], ClusterState(ALL), 0.0)
    held: list[bool] = []
    attempt = Watched(endpoint=cluster.endpoints[0], under_way=False, held=held, lock=cluster.state.lock)
    cluster.begin(attempt)
    cluster.end(attempt)
    assert held == [True, True]


def test_what_is_counted_in_place_is_so_with_the_gil_alone():
    assert COUNTS_UNLOCKED is not issubclass(NewCluster, LockedCluster)
