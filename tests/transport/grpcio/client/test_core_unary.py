"""Unary calls on gRPC core's own binding come to what grpcio's multicallables come to, and go back to those where the binding
is not the one we know."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from meshlib.transport.grpcio.client import core_unary
from tests.support.grpc_echo import SERVICE, EchoServer, Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of

UNARY = f"/{SERVICE}/Unary"
PATH = UNARY.encode()
REQUEST = Message(text="hello").SerializeToString()
SCRIPTS = (["ok"], ["NOT_FOUND"], ["UNAVAILABLE"], [("head", "ABORTED")])


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """What one test makes of the binding is forgotten after it."""
    monkeypatch.setattr(core_unary, "_known", core_unary._known)


def refuse(data):
    raise ValueError("not today")


def in_threads(server, deserialize=Message.FromString):
    """The mesh's and grpcio's."""
    channel = grpc.insecure_channel(server.address)
    own = channel.unary_unary(UNARY, None, deserialize)
    return core_unary.for_threads(channel, PATH, deserialize, own), own


def on_loop(channel, deserialize=Message.FromString):
    own = channel.unary_unary(UNARY, None, deserialize)
    return core_unary.for_loops(channel, PATH, deserialize, own), own


def shown(error):
    """All that grpcio's users can ask an error."""
    return (
        type(error),
        error.code(),
        error.details(),
        [tuple(pair) for pair in error.initial_metadata() or ()],
        [tuple(pair) for pair in error.trailing_metadata() or ()],
        bool(error.debug_error_string()),
    )


async def answer_of(unary, request=REQUEST, timeout=None, metadata=()):
    """As the mesh's runtime does it; the answer and the call."""
    under_way = set()
    outcome = await unary.outcome(request, timeout, metadata, under_way)
    assert not under_way
    return outcome.message, outcome.call


def test_the_installed_grpcio_has_the_binding_that_we_know():
    assert core_unary._known
    with EchoServer() as server:
        assert isinstance(in_threads(server)[0], core_unary.Unary)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_call_in_threads_comes_to_what_grpcios_comes_to(script):
    with EchoServer("one", list(script)) as server:
        results = []
        for call in in_threads(server):
            try:
                results.append(call(REQUEST, 60, (("a", "1"), ("a", "2"))).text)
            except grpc.RpcError as error:
                results.append(shown(error))
        assert results[0] == results[1]
        first, second = server.seen
        assert first.metadata["a"] == second.metadata["a"] == "2"
        assert 20 < first.time_remaining < 60.5


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
async def test_a_call_on_asyncio_comes_to_what_grpcios_comes_to(script):
    with EchoServer("one", list(script)) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            unary, own = on_loop(channel)
            assert isinstance(unary, core_unary.AioUnary)
            results = []
            for call in (lambda: answer_of(unary, REQUEST, 60, (("a", "1"),)), lambda: _own(own)):
                try:
                    message, inner = await call()
                    inner = core_unary.public_call(inner)
                    results.append((message.text, await inner.code(), await inner.details(),
                                    await inner.initial_metadata(), await inner.trailing_metadata(),
                                    await inner.debug_error_string()))  # fmt: skip
                except grpc.RpcError as error:
                    results.append(shown(error))
            assert results[0] == results[1]
            assert 20 < server.seen[0].time_remaining < 60.5


async def _own(own):
    call = own(REQUEST, timeout=60, metadata=(("a", "1"),))
    return await call, call


def test_a_deadline_in_threads_ends_like_grpcios():
    with EchoServer("one", [60.0]) as server:
        errors = []
        for call in in_threads(server):
            with pytest.raises(grpc.RpcError) as raised:
                call(REQUEST, 0.05)
            errors.append(raised.value)
        assert [e.code() for e in errors] == [grpc.StatusCode.DEADLINE_EXCEEDED] * 2
        assert errors[0].details() == errors[1].details()


async def test_a_deadline_on_asyncio_ends_like_grpcios():
    with EchoServer("one", [60.0]) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            unary, _ = on_loop(channel)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await answer_of(unary, timeout=0.05)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_only_the_last_call_in_threads_is_kept_to_be_destroyed_during_the_next():
    with EchoServer() as server:
        unary = in_threads(server)[0]
        unary(REQUEST)
        last = unary._ended
        assert last is not None
        unary(REQUEST)
        assert unary._ended is not last
        assert sys.getrefcount(last) <= 2  # here and (before Python 3.14) in the question


