"""Deadlines along a call chain (ResiliencePolicy ``deadline``): how much time is left, in a header.

The value is the time that is left, not a point in time, so that clocks need not agree: whole milliseconds, or gRPC's
spelling (``100m``, ``5S``) in a header named grpc-timeout.
"""

from __future__ import annotations

import re

LONGEST = 86_400.0
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])")
_PLAIN = re.compile(r"[0-9]{1,12}")
GRPC_TIMEOUT = "grpc-timeout"


def read(header: str, value: str) -> float | None:
    """Seconds left, at most a day; None for what cannot be read (and is ignored: a deadline is a courtesy)."""
    value = value.strip()
    if header == GRPC_TIMEOUT:
        found = _GRPC.fullmatch(value)
        return None if found is None else min(LONGEST, int(found[1]) * _UNITS[found[2]])
    return min(LONGEST, int(value) / 1000.0) if _PLAIN.fullmatch(value) else None


def write(header: str, seconds: float) -> str:
    """The header's value, rounded down; never negative."""
    milliseconds = max(0, int(seconds * 1000.0 + 1e-6))
    if header != GRPC_TIMEOUT:
        return str(milliseconds)
    return f"{milliseconds}m" if milliseconds < 100_000_000 else f"{milliseconds // 1000}S"
