"""The state of a mesh as numbers: what metrics show of clusters and guards, read when somebody looks and never at a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.policy.circuit_limits import UNLIMITED

if TYPE_CHECKING:
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.guard import Guard
    from meshlib.engine.live import Live

BREAKER_STATES = ("closed", "half-open", "open")


@dataclass(slots=True)
class EndpointNumbers:
    """Endpoints of a cluster: ``known``; ``healthy`` by discovery; ``ejected`` by outlier detection; ``usable``, which may be
    picked when there is no panic."""

    known: int
    healthy: int
    ejected: int
    usable: int


@dataclass(slots=True)  # not frozen, which would cost half of the reading
class ClusterNumbers:
    """One cluster in use. Limits that are not set are None. ``attempts`` by result, ``overflows`` by limit and ``ejections`` by
    reason only grow, as ``retries`` and ``no_endpoint`` do; the rest is as of now. ``pending`` stand in line for a connection.
    ``endpoints`` is None where each caller names the address."""

    key: str
    service: str
    subset: str
    port: int
    attempts: Mapping[str, int]
    overflows: Mapping[str, int]
    ejections: Mapping[str, int]
    retries: int
    no_endpoint: int
    active: int
    max_active: int | None
    retries_active: int
    max_retries: int | None
    pending: int
    max_pending: int | None
    max_connections: int | None
    endpoints: EndpointNumbers | None


@dataclass(frozen=True, slots=True)
class GuardNumbers:
    """One service's ResiliencePolicy. ``breaker`` is its state, "" without one; ``bulkhead`` calls in it and waiting for it;
    ``budget`` retries of the last ten seconds and how many there may be."""

    service: str
    active: int
    breaker: str
    bulkhead: tuple[int, int] | None
    budget: tuple[int, float] | None
    concurrency: int | None


def cluster_numbers(live: Live, now: float) -> list[ClusterNumbers]:
    """Of the clusters that were called. Endpoints whose ejection is over by ``now`` come back first."""
    return [_cluster(cluster, now) for cluster in list(live.bound.values())]


def guard_numbers(live: Live, now: float) -> list[GuardNumbers]:
    """Of the services that a ResiliencePolicy guards and that were called."""
    return [_guard(guard, now) for guard in list(live.guards.values())]


def _cluster(cluster: BoundCluster, now: float) -> ClusterNumbers:
    state, spec = cluster.state, cluster.spec
    detector = state.detector
    if detector is not None and now >= detector.next_tick:
        cluster.catch_up(now)
    cluster.refresh(now)
    slots, limits, tally = state.slots, spec.limits, state.tally
    with state.lock:
        pending = 0 if slots is None else slots.pending
        active, retries_active = state.active, state.retries_active
        budget = spec.retry_budget
        return ClusterNumbers(
            key=spec.key,
            service=spec.host,
            subset=spec.subset,
            port=spec.port,
            attempts=tally.attempts(state.ended),
            overflows=dict(tally.overflows),
            ejections=dict(tally.ejections),
            retries=state.retries,
            no_endpoint=tally.no_endpoint,
            active=active,
            max_active=_limit(limits.http2_max_requests),
            retries_active=retries_active,
            max_retries=_limit(limits.max_retries) if budget is None else budget.limit(active, pending),
            pending=pending,
            max_pending=_limit(limits.http1_max_pending_requests),
            max_connections=_limit(limits.max_connections),
            endpoints=None if spec.resolution == "passthrough" else _endpoints(cluster),
        )


def _endpoints(cluster: BoundCluster) -> EndpointNumbers:
    endpoints = cluster.endpoints
    return EndpointNumbers(
        known=len(endpoints),
        healthy=sum(endpoint.healthy for endpoint in endpoints),
        ejected=sum(endpoint.ejected for endpoint in endpoints),
        usable=sum(endpoint.usable for endpoint in endpoints),
    )


def _guard(guard: Guard, now: float) -> GuardNumbers:
    bulkhead, adaptive, budget = guard.bulkhead, guard.adaptive, guard.budget
    with guard.calls.lock:
        standing = None if budget is None else budget.standing(now)
    return GuardNumbers(
        service=guard.settings.host,
        active=guard.active,
        breaker="" if guard.breaker is None else guard.breaker.state,
        bulkhead=None if bulkhead is None else (bulkhead.in_use, bulkhead.pending),
        budget=standing,
        concurrency=None if adaptive is None else int(adaptive.limit),
    )


def _limit(value: int) -> int | None:
    return None if value >= UNLIMITED else value
