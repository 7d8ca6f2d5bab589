"""Warm-up (DestinationRule ``loadBalancer.warmup``): a new endpoint gets its share of traffic little by little."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlowStart:
    """``window`` in seconds; the share starts at ``minimum_percent`` and grows along time^(1/aggression), 1 being a
    straight line."""

    window: float
    aggression: float = 1.0
    minimum_percent: float = 10.0

    def factor(self, age: float) -> float:
        """What an endpoint's weight is multiplied with ``age`` seconds after it joined."""
        if age >= self.window:
            return 1.0
        time = max(age, 0.001) / self.window
        return float(max(self.minimum_percent / 100.0, time ** (1.0 / self.aggression)))
