"""For tests in which something real is to be done within a time that they set: on a busy machine they have more of it."""

from __future__ import annotations

from collections.abc import Callable


def with_more_time(test: Callable[[float], None], *seconds: float) -> None:
    """Call ``test`` with the first of these; where it fails, with the next one. What fails with the last has failed."""
    for each in seconds[:-1]:
        try:
            return test(each)
        except Exception:
            continue
    return test(seconds[-1])
