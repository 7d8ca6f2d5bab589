"""The user's own client interceptors around a call of the mesh: run by grpcio's machinery, with the mesh where it would have
put its own call. They see one call, whatever number of attempts it takes.

This leans on ``grpc.aio._interceptor``, which has no public name; tests/grpcio/test_calls.py holds it
against the installed grpcio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from grpc import aio
from grpc.aio import _interceptor


class _EndsInTheMesh:
    """``_channel`` is a function that makes the mesh's call from details and request."""

    _channel: Callable[[Any, Any], Any]

    async def _run_interceptor(self, interceptors: Sequence[Any], *rest: Any) -> Any:
        if interceptors:
            return await super()._run_interceptor(interceptors, *rest)
        call = self._channel(*rest[-2:])
        self._last_returned_call_from_interceptors = call
        return call


class _UnaryUnary(_EndsInTheMesh, _interceptor.InterceptedUnaryUnaryCall):
    pass


class _UnaryStream(_EndsInTheMesh, _interceptor.InterceptedUnaryStreamCall):
    pass


class _StreamUnary(_EndsInTheMesh, _interceptor.InterceptedStreamUnaryCall):
    pass


class _StreamStream(_EndsInTheMesh, _interceptor.InterceptedStreamStreamCall):
    pass


KINDS: dict[str, tuple[type, Any]] = {
    "unary_unary": (aio.UnaryUnaryClientInterceptor, _UnaryUnary),
    "unary_stream": (aio.UnaryStreamClientInterceptor, _UnaryStream),
    "stream_unary": (aio.StreamUnaryClientInterceptor, _StreamUnary),
    "stream_stream": (aio.StreamStreamClientInterceptor, _StreamStream),
}


def by_kind(interceptors: Sequence[Any] | None) -> dict[str, list[Any]]:
    """The interceptors of each kind of call. Raises ValueError for what is none, as grpcio does."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for interceptor in interceptors or ():
        kinds = [kind for kind, (base, _) in KINDS.items() if isinstance(interceptor, base)]
        if not kinds:
            raise ValueError(f"{interceptor!r} is no client interceptor of grpc.aio")
        for kind in kinds:
            found[kind].append(interceptor)
    return found


def intercepted(
    kind: str,
    interceptors: Sequence[Any],
    path: str,
    request: Any,
    timeout: float | None,
    metadata: Any,
    credentials: Any,
    wait_for_ready: bool | None,
    call: Callable[[Any, Any], Any],
) -> Any:
    """The call that the user gets: interceptors first, then ``call(details, request)``."""
    given = aio.Metadata(*metadata) if metadata else aio.Metadata()
    loop = asyncio.get_running_loop()
    return KINDS[kind][1](
        interceptors, request, timeout, given, credentials, wait_for_ready, call, path.encode(), None, None, loop
    )
