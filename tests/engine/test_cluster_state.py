"""What a cluster remembers across reloads: a reload costs what has changed, and what it comes to is what a cluster bound from
nothing has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.compiler.routes import Cluster
from meshlib.engine.cluster import BoundCluster
from meshlib.engine.cluster_state import ClusterState
from meshlib.policy.consistent_hash import HashPolicy
from meshlib.policy.endpoint import EndpointState
from meshlib.policy.outlier import OutlierSettings
from meshlib.policy.slow_start import SlowStart
from meshlib.registry.service import Endpoint
from tests.support.resources import pod, service
from tests.support.scripted import Bench

ALL = "outbound|9080||reviews.default.svc.cluster.local"
VARIANTS = [
    [
        Endpoint(f"10.0.0.{n}", 80, weight=weight, healthy=healthy)
        for weight, healthy in ((1, True), (1, False), (3, True))
    ]
    for n in range(5)
]
"""Of each address several versions, as a change of readiness or weight brings."""


def spec() -> Cluster:
    return Bench(service("reviews"), pod("reviews", "v1", 1)).live.snapshot.clusters[ALL]


SPEC = spec()


def told(cluster: BoundCluster) -> object:
    """What it would choose from, and what it knows of each."""
    members = [(e.key, e.endpoint, e.weight, e.healthy, cluster.places.get(e), e.avoided) for e in cluster.endpoints]
    return members, [e.key for e in cluster.usable], cluster._even, sorted(cluster.state.endpoints)


lists = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2)).map(lambda at: VARIANTS[at[0]][at[1]]),
    unique_by=lambda endpoint: endpoint.key,
)
any_list = st.one_of(lists, st.lists(st.sampled_from([each for row in VARIANTS for each in row]), max_size=6))


@given(st.lists(st.tuples(any_list, st.booleans(), st.sampled_from([None, OutlierSettings()])), min_size=1, max_size=6))
def test_after_any_sequence_of_reloads_it_is_what_is_bound_from_nothing(turns):
    """An address may be there twice; one may be known not to be reachable; outlier detection comes and goes."""
    state = ClusterState(ALL)
    known: dict[str, EndpointState] = {}
    for endpoints, down, outlier in turns:
        made = BoundCluster(replace(SPEC, endpoints=tuple(endpoints), outlier=outlier), state, 0.0)
        kept = {key: e for key, e in known.items() if key in state.endpoints}
        assert all(state.endpoints[key] is e for key, e in kept.items())
        known = dict(state.endpoints)
        fresh = ClusterState(ALL)
        for e in state.endpoints.values():
            fresh.endpoint(e.endpoint, 0.0).reachable = e.reachable
        assert told(made) == told(BoundCluster(made.spec, fresh, 0.0))
        if made.endpoints:
            state.observe_health(made.endpoints[0], reachable=not down)
            made.refresh(0.0)


def test_of_endpoints_that_stay_nothing_is_done():
    seen: list[str] = []

    class Watched(ClusterState):
        def endpoint(self, spec, now):
            seen.append(spec.key)
            return super().endpoint(spec, now)

    state = Watched(ALL)
    before = tuple(row[0] for row in VARIANTS)
    first = BoundCluster(replace(SPEC, endpoints=before), state, 0.0)
    seen.clear()
    after = (*before[:2], Endpoint("10.0.9.9", 80), *before[3:])
    second = BoundCluster(replace(SPEC, endpoints=after), state, 0.0)
    assert seen == ["10.0.9.9:80"]
    assert [a is b for a, b in zip(first.endpoints, second.endpoints, strict=True)] == [True, True, False, True, True]


@pytest.mark.parametrize(("other", "looks_again"), [(VARIANTS[1][1], True), (Endpoint("10.0.0.1", 80), False)])
def test_clusters_bound_before_look_again_if_one_that_stays_is_other(other, looks_again):
    state = ClusterState(ALL)
    endpoints = [row[0] for row in VARIANTS]
    old = BoundCluster(replace(SPEC, endpoints=tuple(endpoints)), state, 0.0)
    endpoints[1] = other
    BoundCluster(replace(SPEC, endpoints=tuple(endpoints)), state, 0.0)
    assert (old.generation != state.generation) == looks_again


def test_what_is_ejected_stays_so_when_another_endpoint_comes():
    state = ClusterState(ALL)
    endpoints = [row[0] for row in VARIANTS]
    bound = BoundCluster(replace(SPEC, endpoints=tuple(endpoints), outlier=OutlierSettings()), state, 0.0)
    bound.endpoints[0].ejected = True
    after = BoundCluster(replace(bound.spec, endpoints=(*endpoints, Endpoint("10.0.9.9", 80))), state, 0.0)
    assert [e.key for e in after.usable] == [*(e.key for e in endpoints[1:]), "10.0.9.9:80"]
    assert after.state.detector is not None
    assert after.state.detector.ejected == [bound.endpoints[0]]


def test_the_table_of_hashes_is_made_by_the_reload_once_calls_need_one():
    state = ClusterState(ALL)
    hashed = replace(SPEC, hash_policy=HashPolicy(header="x"), balancer="RING_HASH")
    first = BoundCluster(replace(hashed, endpoints=tuple(row[0] for row in VARIANTS)), state, 0.0)
    assert first._table is None
    first._hashed(None, 1)
    second = BoundCluster(replace(hashed, endpoints=tuple(row[0] for row in VARIANTS[1:])), state, 0.0)
    assert second._table is not None


def test_an_endpoint_whose_warm_up_ended_unseen_has_its_whole_weight():
    endpoints = tuple(row[0] for row in VARIANTS[:2])
    state = ClusterState(ALL)
    bound = BoundCluster(replace(SPEC, endpoints=endpoints, slow_start=SlowStart(10.0)), state, 0.0)
    assert {e.weight for e in bound.endpoints} != {1}
    state.observe_health(bound.endpoints[0], serving=False)
    bound.refresh(60.0)
    assert {e.weight for e in bound.endpoints} == {1}
