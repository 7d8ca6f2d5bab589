"""ResiliencePolicy, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, ignored

LATER = "comes in a later release"

ROWS: tuple[Row, ...] = (
    ignored("targetRefs", LATER),
    ignored("host", LATER),
    ignored("circuitBreaker", LATER),
    ignored("bulkhead", LATER),
    ignored("retryBudget", LATER),
    ignored("hedging", LATER),
    ignored("adaptiveConcurrency", LATER),
    ignored("deadline", LATER),
    ignored("fallback", LATER),
    ignored("loadBalancer", LATER),
    ignored("rateLimit", LATER),
    ignored("loadShedding", LATER),
)
