"""The server interceptor of threads: each handler runs inside the inbound exchange.

A handler's response generator is stepped with its request, deadline and span current, each step anew, so that nothing of it
stays in a pooled thread between steps. Handlers of asyncio servers that are plain functions run here, too.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from meshlib.engine.inbound import CUT, Ended, InboundCall, begin, finish
from meshlib.engine.inbound_context import enter, leave
from meshlib.policy.refusal import Refusal
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


class MeshServerInterceptor(grpc.ServerInterceptor):
    """Give it to ``grpc.server(..., interceptors=mesh.grpc_server_interceptors())``, before interceptors of your own."""

    def __init__(self, served: Served) -> None:
        self._wrapped = Wrapped(lambda method, handler: wrap(served, method, handler))

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of a call, inside the exchange. Methods that are not there are served, too: refused or counted."""
        return self._wrapped.of(handler_call_details.method, continuation(handler_call_details))


def wrap(served: Served, method: str, handler: Any) -> Any:
    """A handler of threads."""
    if handler is None:
        return grpc.stream_stream_rpc_method_handler(responding(served, method, _not_found, False))
    behaviour = behaviour_of(handler)
    made: Any
    if handler.response_streaming and getattr(behaviour, "experimental_non_blocking", False):
        made = sending(served, method, behaviour, handler.request_streaming)
        made.experimental_non_blocking = True
    else:
        make = responding if handler.response_streaming else answering
        made = make(served, method, behaviour, handler.request_streaming)
    pool = getattr(behaviour, "experimental_thread_pool", None)
    if pool is not None:
        made.experimental_thread_pool = pool
    return rebuilt(handler, made)


def _not_found(_requests: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, METHOD_NOT_FOUND)


def answering(served: Served, method: str, behaviour: Callable[..., Any], streamed: bool) -> Callable[..., Any]:
    """A behaviour with one response."""
    sleep = served.clock.sleep

    def serve(request: Any, context: Any) -> Any:
        call = served.call(method, context)
        exchange = served.exchange(call)
        refusal = begin(exchange, sleep)
        if refusal is not None:
            refuse(context, refusal)
        if streamed:
            request = CountedRequests(request, call)
        else:
            call.request_messages = 1
        try:
            tokens = enter(call)
            try:
                response = behaviour(request, context)
            finally:
                leave(call, tokens)
        except BaseException:
            finish(exchange, _failure(context))
            raise
        end = _end(context)
        if end is not CUT:
            call.response_messages = 1
        finish(exchange, end)
        return response

    return serve


def responding(served: Served, method: str, behaviour: Callable[..., Any], streamed: bool) -> Callable[..., Any]:
    """A behaviour with a stream of responses."""
    sleep = served.clock.sleep

    def serve(request: Any, context: Any) -> Iterator[Any]:
        call = served.call(method, context)
        exchange = served.exchange(call)
        refusal = begin(exchange, sleep)
        if refusal is not None:
            refuse(context, refusal)
        if streamed:
            request = CountedRequests(request, call)
        else:
            call.request_messages = 1
        responses: Any = None
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
                call.response_messages += 1
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


def sending(served: Served, method: str, behaviour: Callable[..., Any], streamed: bool) -> Callable[..., Any]:
    """A behaviour that returns at once and sends its responses by a callback, from any thread, None after the last: what
    grpcio calls ``experimental_non_blocking``. grpc_health's ``Watch`` is one."""
    sleep = served.clock.sleep
    blocking = responding(served, method, behaviour, streamed)

    def serve(request: Any, context: Any, send_response_callback: Any = None) -> Any:
        if send_response_callback is None:  # a server that does not know of this
            return blocking(request, context)
        call = served.call(method, context)
        exchange = served.exchange(call)
        refusal = begin(exchange, sleep)
        if refusal is not None:
            refuse(context, refusal)
        if streamed:
            request = CountedRequests(request, call)
        else:
            call.request_messages = 1
        lock = threading.Lock()  # the last response and the end of the call may be told at once

        def over(end: Ended) -> None:
            with lock:
                finish(exchange, end)

        def send(response: Any) -> None:
            if response is None:
                over(_end(context))
            else:
                call.response_messages += 1
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


def _close(responses: Any, call: InboundCall) -> None:
    """The handler's generator ends in its own surroundings: what it cleans up may ask for them."""
    close = getattr(responses, "close", None)
    if close is not None:
        tokens = enter(call)
        try:
            close()
        finally:
            leave(call, tokens)


def _end(context: Any) -> Ended:
    return ended(context.code()) if context.is_active() else CUT


def _failure(context: Any) -> Ended:
    return failed(context.code()) if context.is_active() else CUT


def refuse(context: Any, refusal: Refusal) -> None:
    """Answer in place of the handler; raises, as ``context.abort`` does."""
    context.abort(CODES[refusal.grpc], refusal.body)


class CountedRequests:
    """A handler's iterator of requests, counted as it reads them."""

    __slots__ = ("_call", "_requests")

    def __init__(self, requests: Any, call: InboundCall) -> None:
        self._requests = requests
        self._call = call

    def __iter__(self) -> CountedRequests:
        return self

    def __next__(self) -> Any:
        request = next(self._requests)
        self._call.request_messages += 1
        return request

    next = __next__  # grpcio's own iterators have it
