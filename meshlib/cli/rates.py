"""Two looks at the hosts of a running process (``/hosts``), and what has happened in between."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from meshlib.telemetry.host_calls import percentile


@dataclass(frozen=True, slots=True)
class HostRate:
    """``errors``: the share of calls that failed, 0 to 1. ``p50`` and ``p99`` in milliseconds, None without calls. ``active``:
    attempts under way; ``unusable`` endpoints are ejected or not ready."""

    host: str
    direction: str
    calls_per_second: float
    errors: float
    p50: float | None
    p99: float | None
    active: int
    endpoints: int
    ejected: int
    unusable: int

    def to_dict(self) -> dict[str, object]:
        """For programs; keys are stable."""
        return asdict(self)


def rates(before: dict[str, Any], after: dict[str, Any]) -> list[HostRate]:
    """By host, the busiest first. What is smaller than before has begun anew: it counts whole."""
    seconds = max(after["at"] - before["at"], 1e-9)
    earlier = {(each["direction"], each["host"]): each for each in before["hosts"]}
    found = []
    for each in after["hosts"]:
        old = earlier.get((each["direction"], each["host"]))
        counts, errors = each["counts"], each["errors"]
        if old is not None and old["calls"] <= each["calls"] and seconds > 1e-9:
            counts = [now - then for now, then in zip(counts, old["counts"], strict=True)]
            errors -= old["errors"]
        calls = sum(counts)
        found.append(
            HostRate(
                each["host"],
                each["direction"],
                calls / seconds,
                errors / calls if calls else 0.0,
                percentile(after["bounds"], counts, 0.5),
                percentile(after["bounds"], counts, 0.99),
                each["active"],
                each["endpoints"],
                each["ejected"],
                each["unusable"],
            )
        )
    return sorted(found, key=lambda rate: (-rate.calls_per_second, rate.direction, rate.host))
