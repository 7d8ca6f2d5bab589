"""The transports that Google's client libraries are made of work over the mesh's channels: they wrap its multicallables, and on
asyncio put interceptors into the channel's own lists."""

from __future__ import annotations

import grpc
import pytest
from google.api_core import exceptions, gapic_v1, grpc_helpers, grpc_helpers_async
from google.api_core.retry import Retry
from google.api_core.retry.retry_unary_async import AsyncRetry

from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Logging(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """As the logging interceptors that their generator writes: looks at what went and came."""

    def __init__(self, name="", log=None):
        self.name = name
        self.log = [] if log is None else log

    async def _intercept(self, continuation, details, request):
        call = await continuation(details, request)
        self.log.append((self.name, details.method.decode()))
        return call

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _intercept

    async def intercept_unary_unary(self, continuation, details, request):
        call = await continuation(details, request)
        self.log.append((self.name, details.method.decode()))
        await call.trailing_metadata()
        assert (await call).text == "x"
        return call


async def made(stub):
    assert (await stub.Unary(Message(text="x"), timeout=60)).text == "x"
    assert [m.text async for m in stub.Expand(Message(text="x", count=1), timeout=60)] == ["x0"]
    assert (await stub.Collect(iter([Message(text="x")]), timeout=60)).text == "x"
    assert [m.text async for m in stub.Chat(iter([Message(text="x")]), timeout=60)] == ["x"]


@pytest.mark.parametrize("when", ["before the stub", "after the stub"])
async def test_interceptors_put_into_the_channels_lists_act(when):
    with EchoServer() as server, mesh_of(server) as mesh:
        log = []
        channel = mesh.aio_grpc_channel(TARGET, interceptors=[Logging("given", log)])
        stub = stubs.EchoStub(channel)
        for kind in KINDS:
            getattr(channel, f"_{kind}_interceptors").append(Logging("last", log))
            getattr(channel, f"_{kind}_interceptors")[:0] = [Logging("first", log)]
        await made(stubs.EchoStub(channel) if when.startswith("before") else stub)
        methods = [f"/meshlib.test.Echo/{m}" for m in ("Unary", "Expand", "Collect", "Chat")]
        assert log == [(name, method) for method in methods for name in ("last", "given", "first")]


async def test_lists_that_are_replaced_act_on_stubs_made_since():
    with EchoServer() as server, mesh_of(server) as mesh:
        channel, logging = mesh.aio_grpc_channel(TARGET), Logging("new")
        channel._unary_unary_interceptors = [logging]
        assert (await stubs.EchoStub(channel).Unary(Message(text="x"), timeout=60)).text == "x"
        assert logging.log == [("new", "/meshlib.test.Echo/Unary")]


def test_wrapped_calls_of_threads():
    with EchoServer(script=["UNAVAILABLE", "ok"]) as server, mesh_of(server) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        retried = Retry(predicate=lambda e: isinstance(e, exceptions.ServiceUnavailable), initial=0.01)
        unary = gapic_v1.method.wrap_method(stub.Unary, default_retry=retried, default_timeout=60.0)
        assert unary(Message(text="x")).text == "x"
        server.echo.script[:] = ["NOT_FOUND"]
        with pytest.raises(exceptions.NotFound):
            unary(Message(text="x"))
        with pytest.raises(exceptions.NotFound):
            list(grpc_helpers.wrap_errors(stub.Expand)(Message(count=1), timeout=60))
        server.echo.script[:] = ["ok"]
        assert [m.text for m in grpc_helpers.wrap_errors(stub.Expand)(Message(text="x", count=2), timeout=60)] == [
            "x0",
            "x1",
        ]


async def test_wrapped_calls_on_asyncio():
    with EchoServer(script=["UNAVAILABLE", "ok"]) as server, mesh_of(server) as mesh:
        stub = stubs.EchoStub(mesh.aio_grpc_channel(TARGET))
        retried = AsyncRetry(predicate=lambda e: isinstance(e, exceptions.ServiceUnavailable), initial=0.01)
        unary = gapic_v1.method_async.wrap_method(stub.Unary, default_retry=retried, default_timeout=60.0)
        assert (await unary(Message(text="x"))).text == "x"
        server.echo.script[:] = ["NOT_FOUND"]
        with pytest.raises(exceptions.NotFound):
            await unary(Message(text="x"))
        with pytest.raises(exceptions.NotFound):
            async for _ in await grpc_helpers_async.wrap_errors(stub.Expand)(Message(count=1), timeout=60):
                pass
        server.echo.script[:] = ["ok"]
        streamed = await grpc_helpers_async.wrap_errors(stub.Expand)(Message(text="x", count=2), timeout=60)
        assert [m.text async for m in streamed] == ["x0", "x1"]
