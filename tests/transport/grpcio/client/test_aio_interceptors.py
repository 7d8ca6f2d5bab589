"""The user's own client interceptors around calls of the mesh, in threads and on asyncio."""

from __future__ import annotations

import grpc
import pytest

from tests.support.grpc_echo import SERVICE, EchoServer, Message, echo_servers, stubs
from tests.support.grpc_runtimes import ANSWERS, KINDS, TARGET, Asyncio, by_kind, mesh_of


async def test_the_users_interceptors_see_one_call_whatever_the_attempts():
    seen = []

    class Count(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            seen.append(details.method)
            return continuation(details._replace(metadata=(("added", "yes"),)), request)

        def intercept_unary_stream(self, continuation, details, request):
            seen.append(details.method)
            return continuation(details, request)

    with echo_servers(["UNAVAILABLE", "ok"]) as [server], mesh_of(server) as mesh:
        stub = stubs.EchoStub(grpc.intercept_channel(mesh.grpc_channel(TARGET), Count()))
        assert stub.Unary(Message(text="x")).text == "x"
        assert [m.text for m in stub.Expand(Message(count=2))] == ["0", "1"]
        assert seen == [f"/{SERVICE}/Unary", f"/{SERVICE}/Expand"]
        assert [s.metadata.get("added") for s in server.seen] == ["yes", "yes", None]


class _Aio(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    def __init__(self, seen):
        self.seen = seen

    async def _go(self, continuation, details, request):
        self.seen.append(details.method.decode() if isinstance(details.method, bytes) else details.method)
        details.metadata.add("added", "yes")
        return await continuation(details, request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _go


async def test_the_users_interceptors_on_asyncio_see_one_call_whatever_the_attempts():
    seen = []
    with echo_servers(["UNAVAILABLE", "ok"]) as [server], mesh_of(server) as mesh:
        runtime = Asyncio(mesh, interceptors=[_Aio(seen)])
        for kind in KINDS:
            assert await by_kind(runtime, kind) == ANSWERS[kind]
        assert seen == [f"/{SERVICE}/{kind.title()}" for kind in KINDS]
        assert [s.metadata.get("added") for s in server.seen] == ["yes"] * 5
        call = runtime.stub.Unary(Message(text="x"))
        assert (await call).text == "x"
        assert await call.code() is grpc.StatusCode.OK
        await mesh.aclose()


class _Answers(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor,
               grpc.aio.StreamUnaryClientInterceptor, grpc.aio.StreamStreamClientInterceptor):  # fmt: skip
    """Gives its own answers, made of the mesh's where it ``asks`` for those."""

    def __init__(self, asks):
        self.asks = asks

    async def _one(self, continuation, details, request):
        answer = await (await continuation(details, request)) if self.asks else Message(text="mine")
        return Message(text=answer.text.upper())

    async def _several(self, continuation, details, request):
        async def answers(call):
            async for message in call:
                yield Message(text=message.text.upper())

        return answers(await continuation(details, request))

    intercept_unary_unary = _one
    intercept_unary_stream = intercept_stream_stream = _several

    async def intercept_stream_unary(self, continuation, details, request):
        return await continuation(details, request)  # grpcio takes nothing else here


async def test_interceptors_on_asyncio_may_answer_themselves():
    with EchoServer() as server, mesh_of(server) as mesh:
        runtime = Asyncio(mesh, interceptors=[_Answers(asks=True), _Aio([])])
        found = {kind: await by_kind(runtime, kind) for kind in KINDS}
        assert found == {"unary": "AB", "expand": ["X0", "X1"], "collect": "ab", "chat": ["A", "B"]}
        before = len(server.seen)
        assert await by_kind(Asyncio(mesh, interceptors=[_Answers(asks=False)]), "unary") == "MINE"
        assert len(server.seen) == before
        await mesh.aclose()


async def test_an_interceptor_may_call_another_method():
    class Redirects(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, details, request):
            return await continuation(details._replace(method=f"/{SERVICE}/Collect"), request)

    with EchoServer() as server, mesh_of(server) as mesh:
        async with mesh.aio_grpc_channel(TARGET, interceptors=[Redirects()]) as channel:
            assert (await stubs.EchoStub(channel).Unary(Message(text="x"))).text == "x"
        assert [seen.method for seen in server.seen] == ["Collect"]


def test_what_is_no_interceptor_is_refused():
    with mesh_of() as mesh, pytest.raises(ValueError, match="is not a client interceptor"):
        mesh.aio_grpc_channel(TARGET, interceptors=[object()])
