"""What metrics show of clusters and guards, as numbers."""

from __future__ import annotations

from typing import Any

from meshlib.engine.numbers import EndpointNumbers, cluster_numbers, guard_numbers
from tests.support.resources import destination_rule, pod, service
from tests.support.scripted import Bench

HOST = "reviews.default.svc.cluster.local"
KEY = f"outbound|9080||{HOST}"
BASE = [service("reviews"), *[pod("reviews", "v1", n + 1) for n in range(4)]]


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], **spec},
    }


def one(made: Bench) -> Any:
    assert made.live is not None
    made.live.cluster(KEY)
    (found,) = cluster_numbers(made.live, made.clock.now)
    return found


def test_endpoints_are_counted_by_what_discovery_and_outlier_detection_say():
    outlier = {"consecutive5xxErrors": 1, "baseEjectionTime": "30s", "interval": "10s", "maxEjectionPercent": 50}
    made = Bench(*BASE, destination_rule("reviews", outlierDetection=outlier))
    assert made.live is not None
    made.live.cluster(KEY).endpoints[0].healthy = False
    assert one(made).endpoints == EndpointNumbers(known=4, healthy=3, ejected=0, usable=3)
    made.call(made.script(500))
    assert one(made).endpoints == EndpointNumbers(known=4, healthy=3, ejected=1, usable=2)
    made.clock.advance(45.0)  # nobody calls meanwhile: who looks hears that the ejection is over
    assert one(made).endpoints == EndpointNumbers(known=4, healthy=3, ejected=0, usable=3)
    assert one(made).ejections == {"consecutive 5xx": 1}


def test_limits_that_are_not_set_are_none():
    found = one(Bench(*BASE))
    assert (found.max_active, found.max_retries, found.max_pending, found.max_connections) == (None,) * 4
    pool = {
        "tcp": {"maxConnections": 5},
        "http": {"http1MaxPendingRequests": 6, "http2MaxRequests": 7, "maxRetries": 8},
    }
    found = one(Bench(*BASE, destination_rule("reviews", connectionPool=pool)))
    assert (found.max_active, found.max_retries, found.max_pending, found.max_connections) == (7, 8, 6, 5)


def test_a_retry_budget_allows_a_share_of_what_is_under_way():
    made = Bench(*BASE, destination_rule("reviews", retryBudget={"percent": 50, "minRetryConcurrency": 2}))
    assert one(made).max_retries == 2
    calls = [made.begin()[1] for _ in range(10)]
    for call in calls:
        next(call)
    assert (one(made).active, one(made).max_retries) == (10, 5)
    for call in calls:
        call.close()
    assert (one(made).active, one(made).max_retries) == (0, 2)


def test_pass_through_has_no_endpoints_of_its_own():
    made = Bench()
    made.call(made.script(200), url="http://example.com:80/")
    assert made.live is not None
    assert [(each.service, each.endpoints) for each in cluster_numbers(made.live, made.clock.now)] == [
        ("PassthroughCluster", None)
    ]


def test_a_guard_tells_of_its_breaker_bulkhead_budget_and_limit():
    made = Bench(
        *BASE,
        policy(
            circuitBreaker={"failureThreshold": 2, "resetTimeout": "10s"},
            bulkhead={"maxConcurrent": 3, "maxWaiting": 1},
            retryBudget={"percent": 10, "minPerSecond": 1},
            adaptiveConcurrency={"minLimit": 1, "maxLimit": 20},
        ),
    )
    assert made.live is not None
    call = made.begin()[1]
    next(call)
    (found,) = guard_numbers(made.live, made.clock.now)
    assert (found.service, found.active, found.breaker, found.bulkhead) == (HOST, 1, "closed", (1, 0))
    assert found.budget == (0, 10.1)
    assert found.concurrency == 20
    call.close()
    for _ in range(2):
        made.call(made.script(503))
    (found,) = guard_numbers(made.live, made.clock.now)
    assert (found.active, found.breaker, found.bulkhead) == (0, "open", (0, 0))


def test_a_guard_without_mechanisms_tells_of_none():
    made = Bench(*BASE, policy(deadline={"propagate": True}))
    assert made.live is not None
    made.live.cluster(KEY)
    (found,) = guard_numbers(made.live, made.clock.now)
    assert (found.breaker, found.bulkhead, found.budget, found.concurrency) == ("", None, None, None)
