"""Injected faults on gRPC calls, and what else a policy answers: Envoy's status and words, and the mesh's reason."""

from __future__ import annotations

import asyncio
import json
import time

import grpc
import pytest
from hyperframe.frame import GoAwayFrame, SettingsFrame

from meshlib.policy.grpc_status import NUMBERS
from tests.support.grpc_echo import EchoServer, Message
from tests.support.grpc_runtimes import ANSWERS, HOST, KINDS, TARGET, Threads, by_kind, mesh_of, refused
from tests.support.h2_server import H2Server
from tests.support.resources import to


def fault(**what):
    return [{"route": [to(HOST)], "fault": what}]


def abort(**what):
    return fault(abort={**what, "percentage": {"value": 100}})


@pytest.mark.parametrize("name", [n for n in NUMBERS if n != "OK"])
async def test_a_grpc_status_is_answered_as_it_stands(name):
    with mesh_of(1, rules=abort(grpcStatus=name)) as mesh:
        error = await refused(Threads(mesh).unary())
        assert error.code().name == name
        assert error.details().startswith("fault filter abort (")
        assert error.exchange.flags == "FI"


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (429, "UNAVAILABLE"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "UNAVAILABLE"),
        (200, "UNKNOWN"),
        (418, "UNKNOWN"),
        (500, "UNKNOWN"),
    ],
)
async def test_an_http_status_is_mapped_as_in_envoy(status, name):
    with mesh_of(1, rules=abort(httpStatus=status)) as mesh:
        error = await refused(Threads(mesh).unary())
        assert error.code().name == name


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_is_aborted(runtime_class, kind):
    with EchoServer() as server, mesh_of(server, rules=abort(grpcStatus="DATA_LOSS")) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind))
        assert error.code() is grpc.StatusCode.DATA_LOSS
        told = dict(iter(error.trailing_metadata()))
        assert told["meshlib-flags"] == "FI"
        assert told["meshlib-route"] == f"VirtualService/default/echo http[0] -> {HOST}"
        assert not server.seen


async def test_an_abort_with_ok_answers_nothing():
    with mesh_of(1, rules=abort(grpcStatus="OK")) as mesh:
        stub = Threads(mesh).stub
        from tests.support.grpc_echo import Message

        assert stub.Unary(Message()) is None
        assert list(stub.Expand(Message(count=2))) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_is_delayed(runtime_class, kind):
    delay = {"fixedDelay": "0.2s", "percentage": {"value": 100}}
    with EchoServer() as server, mesh_of(server, rules=fault(delay=delay)) as mesh:
        begun = time.monotonic()
        assert await by_kind(runtime_class(mesh), kind) == ANSWERS[kind]
        assert time.monotonic() - begun >= 0.2


async def test_a_delay_longer_than_the_callers_deadline_ends_with_it(runtime_class):
    delay = {"fixedDelay": "5s", "percentage": {"value": 100}}
    with EchoServer() as server, mesh_of(server, rules=fault(delay=delay)) as mesh:
        for kind in KINDS:
            error = await refused(by_kind(runtime_class(mesh), kind, timeout=0.05))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not server.seen


async def test_faults_go_by_metadata(runtime_class):
    rules = [
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], **abort(grpcStatus="ABORTED")[0]},
        {"route": [to(HOST)]},
    ]
    with EchoServer() as server, mesh_of(server, rules=rules) as mesh:
        runtime = runtime_class(mesh)
        assert await runtime.server() == "one"
        assert (await refused(runtime.server(metadata=(("end-user", "jason"),)))).code() is grpc.StatusCode.ABORTED


# -- what else goes wrong before anything is sent -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_no_endpoint(runtime_class, kind):
    with mesh_of() as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details().startswith("no healthy upstream (VirtualService/default/echo http[0] -> echo.test")
        assert dict(iter(error.trailing_metadata()))["meshlib-flags"] == "UH"


async def test_no_route(runtime_class):
    rules = [{"match": [{"uri": {"exact": "/other"}}], "route": [to(HOST)]}]
    with mesh_of(1, rules=rules) as mesh:
        error = await refused(runtime_class(mesh).unary())
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.exchange.flags == "NR"
        assert dict(iter(error.trailing_metadata()))["meshlib-flags"] == "NR"


async def test_no_such_destination(runtime_class):
    with mesh_of(1, rules=[{"route": [to(HOST, "nowhere")]}]) as mesh:
        error = await refused(runtime_class(mesh).unary())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.exchange.flags == "NC"
        assert "nowhere" in error.details()


