"""Calls of reviews on the bench: its Pods and subsets, and a rule."""

from __future__ import annotations

from tests.support.resources import destination_rule, pod, service, virtual_service
from tests.support.scripted import Bench

PODS = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v1", 2), pod("reviews", "v2", 3)]
SUBSETS = destination_rule("reviews", "v1", "v2")
V1 = "outbound|9080|v1|reviews.default.svc.cluster.local"
ALL = "outbound|9080||reviews.default.svc.cluster.local"


def bench(rule: dict, *more: dict, seed: int = 7) -> Bench:
    return Bench(*PODS, *(more or (SUBSETS,)), virtual_service("reviews", rule), seed=seed)


def idle(b: Bench, cluster: str) -> bool:
    state = b.state(cluster)
    return state.active == 0 and state.retries_active == 0 and all(e.active == 0 for e in state.endpoints.values())