async def test_only_the_last_call_on_asyncio_is_kept_likewise():
    with EchoServer() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            unary, _ = on_loop(channel)
            await answer_of(unary)
            last = unary._ended
            assert last is not None
            waiting = asyncio.ensure_future(answer_of(unary))
            await asyncio.sleep(0)
            assert unary._ended is None, "gone while the server works on the next one"
            _, call = await waiting
            assert unary._ended is call


def test_answers_that_cannot_be_read_are_the_callers_internal_error(caplog):
    with EchoServer() as server:
        errors = []
        for call in in_threads(server, refuse):
            caplog.clear()
            with pytest.raises(grpc.RpcError) as raised:
                call(REQUEST)
            errors.append((shown(raised.value)[:3], len(caplog.records)))
        assert errors[0] == errors[1]
        assert errors[0][0][1:] == (grpc.StatusCode.INTERNAL, "Exception deserializing response!")


@pytest.mark.parametrize("metadata", [(("UPPER", "x"),), (("name", 5),), (("a", "\n"),)], ids=str)
def test_metadata_that_cannot_be_sent_fails_like_grpcios_and_changes_nothing(metadata):
    with EchoServer() as server:
        ends = []
        for call in in_threads(server):
            with pytest.raises(Exception) as raised:
                call(REQUEST, None, metadata)
            ends.append((type(raised.value), str(raised.value)))
        assert ends[0] == ends[1]
        assert core_unary._known
        assert server.seen == []


def test_a_closed_channel_refuses_like_grpcios():
    with EchoServer() as server:
        channel = grpc.insecure_channel(server.address)
        call = core_unary.for_threads(channel, PATH, None, channel.unary_unary(UNARY))
        channel.close()
        with pytest.raises(ValueError, match="closed channel"):
            call(REQUEST)


def test_what_only_grpcio_knows_is_left_to_it():
    with EchoServer() as server:
        call, own = in_threads(server)
        assert call.future == own.future
        answer, inner = call.with_call(REQUEST)
        assert (answer.text, inner.code()) == ("hello", grpc.StatusCode.OK)
        asked = []
        call._own = lambda *arguments: asked.append(arguments) or "grpcio's"
        credentials = grpc.access_token_call_credentials("secret")
        assert call(REQUEST, 3, (("a", "b"),), compression=grpc.Compression.Gzip) == "grpcio's"
        assert call(REQUEST, None, None, credentials) == "grpcio's"
        assert asked == [
            (REQUEST, 3, (("a", "b"),), None, None, grpc.Compression.Gzip),
            (REQUEST, None, None, credentials, None, None),
        ]


async def test_an_answer_without_a_message_is_none_as_grpcios_is():
    handler = grpc.unary_stream_rpc_method_handler(lambda request, context: iter(()))
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Unary": handler}),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address) as channel:
        own = channel.unary_unary(UNARY)
        ends = []
        for call in (own, core_unary.for_threads(channel, PATH, None, own)):
            try:
                ends.append(await asyncio.to_thread(call, REQUEST))
            except grpc.RpcError as error:
                ends.append(shown(error))
        assert ends[0] == ends[1]
    async with grpc.aio.insecure_channel(address) as channel:
        unary, own = on_loop(channel, None)
        ends = []
        for call in (lambda: own(REQUEST), lambda: _answer_only(unary)):
            try:
                ends.append(await call())
            except grpc.RpcError as error:
                ends.append(shown(error))
        assert ends[0] == ends[1]
    server.stop(None)


async def _answer_only(unary):
    return (await answer_of(unary))[0]


@pytest.mark.parametrize(
    "asked",
    [{}, {"compression": grpc.Compression.Gzip}, {"credentials": grpc.access_token_call_credentials("x")}, "plugin"],
    ids=["plain", "compression", "credentials", "plugin"],
)
async def test_on_asyncio_too_what_only_grpcio_knows_is_left_to_it(monkeypatch, asked):
    from grpc import _observability

    own = []

    async def answer():
        return Message(text="grpcio's")

    monkeypatch.setattr(core_unary.AioUnary, "__call__", lambda self, request, **given: own.append(given) or answer())
    with EchoServer() as server, mesh_of(server) as mesh:
        async with mesh.aio_grpc_channel(TARGET) as channel:
            stub = stubs.EchoStub(channel)
            if asked == "plugin":
                monkeypatch.setattr(_observability, "_OBSERVABILITY_PLUGIN", Recorder())
                asked = {}
            elif not asked:
                assert (await stub.Unary(Message(text="x"))).text == "x"
                assert own == []
                return
            assert (await stub.Unary(Message(), **asked)).text == "grpcio's"
            assert {name: own[0][name] for name in asked} == asked


