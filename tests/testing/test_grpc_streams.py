"""Streams of gRPC that chaos cuts: what their callers get, in threads and on asyncio."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from meshlib.testing import assert_attempts
from meshlib.testing.grpc_streams import cut_stream
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from tests.testing.upstreams.test_grpc import METHOD, RATINGS, failures

STREAMS = ["stream", "asyncio stream"]


def read_to_the_end(runtime: str, mesh):
    """The messages that a stream gives, as they come, and what it ends with."""
    got: list[bytes] = []
    if runtime == "stream":
        with mesh.grpc_channel("ratings:80") as channel:
            call = channel.unary_stream(METHOD)(b"", timeout=20)
            try:
                got.extend(call)
            except grpc.RpcError as error:
                assert (call.code(), call.details()) == (error.code(), error.details())
                return got, error
            return got, call

    async def go():
        async with mesh.aio_grpc_channel("ratings:80") as channel:
            call = channel.unary_stream(METHOD)(b"", timeout=20)
            try:
                async for message in call:
                    got.append(message)
            except grpc.aio.AioRpcError as error:
                assert (await call.code(), await call.details()) == (error.code(), error.details())
                return got, error
            return got, call

    return asyncio.run(go())


@pytest.mark.parametrize("runtime", STREAMS)
@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "said"),
    [("reset", "Connection reset by peer"), ("partial_body", "the server closed the connection in the middle")],
)
def test_a_stream_is_cut_after_so_many_messages(upstreams, mesh, chaos, runtime, after, kind, said):
    upstreams.grpc("ratings").always(b"1", b"2", b"3", b"4")
    getattr(chaos.on("ratings"), kind)(after=after)
    got, error = read_to_the_end(runtime, mesh(RATINGS))
    assert got == [b"1", b"2", b"3"][:after]
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert said in error.details()
    assert "injected by meshlib.testing" in error.details()
    assert_attempts(error, 1)
    assert error.exchange.grpc_status == 14


@pytest.mark.parametrize("runtime", STREAMS)
def test_a_stream_that_is_shorter_is_whole_and_the_next_one_is_as_ever(upstreams, mesh, chaos, runtime):
    upstreams.grpc("ratings").always(b"1", b"2")
    chaos.on("ratings", nth=1).reset(after=3)
    made = mesh(RATINGS)
    for _ in range(2):
        got, call = read_to_the_end(runtime, made)
        assert (got, call.exchange.grpc_status) == ([b"1", b"2"], 0)


@pytest.mark.parametrize("runtime", STREAMS)
def test_a_stream_that_fails_by_itself_says_what_the_server_said(upstreams, mesh, chaos, runtime):
    upstreams.grpc("ratings").fail(grpc.StatusCode.ABORTED, "no more", after=[b"1"])
    chaos.on("ratings").reset(after=3)
    got, error = read_to_the_end(runtime, mesh(RATINGS))
    assert (got, error.code(), error.details()) == ([b"1"], grpc.StatusCode.ABORTED, "no more")


@pytest.mark.parametrize("runtime", STREAMS)
def test_a_lost_stream_is_one_that_the_server_has_served_and_is_retried(upstreams, mesh, chaos, runtime):
    ratings = upstreams.grpc("ratings").always(b"1", b"2")
    chaos.on("ratings", nth=1).lost_response()
    got, call = read_to_the_end(runtime, mesh(RATINGS))
    assert (got, failures(call)) == ([b"1", b"2"], ["reset", "200"])
    assert len(ratings.requests) == 2


@pytest.mark.parametrize("runtime", STREAMS)
def test_a_stream_whose_head_was_asked_for_first_is_cut_as_well(upstreams, mesh, chaos, runtime):
    upstreams.grpc("ratings").respond(b"1", b"2", b"3", initial=[("a", "b")])
    chaos.on("ratings").reset(after=2)
    made = mesh(RATINGS)
    if runtime == "stream":
        with made.grpc_channel("ratings:80") as channel:
            call = channel.unary_stream(METHOD)(b"", timeout=20)
            assert ("a", "b") in [tuple(pair) for pair in call.initial_metadata()]
            assert (next(call), next(call)) == (b"1", b"2")
            with pytest.raises(grpc.RpcError, match="injected"):
                next(call)
        return

    async def go():
        async with made.aio_grpc_channel("ratings:80") as channel:
            call = channel.unary_stream(METHOD)(b"", timeout=20)
            assert ("a", "b") in [tuple(pair) for pair in await call.initial_metadata()]
            assert (await call.read(), await call.read()) == (b"1", b"2")
            with pytest.raises(grpc.RpcError, match="injected"):
                await call.read()

    asyncio.run(go())


def test_where_grpcios_calls_are_others_it_says_what_can_be_done_instead():
    with pytest.raises(TypeError, match=r"grpcio .* has another kind of call .*\(object\); use an upstream"):
        cut_stream(GrpcOutcome(None, object()), 1, 0, "cut")
