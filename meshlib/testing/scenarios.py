"""Outages as they come in production, for ``chaos.play``. All times are seconds from then."""

from __future__ import annotations

from collections.abc import Iterable

from meshlib.testing.outage import Outage


def rolling_restart(endpoints: Iterable[str], seconds: float = 5.0, host: str = "*") -> list[Outage]:
    """One endpoint after the other is down for so long."""
    return [
        Outage(host, endpoint=endpoint, start=number * seconds, seconds=seconds)
        for number, endpoint in enumerate(endpoints)
    ]


def flapping(host: str, up: float = 5.0, down: float = 5.0, times: int = 3, subset: str | None = None) -> list[Outage]:
    """A host, or a subset of it, that is up for ``up`` seconds, then down for ``down``, ``times`` over."""
    return [Outage(host, subset, start=up + number * (up + down), seconds=down) for number in range(times)]


def brownout(
    host: str, latency: float = 2.0, resets: float = 0.2, seconds: float = 60.0, subset: str | None = None
) -> list[Outage]:
    """Not dead, but no good: every attempt is ``latency`` late, and this part of them is reset."""
    return [
        Outage(host, subset, kind="latency", latency=latency, seconds=seconds),
        Outage(host, subset, kind="reset", rate=resets, seconds=seconds),
    ]
