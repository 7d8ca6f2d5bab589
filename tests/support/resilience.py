"""A service under a ResiliencePolicy, for whole exchanges."""

from __future__ import annotations

from typing import Any

from tests.support.resources import pod, service, to, virtual_service
from tests.support.scripted import Bench

HOST = "reviews.default.svc.cluster.local"
BREAKER = {"failureThreshold": 2, "resetTimeout": "10s"}
ANSWER = {"response": {"status": 200, "body": "none today", "headers": {"X-Stale": "1"}}}


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], **spec},
    }


def bench(*extra: dict[str, Any], pods: int = 3, rule: Any = None, **spec: Any) -> Bench:
    rules = [virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}, **(rule or {})})]
    return Bench(
        service("reviews"),
        *[pod("reviews", "v1", n + 1) for n in range(pods)],
        *rules,
        *([policy(**spec)] if spec else []),
        *extra,
    )


def guard(made: Bench) -> Any:
    assert made.live is not None
    made.live.cluster(f"outbound|9080||{HOST}")
    return made.live.guards[HOST]


def statuses(made: Bench, *outcomes: Any) -> list[Any]:
    found = []
    for outcome in outcomes:
        answer, _ = made.call(made.script(outcome))
        found.append(answer.status or answer.failure)
    return found


def hold(made: Bench) -> Any:
    """A call that is under way."""
    _, exchange = made.begin()
    next(exchange)
    return exchange