class Recorder:
    """As much of a plugin of grpcio's observability as calls need."""

    observability_enabled = False
    tracing_enabled = False
    stats_enabled = True

    def __init__(self):
        self.recorded = []

    def record_rpc_latency(self, method, target, latency, code):
        self.recorded.append((method, code))


def test_observability_plugins_of_grpcio_see_every_call():
    from grpc import _observability

    recorder = Recorder()
    with EchoServer() as server:
        call, _ = in_threads(server)
        _observability.set_plugin(recorder)
        try:
            call(REQUEST)
        finally:
            _observability.set_plugin(None)
    assert recorder.recorded == [(UNARY, grpc.StatusCode.OK)]


def test_another_binding_leaves_calls_in_threads_to_grpcio(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "meshlib.grpc")
    with EchoServer() as server:
        call, _ = in_threads(server)
        call._start = lambda *_: (_ for _ in ()).throw(TypeError("segregated_call() takes exactly 9 arguments"))
        assert [call(REQUEST).text for _ in range(3)] == ["hello"] * 3
        assert len(server.seen) == 3
        channel = grpc.insecure_channel(server.address)
        own = channel.unary_unary(UNARY)
        assert core_unary.for_threads(channel, PATH, None, own) is own
    assert len(caplog.records) == 1
    assert "not the one that meshlib knows (segregated_call() takes exactly 9" in caplog.text


ELSEWHERE = """
import asyncio, logging, sys
logging.basicConfig(level=logging.INFO)
from grpc._cython import cygrpc
del cygrpc._AioCall  # as if it had another name
import meshlib
from meshlib.transport.grpcio.client import core_unary
from tests.support.grpc_echo import Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of

assert not core_unary._known

async def on_loop(mesh):
    async with mesh.aio_grpc_channel(TARGET) as channel:
        call = stubs.EchoStub(channel).Unary(Message(text="b"))
        return (await call).text + (await call.code()).name + dict(iter(await call.trailing_metadata()))["answered-by"]

with mesh_of(int(sys.argv[1])) as mesh:
    print(stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary(Message(text="a")).text, asyncio.run(on_loop(mesh)))
"""


def test_a_binding_of_another_shape_leaves_every_call_to_grpcio():
    with EchoServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(server.port)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
    assert done.stdout.split() == ["a", "bOKone"], done.stderr
    assert done.stderr.count("is not the one that meshlib knows") == 1


async def test_another_binding_leaves_calls_on_asyncio_to_grpcio(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "meshlib.grpc")

    class Other:
        class _channel:  # noqa: N801 (grpcio's name)
            @staticmethod
            def call(path, deadline):
                raise AssertionError("never called with two arguments")

    own = object()
    assert core_unary.for_loops(Other, PATH, None, own) is own
    assert "takes grpcio's own way" in caplog.text or "take grpcio's own way" in caplog.text
    assert core_unary.for_loops(Other, PATH, None, own) is own


async def test_what_is_cancelled_on_asyncio_is_cancelled_at_the_server():
    begun, gone = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Waits(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, details):
            async def handle(request, context):
                begun.set()
                context.add_done_callback(lambda c: loop.call_soon_threadsafe(gone.set))
                await asyncio.sleep(30)

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server(interceptors=[Waits()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        unary, _ = on_loop(channel)
        under_way = set()
        task = asyncio.ensure_future(_outcome(unary, under_way))
        await asyncio.wait_for(begun.wait(), 60)
        (call,) = under_way
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not under_way
        core_unary.cancel_unless_done(call)
        core_unary.cancel_unless_done(call)  # twice does no harm
        await asyncio.wait_for(gone.wait(), 30)
    await server.stop(None)


async def _outcome(unary, under_way):
    return await unary.outcome(REQUEST, None, (), under_way)


@pytest.mark.parametrize("message", [None, b"x"])
async def test_on_asyncio_a_call_may_be_over_before_anybody_waits(message):
    class Over:
        async def unary_unary(self, request, metadata):
            return message

        def is_ok(self):
            return True

    class Channel:
        def call(self, *_):
            return Over()

    unary = core_unary.AioUnary(Channel(), PATH, None, None)
    outcome = await _outcome(unary, set())
    assert (outcome.message, outcome.size) == (message, 0 if message is None else 6)
