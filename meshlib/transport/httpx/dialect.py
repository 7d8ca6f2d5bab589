"""What callers of one module (httpx, or its successor httpx2) are given: its own responses, and its own streams.

The request says which: a transport serves clients of both.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from meshlib.httpx_module import module_of_request
from meshlib.transport.httpx.bodies import AsyncBodyStream, SyncBodyStream
from meshlib.transport.httpx.response import Responses
from meshlib.transport.upstream.trace import AsyncTracedBody, TracedBody

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from meshlib.httpx_module import HttpxModule
    from meshlib.transport.upstream.trace import AsyncTrace, SyncTrace

    Stream = httpx.SyncByteStream | httpx.AsyncByteStream
    Traced = Callable[[Stream, SyncTrace | AsyncTrace], Stream]


class Dialect:
    """``stream`` and ``traced`` are for blocking clients, the others for event loops."""

    __slots__ = ("async_stream", "async_traced", "module", "responses", "stream", "traced")

    def __init__(self, module: HttpxModule) -> None:
        self.module: Final = module
        self.responses: Final = Responses(module)
        sync, awaited = module.SyncByteStream, module.AsyncByteStream
        self.stream: Final[type[SyncBodyStream]] = _of(SyncBodyStream, sync, {"_module": module})
        self.traced: Final[Traced] = _of(TracedBody, sync, {})
        self.async_stream: Final[type[AsyncBodyStream]] = _of(AsyncBodyStream, awaited, {"_module": module})
        self.async_traced: Final[Traced] = _of(AsyncTracedBody, awaited, {})


def _of(kind: type, theirs: type, more: dict[str, object]) -> type:
    return type(kind.__name__, (kind, theirs), {"__doc__": kind.__doc__, **more})


@functools.cache
def dialect(module: HttpxModule) -> Dialect:
    """The one of ``module``."""
    return Dialect(module)


known: dict[type, Dialect] = {}
"""By the class of the request. A transport looks here first: it is asked for each call."""


def dialect_of(request: httpx.Request) -> Dialect:
    """The one of the module whose request it is, or whose subclass."""
    found = dialect(module_of_request(request))
    if type(request) is found.module.Request:  # classes of the caller's own come and go
        known[type(request)] = found
    return found
