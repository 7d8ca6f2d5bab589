"""The user's own client interceptors around a call of the mesh: run by grpcio's machinery, with the mesh where it would have
put its own call. They see one call, whatever number of attempts it takes.

This leans on ``grpc.aio._interceptor``, which has no public name; its test holds it against the
installed grpcio.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from grpc import aio
from grpc.aio import _interceptor

if TYPE_CHECKING:
    import grpc

    from meshlib.transport.grpcio.contracts import Metadata


ClientInterceptor = aio.ClientInterceptor
Start = Callable[[aio.ClientCallDetails, object], object]
"""Begins the mesh's call with what interceptors made of its details and its request."""


class _EndsInTheMesh:
    """``_channel`` is a function that makes the mesh's call from details and request; ``_intercept`` the interceptors' method;
    ``_call`` what it should give, ``_wrap`` what makes one of anything else."""

    _channel: Start
    _intercept: str
    _call: type
    _wrap: Callable[..., object]
    _last_returned_call_from_interceptors: Any

    async def _invoke(
        self,
        interceptors: Sequence[ClientInterceptor],
        method: str,
        timeout: float | None,
        metadata: aio.Metadata,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        request: object,
        *_: object,
    ) -> object:
        details = aio.ClientCallDetails(method, timeout, metadata, credentials, wait_for_ready)
        return await self._through(list(interceptors), details, request)

    async def _through(
        self, interceptors: list[ClientInterceptor], details: aio.ClientCallDetails, request: object
    ) -> object:
        if interceptors:
            intercept: Callable[..., Awaitable[object]] = getattr(interceptors[0], self._intercept)
            call = await intercept(functools.partial(self._through, interceptors[1:]), details, request)
            if not isinstance(call, self._call):
                call = self._wrap(call)
        else:
            call = self._channel(details, request)
        self._last_returned_call_from_interceptors = call
        return call


class _UnaryUnary(_EndsInTheMesh, _interceptor.InterceptedUnaryUnaryCall):
    _intercept, _call = "intercept_unary_unary", aio.UnaryUnaryCall

    def _wrap(self, response: object) -> object:
        return _interceptor.UnaryUnaryCallResponse(response)


class _UnaryStream(_EndsInTheMesh, _interceptor.InterceptedUnaryStreamCall):
    _intercept, _call = "intercept_unary_stream", aio.UnaryStreamCall

    def _wrap(self, responses: AsyncIterable[object]) -> object:
        return _interceptor.UnaryStreamCallResponseIterator(self._last_returned_call_from_interceptors, responses)


class _StreamUnary(_EndsInTheMesh, _interceptor.InterceptedStreamUnaryCall):
    _intercept, _call = "intercept_stream_unary", object  # grpcio takes whatever comes


class _StreamStream(_EndsInTheMesh, _interceptor.InterceptedStreamStreamCall):
    _intercept, _call = "intercept_stream_stream", aio.StreamStreamCall

    def _wrap(self, responses: AsyncIterable[object]) -> object:
        return _interceptor.StreamStreamCallResponseIterator(self._last_returned_call_from_interceptors, responses)


KINDS: dict[str, tuple[type[ClientInterceptor], Callable[..., object]]] = {
    "unary_unary": (aio.UnaryUnaryClientInterceptor, _UnaryUnary),
    "unary_stream": (aio.UnaryStreamClientInterceptor, _UnaryStream),
    "stream_unary": (aio.StreamUnaryClientInterceptor, _StreamUnary),
    "stream_stream": (aio.StreamStreamClientInterceptor, _StreamStream),
}


def by_kind(interceptors: Sequence[ClientInterceptor] | None) -> dict[str, list[ClientInterceptor]]:
    """The interceptors of each kind of call. Raises ValueError for what is none, as grpcio does."""
    found: dict[str, list[ClientInterceptor]] = {kind: [] for kind in KINDS}
    for interceptor in interceptors or ():
        kinds = [kind for kind, (base, _) in KINDS.items() if isinstance(interceptor, base)]
        if not kinds:
            raise ValueError(f"{interceptor!r} is not a client interceptor of grpc.aio")
        for kind in kinds:
            found[kind].append(interceptor)
    return found


def intercepted(
    kind: str,
    interceptors: Sequence[ClientInterceptor],
    path: str,
    request: object,
    timeout: float | None,
    metadata: Metadata | None,
    credentials: grpc.CallCredentials | None,
    wait_for_ready: bool | None,
    call: Start,
) -> object:
    """The call that the user gets: interceptors first, then ``call(details, request)``."""
    given = aio.Metadata(*metadata) if metadata else aio.Metadata()
    loop = asyncio.get_running_loop()
    return KINDS[kind][1](
        interceptors, request, timeout, given, credentials, wait_for_ready, call, path.encode(), None, None, loop
    )
