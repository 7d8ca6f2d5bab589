"""Hedging (ResiliencePolicy ``hedging``): a further try while the first still runs."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.policy.latency import Latencies

SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """After ``delay`` seconds, or after the ``percentile`` of recent latencies; ``max_hedges`` tries beside the first;
    other methods than safe ones only with ``unsafe_methods``."""

    delay: float | None = None
    percentile: float | None = None
    max_hedges: int = 1
    unsafe_methods: bool = False

    def may(self, method: str) -> bool:
        """Whether requests with this method may be sent twice."""
        return self.unsafe_methods or method in SAFE

    def wait(self, latencies: Latencies, now: float) -> float | None:
        """Seconds until the next try, None while too little is known."""
        if self.delay is not None:
            return self.delay
        return latencies.percentile(self.percentile or 0.0, now)
