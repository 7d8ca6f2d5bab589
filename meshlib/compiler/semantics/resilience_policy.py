"""ResiliencePolicy, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, honoured, ignored

ENGINE = "tests/engine/test_resilience.py"
SHARED = "tests/transport/core/test_shared_breaker.py"
INBOUND = "it guards servers, which come with the inbound release"
MODE = "shadow: runs, is counted, touches nothing"

ROWS: tuple[Row, ...] = (
    honoured("targetRefs", "the services it guards", ENGINE),
    honoured("host", "the service it guards", SHARED),
    honoured("circuitBreaker.mode", MODE, ENGINE, "enforce"),
    honoured("circuitBreaker.failureThreshold", "failures (5xx, no response) in a row that open it", ENGINE, "5"),
    honoured("circuitBreaker.resetTimeout", "then one call tries", ENGINE, "30s"),
    honoured(
        "circuitBreaker.storage.redis.url",
        "shared by a fleet",
        SHARED,
        "in memory",
    ),
    honoured("bulkhead.mode", MODE, ENGINE, "enforce"),
    honoured("bulkhead.maxConcurrent", "calls at once; more: 503 UO", ENGINE),
    honoured("bulkhead.maxWaiting", "calls in line", ENGINE, "0"),
    honoured("retryBudget.mode", MODE, ENGINE, "enforce"),
    honoured("retryBudget.percent", "retries, of the calls of the last 10 s", ENGINE, "20"),
    honoured(
        "retryBudget.minPerSecond", "retries that are always allowed", "tests/policy/test_windowed_budget.py", "10"
    ),
    honoured("hedging.mode", MODE, ENGINE, "enforce"),
    honoured("hedging.delay", "then another try joins", ENGINE),
    honoured("hedging.percentile", "the same, of recent latencies", ENGINE),
    honoured("hedging.maxHedges", "tries that may join", "tests/mesh/test_hedging.py", "1"),
    honoured("hedging.unsafeMethods", "POST and its like, too", ENGINE, "false"),
    honoured("adaptiveConcurrency.mode", MODE, ENGINE, "enforce"),
    honoured("adaptiveConcurrency.algorithm", "gradient", "tests/policy/test_adaptive_concurrency.py", "gradient"),
    honoured("adaptiveConcurrency.minLimit", "calls that are always let through", ENGINE, "1"),
    honoured("adaptiveConcurrency.maxLimit", "calls at most", ENGINE, "1000"),
    honoured("deadline.mode", MODE, ENGINE, "enforce"),
    honoured(
        "deadline.header",
        "milliseconds left; grpc-timeout in gRPC's spelling",
        "tests/policy/test_deadline.py",
        "x-request-deadline",
    ),
    honoured("deadline.propagate", "sent on, shrunk, with each attempt", ENGINE, "true"),
    honoured("fallback.mode", MODE, ENGINE, "enforce"),
    honoured("fallback.response", "answers when there is none, or a 502, 503 or 504", ENGINE),
    honoured("fallback.destination", "is called instead", ENGINE),
    honoured("loadBalancer.mode", MODE, ENGINE, "enforce"),
    honoured("loadBalancer.peakEwma", "latency times requests under way, of two", ENGINE, "10s"),
    ignored("rateLimit", INBOUND),
    ignored("loadShedding", INBOUND),
)
