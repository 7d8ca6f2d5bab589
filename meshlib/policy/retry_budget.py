"""How many retries may run at once, in proportion to what is under way (DestinationRule ``retryBudget``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Envoy's: ``percent`` of the requests that are active or waiting, never fewer than ``minimum``."""

    percent: float = 20.0
    minimum: int = 3

    def allows(self, retries: int, active: int, pending: int) -> bool:
        """Whether one more may join ``retries`` that run."""
        return retries < self.limit(active, pending)

    def limit(self, active: int, pending: int) -> int:
        """How many may run beside so many requests."""
        return max(self.minimum, int(self.percent * (active + pending) / 100.0))

    @property
    def text(self) -> str:
        """For people: ``20 % of active requests, at least 3``."""
        return f"{self.percent:g} % of active requests, at least {self.minimum}"
