"""The server interceptor of asyncio.

grpcio looks at what a handler *is* (a coroutine function, an async generator function or a plain function, which it runs
in its thread pool), so each is wrapped in its like.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import grpc
import grpc.aio

from meshlib.engine.drivers import finish, run_async
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT, InboundCall
from meshlib.engine.inbound_context import enter, leave
from meshlib.transport.grpcio.contracts import Pairs, Req
from meshlib.transport.grpcio.server import threads
from meshlib.transport.grpcio.server.context_proxy import ContextProxy
from meshlib.transport.grpcio.server.handed_over import handed_over
from meshlib.transport.grpcio.server.queued import timed
from meshlib.transport.grpcio.server.served import (
    METHOD_NOT_FOUND,
    Behaviour,
    Context,
    CountedRequests,
    Served,
    Wrapped,
    behaviour_of,
    code_of,
    ended,
    failed,
    note_request,
    note_response,
    rebuilt,
)
from meshlib.transport.grpcio.server.shown import LoopChanged, about_to_respond_async, refused_metadata

if TYPE_CHECKING:
    from grpc import HandlerCallDetails, RpcMethodHandler

    from meshlib.engine.inbound import InboundExchange
    from meshlib.transport.core.mesh_core import MeshCore


class LoopContext(Context, Protocol):
    """grpcio's context of a call on asyncio."""

    def add_done_callback(self, callback: Callable[[object], None]) -> None: ...
    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Pairs = ()) -> None: ...


class MeshAioServerInterceptor(grpc.aio.ServerInterceptor):
    """Give it to ``grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors())``, before interceptors of your own."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._wrapped = Wrapped(lambda method, handler: wrap(served, method, handler))

    def judges_for(self, core: MeshCore) -> bool:
        """Whether this is an interceptor of that mesh."""
        return self._served.is_of(core)

    async def intercept_service(
        self,
        continuation: Callable[[HandlerCallDetails], Awaitable[RpcMethodHandler | None]],
        handler_call_details: HandlerCallDetails,
    ) -> RpcMethodHandler:
        """The handler of a call, inside the exchange. Methods that are not there are served, too: refused or counted."""
        handler = self._wrapped.of(handler_call_details.method, await continuation(handler_call_details))
        served = self._served
        if not served.looks_at_queue:
            return handler
        behaviour = behaviour_of(handler)
        if inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour):
            return handler
        return rebuilt(handler, timed(behaviour, served.clock.monotonic()))


def wrap(served: Served, method: str, handler: RpcMethodHandler | None) -> RpcMethodHandler:
    """A handler of an asyncio server, whichever way it is written."""
    if handler is None:
        return grpc.stream_stream_rpc_method_handler(one_response(served, method, _not_found, True, True))
    behaviour = behaviour_of(handler)
    streamed = handler.request_streaming
    if inspect.isasyncgenfunction(behaviour):
        made = response_stream(served, method, behaviour, streamed)
    elif inspect.iscoroutinefunction(behaviour):
        made = one_response(served, method, behaviour, streamed, handler.response_streaming)
    else:
        make = threads.response_stream if handler.response_streaming else threads.one_response
        made = _in_pool(make(served, method, behaviour, streamed))
    return rebuilt(handler, made)


async def _not_found(_requests: object, context: LoopContext) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, METHOD_NOT_FOUND)


def one_response(served: Served, method: str, behaviour: Behaviour, streamed: bool, writes: bool) -> Behaviour:
    """A coroutine that returns its response or (``writes``) writes its responses to the context."""

    async def serve(request: object, context: LoopContext) -> object:
        call, exchange, request, context = await admit(served, method, request, context, streamed)
        shown = CountingContext(context, call) if streamed or writes else context
        try:
            tokens = enter(call)
            try:
                response: object = await behaviour(request, shown)
            finally:
                leave(call, tokens)
            if streamed:
                await asyncio.sleep(0)  # see _failure
        except BaseException as error:
            finish(exchange, _failure(error, context))
            raise
        end = ended(context.code())
        if not writes:
            note_response(call, response)
            await about_to_respond_async(context)
        finish(exchange, end)
        return response

    return serve


def response_stream(served: Served, method: str, behaviour: Behaviour, streamed: bool) -> Behaviour:
    """An async generator of responses."""

    async def serve(request: object, context: LoopContext) -> AsyncIterator[object]:
        call, exchange, request, context = await admit(served, method, request, context, streamed)
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
                note_response(call, response)
                await about_to_respond_async(context)
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


def _over(exchange: InboundExchange, _context: object) -> None:
    finish(exchange, CUT)


def _failure(error: BaseException, context: LoopContext) -> Ended:
    """How a handler failed. grpcio shows a caller that breaks off its requests as the end of them, and cancels the task a
    moment later: hence the step of the loop after handlers that read streams, without which such a call would count as OK.
    """
    return CUT if isinstance(error, asyncio.CancelledError) else failed(context.code())


async def admit(
    served: Served, method: str, request: object, context: LoopContext, streamed: bool
) -> tuple[InboundCall, InboundExchange, object, LoopContext]:
    """As ``threads.admit``, in this task."""
    call = served.begin(method, context)
    exchange = served.exchange(call)
    refusal = (await run_async(exchange, served.awaited)).refusal
    if refusal is not None:
        finish(exchange)
        await context.abort(code_of(refusal), refusal.text, refused_metadata(call, refusal))
    request, context = handed_over(call, request, context, LoopChanged, LoopRequests if streamed else None)
    return call, exchange, request, context


class LoopRequests(CountedRequests[AsyncIterator[Req]]):
    """As an async iterator."""

    __slots__ = ()

    def __aiter__(self) -> LoopRequests[Req]:
        return self

    async def __anext__(self) -> Req:
        request = await self._requests.__anext__()
        note_request(self._call, request)
        return request


class CountingContext(ContextProxy):
    """The context of a streaming handler: what it reads and writes is counted."""

    __slots__ = ("_call",)

    def __init__(self, context: LoopContext, call: InboundCall) -> None:
        super().__init__(context)
        self._call = call

    async def read(self) -> object:
        """The next request, or ``grpc.aio.EOF``."""
        request: object = await self._context.read()
        if request is not grpc.aio.EOF:
            note_request(self._call, request)
        return request

    async def write(self, message: object) -> None:
        """Send a response."""
        # before it is sent, as a generator's are: a caller that has it may break off before this coroutine goes on
        note_response(self._call, message)
        await self._context.write(message)


def _in_pool(serve: Behaviour) -> Behaviour:
    """A plain function (or one that gives a plain generator), which grpcio runs in its thread pool."""

    def served_in_pool(request: object, context: object) -> object:
        result: object = serve(request, CodeKeepingContext(context))
        return result

    return served_in_pool


class CodeKeepingContext(ContextProxy):
    """The context of a plain function on an asyncio server: grpcio's own does not tell which code was set or aborted
    with, nor whether its caller is still there."""

    __slots__ = ("_code",)

    def __init__(self, context: object) -> None:
        super().__init__(context)
        self._code: object = None

    def code(self) -> object:
        """The code set last, or None."""
        return self._code

    def is_active(self) -> bool:
        """True: nothing tells."""
        return True

    def set_code(self, code: object) -> None:
        """As ``grpc.ServicerContext``'s."""
        self._context.set_code(code)
        self._code = code

    def abort(self, code: object, *more: object, **named: object) -> None:
        """As ``grpc.ServicerContext``'s: raises."""
        self._code = code
        self._context.abort(code, *more, **named)
