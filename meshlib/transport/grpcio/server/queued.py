"""How long a call stands in line for a thread of its server's pool (ResiliencePolicy ``loadShedding.maxQueueTime``).

grpcio asks interceptors for a call's handler as soon as the call has come, and calls that in a thread of the pool when one is
free. In between it stood in line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_arrived: ContextVar[float | None] = ContextVar("meshlib_grpc_arrived", default=None)


def timed(behaviour: Callable[..., Any], arrived: float) -> Callable[..., Any]:
    """A handler's function for one call, which came at ``arrived`` (seconds of the mesh's clock)."""

    @functools.wraps(behaviour)  # with what grpcio looks for on functions
    def serve(*args: object, **more: object) -> object:
        _arrived.set(arrived)
        found: object = behaviour(*args, **more)
        return found

    return serve


def seconds_in_line(now: float) -> float | None:
    """Of the call whose handler begins here and now; None when it was not timed, or runs in no thread of a pool. Told once: the
    next call of this thread may not be timed."""
    arrived = _arrived.get()
    if arrived is None:
        return None
    _arrived.set(None)
    return max(0.0, now - arrived)
