"""Where chaos comes in on the side of gRPC servers: between grpcio and a mesh's interceptors. What they, and handlers, see is
what they see of a caller that is late, or leaves; its caller sees UNAVAILABLE, as of a connection that broke."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.testing.served import BROKEN, LEFT, plan_of
from meshlib.transport.grpcio.server.loop import MeshAioServerInterceptor
from meshlib.transport.grpcio.server.served import Behaviour, behaviour_of, rebuilt
from meshlib.transport.grpcio.server.threads import MeshServerInterceptor

if TYPE_CHECKING:
    from grpc import HandlerCallDetails, RpcMethodHandler

    from meshlib.testing.served import Plan
    from meshlib.transport.core.mesh_core import MeshCore

    Handler = RpcMethodHandler[Any, Any]

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
_threads, _loop = MeshServerInterceptor.intercept_service, MeshAioServerInterceptor.intercept_service


def stand_in(planned: bool) -> None:
    """Stand before the interceptors of all servers of this process, or not any more."""
    MeshServerInterceptor.intercept_service = _served if planned else _threads  # type: ignore[method-assign,assignment]
    MeshAioServerInterceptor.intercept_service = _served_aio if planned else _loop  # type: ignore[method-assign,assignment]


def _served(
    self: MeshServerInterceptor,
    continuation: Callable[[HandlerCallDetails], Handler | None],
    details: HandlerCallDetails,
) -> Handler:
    """In the place of ``MeshServerInterceptor.intercept_service``."""
    handler = _threads(self, continuation, details)
    core = self._served.core
    plan = plan_of(core, details.method)
    return handler if plan is None else rebuilt(handler, _in_threads(core, plan, handler))


async def _served_aio(
    self: MeshAioServerInterceptor,
    continuation: Callable[[HandlerCallDetails], Awaitable[Handler | None]],
    details: HandlerCallDetails,
) -> Handler:
    """In the place of ``MeshAioServerInterceptor.intercept_service``."""
    handler = await _loop(self, continuation, details)
    core = self._served.core
    plan = plan_of(core, details.method)
    if plan is None:
        return handler
    behaviour = behaviour_of(handler)
    if inspect.isasyncgenfunction(behaviour):
        return rebuilt(handler, _generator(core, plan, behaviour, handler.request_streaming))
    if inspect.iscoroutinefunction(behaviour):
        return rebuilt(handler, _coroutine(core, plan, behaviour, handler))
    return rebuilt(handler, _in_threads(core, plan, handler))


# -- threads ----------------------------------------------------------------------------------------------------------


def _in_threads(core: MeshCore, plan: Plan, handler: Handler) -> Behaviour:
    behaviour = behaviour_of(handler)

    def begin(request: Any, context: Any) -> Any:
        if plan.latency:
            core.clock.sleep(plan.latency)
        if plan.reset or (plan.request is not None and not handler.request_streaming):
            context.abort(UNAVAILABLE, BROKEN if plan.reset else LEFT)
        return request if plan.request is None else _requests(request, plan.request, context)

    def one(request: object, context: Any) -> object:
        response = behaviour(begin(request, context), context)
        if plan.response is not None:
            context.abort(UNAVAILABLE, plan.why)
        return response

    def stream(request: object, context: Any) -> Iterator[object]:
        responses = behaviour(begin(request, context), context)
        left = plan.response
        for response in responses:
            if left is not None:
                if left <= 0:
                    responses.close()
                    context.abort(UNAVAILABLE, plan.why)
                left -= 1
            yield response

    return stream if handler.response_streaming else one


def _requests(requests: Iterator[object], after: int, context: Any) -> Iterator[object]:
    for number, request in enumerate(requests):
        if number >= after:
            context.abort(UNAVAILABLE, LEFT)
        yield request


# -- asyncio ----------------------------------------------------------------------------------------------------------


async def _begin(core: MeshCore, plan: Plan, request: Any, context: Any, streamed: bool) -> Any:
    if plan.latency:
        await core.clock.sleep_async(plan.latency)
    if plan.reset or (plan.request is not None and not streamed):
        await context.abort(UNAVAILABLE, BROKEN if plan.reset else LEFT)
    return request if plan.request is None else _requests_async(request, plan.request, context)


async def _requests_async(requests: AsyncIterator[object], after: int, context: Any) -> AsyncIterator[object]:
    number = 0
    async for request in requests:
        if number >= after:
            await context.abort(UNAVAILABLE, LEFT)
        number += 1
        yield request


def _coroutine(core: MeshCore, plan: Plan, behaviour: Behaviour, handler: Handler) -> Behaviour:
    async def one(request: object, context: Any) -> object:
        request = await _begin(core, plan, request, context, handler.request_streaming)
        response: object = await behaviour(request, context)
        if plan.response is not None:
            await context.abort(UNAVAILABLE, plan.why)
        return response

    return one


def _generator(core: MeshCore, plan: Plan, behaviour: Behaviour, streamed: bool) -> Behaviour:
    async def stream(request: object, context: Any) -> AsyncIterator[object]:
        responses = behaviour(await _begin(core, plan, request, context, streamed), context)
        left = plan.response
        async for response in responses:
            if left is not None:
                if left <= 0:
                    await responses.aclose()
                    await context.abort(UNAVAILABLE, plan.why)
                left -= 1
            yield response

    return stream
