"""ResiliencePolicy, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, honoured, ignored, mounted

ENGINE = "tests/engine/test_resilience.py"
HEDGING = "tests/engine/test_resilience_hedging.py"
FALLBACK = "tests/engine/test_resilience_fallback.py"
SHARED = "tests/transport/core/test_shared_breaker.py"
REDIS = "tests/transport/core/test_shared_limits.py"
PROTECTION = "tests/mesh/test_inbound_protection.py"
MODELS = "tests/compiler/test_inbound_protection.py"
MODE = "shadow: runs, is counted, touches nothing"

MATCH = (
    honoured("match.path", "without query, at any spelling and as the router matched it", PROTECTION),
    honoured("match.method", "exact, prefix, regex or a bare text", PROTECTION),
    honoured("match.headers", "by name, the same", PROTECTION),
)


def limit(name: str, per: str = "") -> tuple[Row, ...]:
    """A list of rate limits."""
    rows = (
        *MATCH,
        honoured("mode", MODE, PROTECTION, "enforce"),
        honoured(
            "key.by",
            "principal, remoteIp or route (gRPC's method; over HTTP the template, with meshlib_fastapi and meshlib_flask: else "
            "a notice); those without share one bucket",
            PROTECTION,
            "one bucket for all",
        ),
        honoured("key.header", "the value of a header", PROTECTION),
        honoured("key.claim", "of a token that was verified; a.b: a claim in a claim", PROTECTION),
        honoured("requests", "more: 429 RL, with retry-after and x-envoy-ratelimited", PROTECTION),
        honoured("per", "in that time; tokens come one by one, as Envoy's", PROTECTION, per),
        honoured("burst", "at once", PROTECTION, "requests"),
        honoured(
            "storage.rateLimitService",
            "Envoy's service, by gRPC: it gets the key and the rate",
            "tests/engine/test_rate_limit_service.py",
        ),
        honoured(
            "storage.timeout",
            "then the request is let through, and counted",
            "tests/engine/test_rate_limit_service.py",
            "20ms",
        ),
        honoured(
            "storage.redis.url",
            "a Redis, by the library limits: whole windows",
            REDIS,
        ),
    )
    return tuple(mounted(name, rows))


ROWS: tuple[Row, ...] = (
    honoured("targetRefs", "the services it guards", "tests/compiler/test_resilience.py"),
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
    honoured("hedging.delay", "then another try joins", HEDGING),
    honoured("hedging.percentile", "the same, of recent latencies", HEDGING),
    honoured("hedging.maxHedges", "tries that may join", "tests/mesh/test_hedging.py", "1"),
    honoured("hedging.unsafeMethods", "POST and its like, too", HEDGING, "false"),
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
    honoured("fallback.response", "the response when there is none, or a 502, 503 or 504", FALLBACK),
    honoured("fallback.destination", "is called instead", FALLBACK),
    honoured("loadBalancer.mode", MODE, ENGINE, "enforce"),
    honoured("loadBalancer.peakEwma", "latency times requests under way, of two", ENGINE, "10s"),
    ignored("rateLimit", "it does not say whose requests to count: spec.inbound.rateLimits acts"),
    ignored("loadShedding", "spec.inbound.loadShedding acts"),
    honoured(
        "selector",
        "the workloads that inbound is about, of a policy that has nothing else",
        MODELS,
        "all of the namespace",
    ),
    *mounted("inbound", (*limit("rateLimits", "1s"), *limit("quotas"))),
    honoured("inbound.loadShedding.mode", MODE, PROTECTION, "enforce"),
    honoured("inbound.loadShedding.maxLag", "of the event loop, 99th percentile of 100 ms; more: 503 UO", PROTECTION),
    honoured(
        "inbound.loadShedding.maxQueueTime",
        "the same, of requests in line for a thread; a notice where the server does not tell",
        PROTECTION,
    ),
    honoured("inbound.maxConcurrent", "requests at once; more: 503 UO", PROTECTION),
    honoured("inbound.adaptiveConcurrency.mode", MODE, PROTECTION, "enforce"),
    honoured(
        "inbound.adaptiveConcurrency.algorithm", "gradient", "tests/policy/test_adaptive_concurrency.py", "gradient"
    ),
    honoured("inbound.adaptiveConcurrency.minLimit", "requests that are always let in", PROTECTION, "1"),
    honoured("inbound.adaptiveConcurrency.maxLimit", "requests at most", PROTECTION, "1000"),
    *mounted("inbound.priorities", MATCH),
    honoured(
        "inbound.priorities.priority",
        "critical: never shed; of each limit high may use up all, normal 80 %, low half",
        PROTECTION,
        "normal, where there are priorities",
    ),
    honoured(
        "inbound.healthChecks", "paths that are never shed", PROTECTION, "/health, /healthz, /livez, /readyz, gRPC's"
    ),
    honoured("inbound.maxBodyBytes", "more: 413, also while it streams", PROTECTION),
    honoured("inbound.maxHeaderBytes", "names, values and request line; more: 431", PROTECTION),
    honoured("inbound.deadline.mode", MODE, PROTECTION, "enforce"),
    honoured(
        "inbound.deadline.header", "how long the request may take, as deadline.header", PROTECTION, "x-request-deadline"
    ),
    honoured("inbound.deadline.default", "the same without it, and at most", PROTECTION),
    honoured("inbound.rateLimitedAsResourceExhausted", "gRPC gets 8, not 14", PROTECTION, "false"),
    honoured("inbound.xRateLimitHeaders", "x-ratelimit-limit, -remaining, -reset to callers", PROTECTION, "false"),
)
