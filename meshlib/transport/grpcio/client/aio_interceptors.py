"""The user's own client interceptors around a call of the mesh: run by grpcio's machinery, with the mesh where it would have
put its own call. They see one call, whatever number of attempts it takes.

This leans on ``grpc.aio._interceptor``, which has no public name; its test holds it against the
installed grpcio.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

from grpc import aio
from grpc.aio import _interceptor


class _EndsInTheMesh:
    """``_channel`` is a function that makes the mesh's call from details and request; ``_intercept`` the interceptors' method;
    ``_call`` what it should give, ``_wrap`` what makes one of anything else."""

    _channel: Callable[[Any, Any], Any]
    _intercept: str
    _call: type
    _wrap: Any

    async def _invoke(
        self,
        interceptors: Sequence[Any],
        method: Any,
        timeout: Any,
        metadata: Any,
        credentials: Any,
        wait_for_ready: Any,
        request: Any,
        *_: Any,
    ) -> Any:
        details = aio.ClientCallDetails(method, timeout, metadata, credentials, wait_for_ready)
        return await self._through(list(interceptors), details, request)

    async def _through(self, interceptors: list[Any], details: Any, request: Any) -> Any:
        if interceptors:
            intercept = getattr(interceptors[0], self._intercept)
            call = await intercept(functools.partial(self._through, interceptors[1:]), details, request)
            if not isinstance(call, self._call):
                call = self._wrap(call)
        else:
            call = self._channel(details, request)
        self._last_returned_call_from_interceptors = call
        return call


class _UnaryUnary(_EndsInTheMesh, _interceptor.InterceptedUnaryUnaryCall):
    _intercept, _call = "intercept_unary_unary", aio.UnaryUnaryCall

    def _wrap(self, answer: Any) -> Any:
        return _interceptor.UnaryUnaryCallResponse(answer)


class _UnaryStream(_EndsInTheMesh, _interceptor.InterceptedUnaryStreamCall):
    _intercept, _call = "intercept_unary_stream", aio.UnaryStreamCall

    def _wrap(self, answers: Any) -> Any:
        return _interceptor.UnaryStreamCallResponseIterator(self._last_returned_call_from_interceptors, answers)


class _StreamUnary(_EndsInTheMesh, _interceptor.InterceptedStreamUnaryCall):
    _intercept, _call = "intercept_stream_unary", object  # grpcio takes whatever comes


class _StreamStream(_EndsInTheMesh, _interceptor.InterceptedStreamStreamCall):
    _intercept, _call = "intercept_stream_stream", aio.StreamStreamCall

    def _wrap(self, answers: Any) -> Any:
        return _interceptor.StreamStreamCallResponseIterator(self._last_returned_call_from_interceptors, answers)


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
