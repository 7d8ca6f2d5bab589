"""The state of a mesh as plain data: configuration version, clusters in use, endpoints with health and ejections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.explain import endpoints_of, limits_text
from meshlib.engine.facts import PassedThrough
from meshlib.policy.circuit_limits import UNLIMITED

if TYPE_CHECKING:
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.facts import ClusterFacts
    from meshlib.engine.live import Live

PASSED_THROUGH = 50


def status(live: Live, now: float) -> dict[str, object]:
    """For ``mesh.status()``. Only clusters that were called are bound; the others are counted."""
    snapshot = live.snapshot
    bound = list(live.bound.values())
    return {
        "version": snapshot.version,
        "resources": snapshot.resource_count,
        "virtual_hosts": sum(1 for _ in snapshot.virtual_hosts()),
        "clusters_known": len(snapshot.clusters),
        "clusters": [_cluster(cluster, now) for cluster in bound],
        "check_failures": live.check_failures.count,
        "resilience": [guard.status(now) for guard in list(live.guards.values())],
    }


def _retries_allowed(cluster: BoundCluster) -> int | None:
    """How many retries may run at once now; None: any number."""
    state, spec = cluster.state, cluster.spec
    if spec.retry_budget is not None:
        return spec.retry_budget.limit(state.active, 0 if state.slots is None else state.slots.pending)
    return None if spec.limits.max_retries >= UNLIMITED else spec.limits.max_retries


def _cluster(cluster: BoundCluster, now: float) -> ClusterFacts:
    state, spec = cluster.state, cluster.spec
    detector = state.detector
    if detector is not None and now >= detector.next_tick:
        cluster.catch_up(now)
    slots = state.slots
    return {
        "name": spec.key,
        "host": spec.host,
        "subset": spec.subset,
        "port": spec.port,
        "balancer": spec.balancer,
        "limits": limits_text(spec.limits),
        "requests": state.requests,
        "active": state.active,
        "failures": state.failures,
        "retries": state.retries,
        "retries_active": state.retries_active,
        "retries_allowed": _retries_allowed(cluster),
        "attempts": state.tally.attempts(state.ended),
        "overflows": dict(state.tally.overflows),
        "no_endpoint": state.tally.no_endpoint,
        "connections_in_use": None if slots is None else slots.in_use,
        "pending": None if slots is None else slots.pending,
        "endpoints": endpoints_of(cluster, now)
        if spec.resolution != "passthrough"
        else [PassedThrough(address=key) for key in list(state.endpoints)[:PASSED_THROUGH]],
        "events": [
            {"kind": e.kind, "endpoint": e.endpoint, "trigger": e.trigger, "at": e.at, "seconds": e.seconds}
            for e in state.events
        ],
    }
