"""The server interceptor of asyncio.

grpcio looks at what a handler *is* (a coroutine function, an async generator function or a plain function, which it runs
in its thread pool), so each is wrapped in its like.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from meshlib.engine.inbound import CUT, Ended, InboundCall, InboundExchange, begin_async, finish
from meshlib.engine.inbound_context import enter, leave
from meshlib.policy.refusal import Refusal
from meshlib.transport.grpcio.server import threads as server
from meshlib.transport.grpcio.server.served import (
    CODES,
    METHOD_NOT_FOUND,
    Served,
    Wrapped,
    behaviour_of,
    ended,
    failed,
    rebuilt,
)


class MeshAioServerInterceptor(grpc.aio.ServerInterceptor):
    """Give it to ``grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors())``, before interceptors of your own."""

    def __init__(self, served: Served) -> None:
        self._wrapped = Wrapped(lambda method, handler: wrap(served, method, handler))

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """The handler of a call, inside the exchange. Methods that are not there are served, too: refused or counted."""
        return self._wrapped.of(handler_call_details.method, await continuation(handler_call_details))


def wrap(served: Served, method: str, handler: Any) -> Any:
    """A handler of an asyncio server, whichever way it is written."""
    if handler is None:
        return grpc.stream_stream_rpc_method_handler(answering(served, method, _not_found, True, True))
    behaviour = behaviour_of(handler)
    streamed = handler.request_streaming
    made: Callable[..., Any]
    if inspect.isasyncgenfunction(behaviour):
        made = responding(served, method, behaviour, streamed)
    elif inspect.iscoroutinefunction(behaviour):
        made = answering(served, method, behaviour, streamed, handler.response_streaming)
    else:
        make = server.responding if handler.response_streaming else server.answering
        made = _in_pool(make(served, method, behaviour, streamed))
    return rebuilt(handler, made)


async def _not_found(_requests: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, METHOD_NOT_FOUND)


def answering(
    served: Served, method: str, behaviour: Callable[..., Any], streamed: bool, writes: bool
) -> Callable[..., Any]:
    """A coroutine that returns its response or (``writes``) writes its responses to the context."""
    sleep = served.clock.sleep_async

    async def serve(request: Any, context: Any) -> Any:
        call = served.call(method, context)
        exchange = served.exchange(call)
        refusal = await begin_async(exchange, sleep)
        if refusal is not None:
            await refuse(context, refusal)
        shown = context
        if streamed:
            request = CountedRequests(request, call)
        else:
            call.request_messages = 1
        if streamed or writes:
            shown = CountingContext(context, call)
        try:
            tokens = enter(call)
            try:
                response = await behaviour(request, shown)
            finally:
                leave(call, tokens)
            if streamed:
                await asyncio.sleep(0)  # see _failure
        except BaseException as error:
            finish(exchange, _failure(error, context))
            raise
        end = ended(context.code())
        if not writes:
            call.response_messages = 1
        finish(exchange, end)
        return response

    return serve


def responding(served: Served, method: str, behaviour: Callable[..., Any], streamed: bool) -> Callable[..., Any]:
    """An async generator of responses."""
    sleep = served.clock.sleep_async

    async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
        call = served.call(method, context)
        exchange = served.exchange(call)
        refusal = await begin_async(exchange, sleep)
        if refusal is not None:
            await refuse(context, refusal)
        if streamed:
            request = CountedRequests(request, call)
        else:
            call.request_messages = 1
        # a caller that goes away while grpcio writes is nothing that this generator hears of before it is collected
        context.add_done_callback(functools.partial(_over, exchange))
        tokens = enter(call)
        try:
            responses = behaviour(request, CountingContext(context, call))
        finally:
            leave(call, tokens)
        try:
            while True:
                tokens = enter(call)
                try:
                    response = await responses.__anext__()
                except StopAsyncIteration:
                    break
                finally:
                    leave(call, tokens)
                call.response_messages += 1
                yield response
            if streamed:
                await asyncio.sleep(0)  # see _failure
        except GeneratorExit:
            finish(exchange, CUT)
            raise
        except BaseException as error:
            finish(exchange, _failure(error, context))
            raise
        else:
            finish(exchange, ended(context.code()))
        finally:
            tokens = enter(call)
            try:
                await responses.aclose()
            finally:
                leave(call, tokens)

    return serve


def _over(exchange: InboundExchange, _context: Any) -> None:
    finish(exchange, CUT)


def _failure(error: BaseException, context: Any) -> Ended:
    """How a handler failed. grpcio shows a caller that breaks off its requests as the end of them, and cancels the task a
    moment later: hence the step of the loop after handlers that read streams, without which such a call would count as OK.
    """
    return CUT if isinstance(error, asyncio.CancelledError) else failed(context.code())


async def refuse(context: Any, refusal: Refusal) -> None:
    """Answer in place of the handler; raises, as ``context.abort`` does."""
    await context.abort(CODES[refusal.grpc], refusal.body)


class CountedRequests:
    """A handler's async iterator of requests, counted as it reads them."""

    __slots__ = ("_call", "_requests")

    def __init__(self, requests: Any, call: InboundCall) -> None:
        self._requests = requests
        self._call = call

    def __aiter__(self) -> CountedRequests:
        return self

    async def __anext__(self) -> Any:
        request = await self._requests.__anext__()
        self._call.request_messages += 1
        return request


class CountingContext:
    """The context of a streaming handler: what it reads and writes is counted, all else is the context's own."""

    __slots__ = ("_call", "_context")

    def __init__(self, context: Any, call: InboundCall) -> None:
        self._context = context
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """The next request, or ``grpc.aio.EOF``."""
        request = await self._context.read()
        if request is not grpc.aio.EOF:
            self._call.request_messages += 1
        return request

    async def write(self, message: Any) -> None:
        """Send a response."""
        await self._context.write(message)
        self._call.response_messages += 1


def _in_pool(serve: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function (or one that gives a plain generator), which grpcio runs in its thread pool."""

    def served_in_pool(request: Any, context: Any) -> Any:
        return serve(request, CodeKeepingContext(context))

    return served_in_pool


class CodeKeepingContext:
    """The context of a plain function on an asyncio server: grpcio's own does not tell which code was set or aborted
    with, nor whether its caller is still there."""

    __slots__ = ("_code", "_context")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def code(self) -> Any:
        """The code set last, or None."""
        return self._code

    def is_active(self) -> bool:
        """True: nothing tells."""
        return True

    def set_code(self, code: Any) -> None:
        """As ``grpc.ServicerContext``'s."""
        self._context.set_code(code)
        self._code = code

    def abort(self, code: Any, *more: Any, **named: Any) -> None:
        """As ``grpc.ServicerContext``'s: raises."""
        self._code = code
        self._context.abort(code, *more, **named)
