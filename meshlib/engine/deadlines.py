"""The deadline of the request that this program is serving, for the calls it makes meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar

from meshlib.policy import deadline


class Until:
    """The deadline of a request that is served: ``by`` the mesh's monotonic clock. None once its response has ended: what its
    handler has left running, in whichever task or thread, is bound by it no longer."""

    __slots__ = ("by",)

    def __init__(self, by: float) -> None:
        self.by: float | None = by


current: ContextVar[float | Until | None] = ContextVar("meshlib_deadline", default=None)
"""By the mesh's monotonic clock; None: the request being served has none. ``around()`` reads it."""


def around() -> float | None:
    """When calls made here must be over, by the mesh's monotonic clock; None: nothing says."""
    found = current.get()
    return found.by if isinstance(found, Until) else found


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
    outer = around()
    token = current.set(outer if by is None else by if outer is None else min(by, outer))
    try:
        yield
    finally:
        current.reset(token)