async def test_a_service_outside_the_registry_that_cannot_be_found(runtime_class):
    # .onion is in no DNS (RFC 7686), and the resolver asks none: how long a server of names takes is nothing of ours
    with mesh_of() as mesh:
        error = await refused(runtime_class(mesh, target="no-such-service.onion:1").unary(timeout=60))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "PassthroughCluster" in error.details()
        assert error.exchange.flags.startswith("UF")


async def test_a_service_outside_the_registry_is_called_by_its_name(runtime_class):
    with EchoServer() as server, mesh_of() as mesh:
        assert await runtime_class(mesh, target=f"localhost:{server.port}").server() == "one"


async def test_a_service_outside_the_registry_is_blocked_where_only_the_registry_may_be_called(runtime_class):
    sidecar = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
    }
    with EchoServer() as server, mesh_of(more=[sidecar]) as mesh:
        error = await refused(runtime_class(mesh, target=f"localhost:{server.port}").unary())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not server.seen


async def test_a_method_that_the_server_does_not_have_is_the_servers_own_answer():
    with EchoServer() as server, mesh_of(server) as mesh, mesh.grpc_channel("echo.test:9080") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/other.Service/Get")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert caught.value.details() == "Method not found!"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", [("Upper Case", "x"), ("key", "line\nbreak"), ("", "x")])
async def test_invalid_metadata(runtime_class, kind, pair):
    with EchoServer() as server, mesh_of(server) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind, metadata=(pair,)))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details().startswith("Invalid metadata")
        assert "meshlib-reason" in dict(iter(error.trailing_metadata()))
        assert not server.seen
        assert error.exchange.attempts[0].failure == "invalid_request"
        assert [e["usable"] for c in mesh.status()["clusters"] for e in c["endpoints"]] == [True]


async def test_metadata_that_is_no_text_is_a_type_error(runtime_class):
    rules = [{"match": [{"headers": {"key": {"exact": "x"}}}], "route": [to(HOST)]}, {"route": [to(HOST)]}]
    with EchoServer() as server, mesh_of(server, rules=rules) as mesh:
        with pytest.raises(TypeError, match="expected str or bytes, not int"):
            await runtime_class(mesh).unary(metadata=(("key", 5),))


async def test_a_message_over_the_channels_limit(runtime_class):
    with EchoServer() as server, mesh_of(server) as mesh:
        runtime = runtime_class(mesh, options=[("grpc.max_send_message_length", 100)])
        error = await refused(runtime.unary("x" * 200))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in error.details()
        assert "meshlib-reason" in dict(iter(error.trailing_metadata()))
        runtime = runtime_class(mesh, options=[("grpc.max_receive_message_length", 100)])
        error = await refused(runtime.unary("x" * 200))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [e["usable"] for c in mesh.status()["clusters"] for e in c["endpoints"]] == [True]


async def test_a_message_over_the_servers_limit_is_the_servers_own_answer(runtime_class):
    with EchoServer(options=[("grpc.max_receive_message_length", 100)]) as server, mesh_of(server) as mesh:
        error = await refused(runtime_class(mesh).unary("x" * 200))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in error.details()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_deadline_that_has_passed_sends_nothing(runtime_class, kind, timeout):
    with EchoServer() as server, mesh_of(server) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind, timeout=timeout))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(iter(error.trailing_metadata()))["meshlib-flags"] == "DC"
        assert not server.seen


async def test_a_request_that_cannot_be_serialized(runtime_class):
    with EchoServer() as server, mesh_of(server) as mesh:
        error = await refused(runtime_class(mesh).unary(message=5))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == "Exception serializing request!"
        assert not server.seen


@pytest.mark.parametrize("request_", ["text", None, bytearray(b"x"), 5], ids=repr)
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "future"])
async def test_a_request_that_is_no_bytes_and_has_no_serializer_says_what_is_missing(kind, request_):
    with EchoServer() as server, mesh_of(server) as mesh:
        made = getattr(mesh.grpc_channel(TARGET), kind.replace("future", "unary_unary"))("/a.B/C")
        with pytest.raises(grpc.RpcError, match="Exception serializing request!") as raised:
            made.future(request_) if kind == "future" else made(request_)
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert "request_serializer" in str(raised.value.__cause__)
        if kind != "future":
            async with mesh.aio_grpc_channel(TARGET) as channel:
                with pytest.raises(grpc.RpcError, match="Exception serializing request!") as raised:
                    getattr(channel, kind)("/a.B/C")(request_)
                assert "request_serializer" in str(raised.value.__cause__)
        assert not server.seen


