"""The server interceptor of threads: each handler runs inside the inbound exchange.

A handler's response generator is stepped with its request, deadline and span current, each step anew, so that nothing of it
stays in a pooled thread between steps. Handlers of asyncio servers that are plain functions run here, too.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, Protocol

import grpc

from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT, InboundCall
from meshlib.engine.inbound_context import enter, leave
from meshlib.transport.grpcio.contracts import Pairs, Req
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
from meshlib.transport.grpcio.server.shown import ThreadChanged, about_to_respond, refused_metadata

if TYPE_CHECKING:
    from grpc import HandlerCallDetails, RpcMethodHandler

    from meshlib.engine.inbound import InboundExchange
    from meshlib.transport.core.mesh_core import MeshCore


class ThreadContext(Context, Protocol):
    """grpcio's context of a call in threads, beyond what its stubs say."""

    def is_active(self) -> bool: ...
    def add_callback(self, callback: Callable[[], None]) -> bool: ...
    def set_trailing_metadata(self, trailing_metadata: Pairs) -> None: ...
    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...


class MeshServerInterceptor(grpc.ServerInterceptor):
    """Give it to ``grpc.server(..., interceptors=mesh.grpc_server_interceptors())``, before interceptors of your own."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._wrapped = Wrapped(lambda method, handler: wrap(served, method, handler))

    def judges_for(self, core: MeshCore) -> bool:
        """Whether this is an interceptor of that mesh."""
        return self._served.is_of(core)

    def intercept_service(
        self,
        continuation: Callable[[HandlerCallDetails], RpcMethodHandler | None],
        handler_call_details: HandlerCallDetails,
    ) -> RpcMethodHandler:
        """The handler of a call, inside the exchange. Methods that are not there are served, too: refused or counted."""
        handler = self._wrapped.of(handler_call_details.method, continuation(handler_call_details))
        served = self._served
        if not served.looks_at_queue:
            return handler
        return rebuilt(handler, timed(behaviour_of(handler), served.clock.monotonic()))


def wrap(served: Served, method: str, handler: RpcMethodHandler | None) -> RpcMethodHandler:
    """A handler of threads."""
    if handler is None:
        return grpc.stream_stream_rpc_method_handler(response_stream(served, method, _not_found, False))
    behaviour = behaviour_of(handler)
    if handler.response_streaming and getattr(behaviour, "experimental_non_blocking", False):
        made = responses_by_callback(served, method, behaviour, handler.request_streaming)
        setattr(made, "experimental_non_blocking", True)  # noqa: B010 (an attribute that grpcio looks for on functions)
    else:
        make = response_stream if handler.response_streaming else one_response
        made = make(served, method, behaviour, handler.request_streaming)
    pool = getattr(behaviour, "experimental_thread_pool", None)
    if pool is not None:
        setattr(made, "experimental_thread_pool", pool)  # noqa: B010 (likewise)
    return rebuilt(handler, made)


def _not_found(_requests: object, context: ThreadContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, METHOD_NOT_FOUND)


def one_response(served: Served, method: str, behaviour: Behaviour, streamed: bool) -> Behaviour:
    """A behaviour with one response."""

    def serve(request: object, context: ThreadContext) -> object:
        call, exchange, request, context = admit(served, method, request, context, streamed)
        try:
            tokens = enter(call)
            try:
                response: object = behaviour(request, context)
            finally:
                leave(call, tokens)
        except BaseException:
            finish(exchange, _failure(context))
            raise
        end = _end(context)
        if end is not CUT:
            note_response(call, response)
        about_to_respond(context)
        finish(exchange, end)
        return response

    return serve


def response_stream(served: Served, method: str, behaviour: Behaviour, streamed: bool) -> Behaviour:
    """A behaviour with a stream of responses."""

    def serve(request: object, context: ThreadContext) -> Iterator[object]:
        call, exchange, request, context = admit(served, method, request, context, streamed)
        responses: Iterator[object] | None = None
        try:
            tokens = enter(call)
            try:
                responses = behaviour(request, context)
            finally:
                leave(call, tokens)
            while True:
                tokens = enter(call)
                try:
                    response = next(responses)
                except StopIteration:
                    break
                finally:
                    leave(call, tokens)
                note_response(call, response)
                about_to_respond(context)
                yield response
        except GeneratorExit:  # grpcio has dropped the generator: its caller has gone
            _close(responses, call)
            exchange.close()
            raise
        except BaseException:
            finish(exchange, _failure(context))
            raise
        finish(exchange, _end(context))

    return serve


def responses_by_callback(served: Served, method: str, behaviour: Behaviour, streamed: bool) -> Behaviour:
    """A behaviour that returns at once and sends its responses by a callback, from any thread, None after the last: what
    grpcio calls ``experimental_non_blocking``. grpc_health's ``Watch`` is one."""
    blocking = response_stream(served, method, behaviour, streamed)

    def serve(
        request: object, context: ThreadContext, send_response_callback: Callable[[object], None] | None = None
    ) -> object:
        if send_response_callback is None:  # a server that does not know of this
            return blocking(request, context)
        call, exchange, request, context = admit(served, method, request, context, streamed)
        lock = threading.Lock()  # the last response and the end of the call may be told at once

        def over(end: Ended) -> None:
            with lock:
                finish(exchange, end)

        def send(response: object) -> None:
            if response is None:
                over(_end(context))
            else:
                note_response(call, response)
                about_to_respond(context)
            send_response_callback(response)

        try:
            tokens = enter(call)
            try:
                behaviour(request, context, send_response_callback=send)
            finally:
                leave(call, tokens)
        except BaseException:
            over(_failure(context))
            raise
        if not context.add_callback(functools.partial(over, CUT)):
            over(CUT)
        return None

    return serve


def _close(responses: object, call: InboundCall) -> None:
    """The handler's generator ends in its own surroundings: what it cleans up may ask for them."""
    close = getattr(responses, "close", None)
    if close is not None:
        tokens = enter(call)
        try:
            close()
        finally:
            leave(call, tokens)


def _end(context: ThreadContext) -> Ended:
    return ended(context.code()) if context.is_active() else CUT


def _failure(context: ThreadContext) -> Ended:
    return failed(context.code()) if context.is_active() else CUT


def admit(
    served: Served, method: str, request: object, context: ThreadContext, streamed: bool
) -> tuple[InboundCall, InboundExchange, object, ThreadContext]:
    """Run the exchange of a call up to its handler: the call, its exchange, and its request (or counted stream of them) and
    context for the handler. A refusal is sent in place of the handler's response, and raises as ``context.abort`` does."""
    call = served.begin(method, context)
    exchange = served.exchange(call)
    refusal = run(exchange, served.blocking).refusal
    if refusal is not None:
        finish(exchange)
        more = refused_metadata(call, refusal)
        if more:
            context.set_trailing_metadata(more)
        context.abort(code_of(refusal), refusal.text)
    request, context = handed_over(call, request, context, ThreadChanged, ThreadRequests if streamed else None)
    return call, exchange, request, context


class ThreadRequests(CountedRequests[Iterator[Req]]):
    """As an iterator."""

    __slots__ = ()

    def __iter__(self) -> ThreadRequests[Req]:
        return self

    def __next__(self) -> Req:
        request = next(self._requests)
        note_request(self._call, request)
        return request

    next = __next__  # grpcio's own iterators have it
