"""The deadline of the request that this program is serving, for the calls it makes meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar

from meshlib.policy import deadline

current: ContextVar[float | None] = ContextVar("meshlib_deadline", default=None)
"""By the mesh's monotonic clock; None: the request being served has none."""

DEFAULT_HEADER = "x-request-deadline"


def seconds_left(headers: Mapping[str, str], names: Iterable[str]) -> float | None:
    """What an inbound request's headers leave, by the first header that says so."""
    for name in dict.fromkeys((*names, DEFAULT_HEADER, deadline.GRPC_TIMEOUT)):
        value = headers.get(name)
        found = deadline.read(name, value) if value else None
        if found is not None:
            return found
    return None


@contextlib.contextmanager
def until(by: float | None) -> Iterator[None]:
    """Calls made inside are over by ``by``; an earlier deadline around this one stays."""
    around = current.get()
    token = current.set(around if by is None else by if around is None else min(by, around))
    try:
        yield
    finally:
        current.reset(token)