async def test_requests_of_a_stream_that_are_no_bytes_end_the_call():
    with EchoServer() as server, mesh_of(server) as mesh:
        call = mesh.grpc_channel(TARGET).stream_unary("/a.B/C")
        error = await refused(asyncio.to_thread(call, iter(["text"]), 5))
        assert "must be bytes" in error.details()
        async with mesh.aio_grpc_channel(TARGET) as channel:
            with pytest.raises(TypeError, match="must be bytes"):
                await channel.stream_unary("/a.B/C")().write("text")


async def test_bytes_of_a_class_of_their_own_are_bytes():
    class Serialized(bytes):
        pass

    data = Serialized(b"")
    with EchoServer() as server, mesh_of(server) as mesh:
        path = "/meshlib.test.Echo/Unary"
        assert mesh.grpc_channel(TARGET).unary_unary(path)(data)
        async with mesh.aio_grpc_channel(TARGET) as channel:
            assert await channel.unary_unary(path)(data)


async def test_an_iterator_of_requests_that_raises_cancels_the_call():
    def broken():
        from tests.support.grpc_echo import Message

        yield Message(text="a")
        raise ZeroDivisionError

    with EchoServer() as server, mesh_of(server) as mesh:
        runtime = Threads(mesh)
        with pytest.raises(grpc.RpcError) as caught:
            runtime.stub.Collect(broken(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert "Exception iterating requests!" in caught.value.details()
        with pytest.raises(grpc.RpcError):
            list(runtime.stub.Chat(broken(), timeout=60))
        assert sum(c["active"] for c in mesh.status()["clusters"]) == 0


# -- servers that go away (GOAWAY) -----------------------------------------------------------------------------------------

ONCE = [{"route": [to(HOST)], "retries": {"attempts": 0}}]
HEAD = [(b"content-type", b"application/grpc")]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_always_going_away_is_not_called_again_and_again(runtime_class, kind):
    """gRPC core's own retries would do so until the deadline, hundreds of times a second."""
    with H2Server(on_connect=lambda peer: peer.goaway(0)) as server, mesh_of(server.port, rules=ONCE) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind, timeout=30))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "GOAWAY" in error.details()
        assert server.connections < 20
        await mesh.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_on_a_connection_whose_goaway_came_with_its_settings_ends(runtime_class, kind):
    """gRPC core 1.85 takes it for a good one until it is closed; its own retries would go on there past any deadline."""
    leaving = SettingsFrame(0).serialize() + GoAwayFrame(0, last_stream_id=2**31 - 1).serialize()
    with H2Server(greeting=leaving) as server, mesh_of(server.port, rules=ONCE) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind, timeout=60))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "GOAWAY" in error.details()
        assert error.exchange.flags == "UR"
        await mesh.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_a_leaving_server_has_not_worked_on_is_retried_by_istios_default(runtime_class, kind):
    seen = []

    def answer(peer, request, **_):
        seen.append(request.header(b"x-envoy-attempt-count"))
        if len(seen) == 1:
            peer.goaway(0)
        else:
            message = Message(text="ab").SerializeToString()
            framed = b"\0" + len(message).to_bytes(4, "big") + message
            peer.respond(request, framed, headers=HEAD, trailers=[(b"grpc-status", b"0")])

    with H2Server(answer) as server, mesh_of(server.port) as mesh:
        got = await by_kind(runtime_class(mesh), kind, timeout=30)
        assert got in ("ab", ["ab"])
        assert len(seen) == 2
        await mesh.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_sounds_like_a_goaway_and_is_a_servers_own_word_is_not_sent_again(runtime_class, kind):
    """A server that passes on what it heard of another one has worked on the call."""
    heard = "GOAWAY received; Error code: 0; Debug Text: "
    calls = []

    def answer(peer, request, **_):
        calls.append(request)
        peer.respond(request, b"", headers=[*HEAD, (b"grpc-status", b"14"), (b"grpc-message", heard.encode())])

    with H2Server(answer) as server, mesh_of(server.port, rules=ONCE) as mesh:
        error = await refused(by_kind(runtime_class(mesh), kind, timeout=30))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert len(calls) == 1
        await mesh.aclose()


async def test_a_caller_who_gives_grpc_core_a_retry_policy_has_it():
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    with EchoServer(script=["UNAVAILABLE", "UNAVAILABLE", "ok"]) as server, mesh_of(server, rules=ONCE) as mesh:
        runtime = Threads(mesh, options=[("grpc.service_config", config)])
        assert (await runtime.unary("ab")).text == "ab"
        assert len(server.seen) == 3
