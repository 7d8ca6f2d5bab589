"""Handlers of asyncio servers: each is wrapped in its like, runs as the current call, and is counted with how it ended."""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace

import grpc
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.inbound_context import current
from meshlib.transport.grpcio.server.loop import CodeKeepingContext, CountingContext, LoopRequests

METHOD = "/shop.Ratings/Get"


class Aborted(Exception):
    """What grpcio's abort raises."""


class Context:
    """grpcio's."""

    def __init__(self, code=None):
        self._code, self.written, self.callbacks = code, [], []
        self.to_read = ["a", grpc.aio.EOF]

    def auth_context(self):
        return {}

    def invocation_metadata(self):
        return (("x", "1"),)

    def peer(self):
        return "ipv4:127.0.0.1:4711"

    def time_remaining(self):
        return None

    def code(self):
        return self._code

    def set_code(self, code):
        self._code = code

    def add_done_callback(self, callback):
        self.callbacks.append(callback)

    async def abort(self, code, details):
        self._code = code
        raise Aborted(details)

    async def read(self):
        return self.to_read.pop(0)

    async def write(self, message):
        self.written.append(message)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
async def mesh(registry):
    made = meshlib.Mesh.from_resources([], registry=registry)
    yield made
    await made.aclose()


def counted(registry):
    """The gRPC statuses and flags of the calls that have ended."""
    return [
        (s.labels["grpc_response_status"], s.labels["response_flags"])
        for family in registry.collect()
        for s in family.samples
        if s.name == "istio_requests_total"
    ]


async def wrapped(mesh, handler):
    [interceptor] = mesh.aio_grpc_server_interceptors()

    async def find(_details):
        return handler

    details = SimpleNamespace(method=METHOD)
    made = await interceptor.intercept_service(find, details)
    again = await interceptor.intercept_service(find, details)
    assert (again is made) is (handler is not None), "each once, and one that is missing for its call only"
    return made


async def coroutine(request, context):
    return current.get().path, request


async def generator(request, context):
    yield current.get().path
    yield request


def plain(request, context):
    context.set_code(grpc.StatusCode.ABORTED)
    return current.get().path, context.code()


async def test_each_is_wrapped_in_its_like(mesh):
    one = await wrapped(mesh, grpc.unary_unary_rpc_method_handler(coroutine))
    assert inspect.iscoroutinefunction(one.unary_unary)
    stream = await wrapped(mesh, grpc.unary_stream_rpc_method_handler(generator))
    assert inspect.isasyncgenfunction(stream.unary_stream)
    pooled = (await wrapped(mesh, grpc.unary_unary_rpc_method_handler(plain))).unary_unary
    assert not inspect.iscoroutinefunction(pooled)
    assert not inspect.isasyncgenfunction(pooled)


async def test_its_request_is_the_current_one_while_it_runs(mesh, registry):
    one = await wrapped(mesh, grpc.unary_unary_rpc_method_handler(coroutine))
    assert await one.unary_unary("a", Context()) == (METHOD, "a")
    stream = await wrapped(mesh, grpc.unary_stream_rpc_method_handler(generator))
    assert [found async for found in stream.unary_stream("a", Context())] == [METHOD, "a"]
    pooled = await wrapped(mesh, grpc.unary_unary_rpc_method_handler(plain))
    assert pooled.unary_unary("a", Context()) == (METHOD, grpc.StatusCode.ABORTED)
    assert current.get() is None
    assert sorted(counted(registry)) == [("0", "-"), ("10", "-")]


async def test_what_it_raises_is_grpcios_to_tell_and_is_counted(mesh, registry):
    async def failing(_request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    made = await wrapped(mesh, grpc.unary_unary_rpc_method_handler(failing))
    with pytest.raises(Aborted, match="no such thing"):
        await made.unary_unary("a", Context())
    assert counted(registry) == [("5", "-")]


async def test_a_method_that_is_not_there_is_refused_and_counted(mesh, registry):
    context = Context()
    with pytest.raises(Aborted, match="Method not found!"):
        await (await wrapped(mesh, None)).stream_stream(iter(()), context)
    assert context.code() is grpc.StatusCode.UNIMPLEMENTED
    assert counted(registry) == [("12", "-")]


async def test_a_stream_whose_caller_has_gone_is_counted_once_and_its_handler_closed(mesh, registry):
    ends = []

    async def endless(_request, _context):
        try:
            while True:
                yield "x"
        finally:
            ends.append(current.get().path)

    context = Context()
    responses = (await wrapped(mesh, grpc.unary_stream_rpc_method_handler(endless))).unary_stream("a", context)
    assert await anext(responses) == "x"
    for callback in context.callbacks:
        callback(context)
    assert len(counted(registry)) == 1
    await responses.aclose()
    assert ends == [METHOD]
    assert len(counted(registry)) == 1


async def test_messages_are_counted_as_they_are_read_and_written():
    async def source():
        yield "a"
        yield "b"

    call = SimpleNamespace(request_messages=0, response_messages=0, request_bytes=0, response_bytes=0)
    assert [request async for request in LoopRequests(source(), call)] == ["a", "b"]
    assert call.request_messages == 2
    context = CountingContext(Context(), call)
    assert [await context.read(), await context.read()] == ["a", grpc.aio.EOF]
    await context.write("c")
    assert (call.request_messages, call.response_messages) == (3, 1)
    assert context.peer() == "ipv4:127.0.0.1:4711"


async def test_a_message_is_counted_though_its_caller_breaks_off_while_it_is_written():
    class BrokenOff(Context):
        async def write(self, message):
            raise asyncio.CancelledError

    call = SimpleNamespace(response_messages=0, response_bytes=0)
    with pytest.raises(asyncio.CancelledError):
        await CountingContext(BrokenOff(), call).write("c")
    assert call.response_messages == 1


def test_a_plain_functions_context_tells_its_code():
    class OfPool(Context):
        def abort(self, code, details):
            raise Aborted(details)

        def code(self):
            raise AssertionError("grpcio's own does not tell")

    context = CodeKeepingContext(OfPool())
    assert (context.code(), context.is_active()) == (None, True)
    context.set_code(grpc.StatusCode.ABORTED)
    assert context.code() is grpc.StatusCode.ABORTED
    with pytest.raises(Aborted):
        context.abort(grpc.StatusCode.NOT_FOUND, "no")
    assert context.code() is grpc.StatusCode.NOT_FOUND
