"""Scripted gRPC servers, and chaos that gRPC clients meet: in threads, from futures, on asyncio, unary and streaming."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from meshlib.testing import assert_attempts, assert_routed_to

METHOD = "/shop.Ratings/Get"
RATINGS = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: ratings}
    spec:
      hosts: [ratings]
      http:
      - route: [{destination: {host: ratings}}]
        timeout: 10s
        retries: {attempts: 2, perTryTimeout: 1s, retryOn: "reset,connect-failure,unavailable"}
"""
RUNTIMES = ["blocking", "future", "asyncio", "stream", "asyncio stream"]


class Caller:
    """``call()`` makes one call; its messages, and grpcio's object of it: the call, or the exception that it raised."""

    def __init__(self, runtime: str, factory) -> None:
        self.runtime = runtime
        self.factory = factory
        self.rules = RATINGS

    def call(self, request: bytes = b"?", timeout: float | None = None):
        made = self.factory(self.rules)
        if self.runtime.startswith("asyncio"):
            return asyncio.run(self._asyncio(made, request, timeout))
        with made.grpc_channel("ratings:80") as channel:
            try:
                if self.runtime == "stream":
                    call = channel.unary_stream(METHOD)(request, timeout=timeout)
                    return list(call), call
                if self.runtime == "future":
                    call = channel.unary_unary(METHOD).future(request, timeout=timeout)
                    return [call.result()], call
                message, call = channel.unary_unary(METHOD).with_call(request, timeout=timeout)
                return [message], call
            except grpc.RpcError as error:
                return [], error

    async def _asyncio(self, made, request, timeout):
        async with made.aio_grpc_channel("ratings:80") as channel:
            try:
                if self.runtime == "asyncio stream":
                    call = channel.unary_stream(METHOD)(request, timeout=timeout)
                    return [message async for message in call], call
                call = channel.unary_unary(METHOD)(request, timeout=timeout)
                return [await call], call
            except grpc.aio.AioRpcError as error:
                return [], error


@pytest.fixture(params=RUNTIMES)
def caller(request, mesh):
    return Caller(request.param, mesh)


@pytest.fixture
def unary(mesh):
    return Caller("blocking", mesh)


def failures(call) -> list[str]:
    return [attempt.failure or str(attempt.status) for attempt in call.exchange.attempts]


# -- the server -------------------------------------------------------------------------------------------------------


def test_it_responds_as_it_was_told_and_keeps_what_it_was_asked(upstreams, caller):
    ratings = upstreams.grpc("ratings").respond(b"five")
    messages, call = caller.call(b"jo")
    assert messages == [b"five"]
    assert_routed_to(call, "ratings")
    assert_attempts(call, 1)
    (request,) = ratings.requests
    assert (request.path, request.messages) == (METHOD, (b"jo",))
    assert (request.header("x-envoy-attempt-count"), request.header("x-meshlib-attempt")) == ("1", None)


def test_a_status_with_details_and_metadata(upstreams, unary):
    upstreams.grpc("ratings").fail(grpc.StatusCode.NOT_FOUND, "no such book", trailing=[("isbn", "1")])
    _, error = unary.call()
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such book")
    assert ("isbn", "1") in [tuple(pair) for pair in error.trailing_metadata()]


def test_a_stream_of_messages_that_ends_or_fails(upstreams, mesh):
    caller = Caller("stream", mesh)
    upstreams.grpc("ratings").respond(b"1", b"2", b"3").fail(grpc.StatusCode.ABORTED, after=[b"1"])
    assert caller.call()[0] == [b"1", b"2", b"3"]
    assert caller.call()[1].code() is grpc.StatusCode.ABORTED


def test_messages_may_be_protobufs(upstreams, unary):
    from google.protobuf.wrappers_pb2 import StringValue

    upstreams.grpc("ratings").respond(StringValue(value="five")).always(StringValue(value="four"))
    assert [StringValue.FromString(unary.call()[0][0]).value for _ in range(3)] == ["five", "four", "four"]


def test_what_is_no_message_or_status_is_refused_where_it_is_said(upstreams):
    ratings = upstreams.grpc("ratings")
    with pytest.raises(TypeError, match="a message is one of protobuf's or bytes, not 'five stars'"):
        ratings.respond("five stars")
    with pytest.raises(TypeError, match="the code is a grpc.StatusCode, not 'NOT_FOUND'"):
        ratings.fail("NOT_FOUND")


def test_a_gate_holds_a_call(upstreams, mesh):
    ratings = upstreams.grpc("ratings")
    gate = ratings.gate()
    ratings.respond(b"late", gate=gate)
    with mesh().grpc_channel("ratings:80") as channel:
        call = channel.unary_unary(METHOD).future(b"")
        ratings.wait_for_requests()
        assert not call.done()
        gate.open()
        assert call.result() == b"late"


def test_a_delay_beyond_the_timeout_is_a_timeout_at_once(upstreams, caller, fake_clock):
    ratings = upstreams.grpc("ratings").respond(b"late", delay=3600, times=3)
    before = fake_clock.monotonic()
    _, error = caller.call(timeout=0.5)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert fake_clock.monotonic() == pytest.approx(before + 0.5)
    assert [request.abandoned for request in ratings.requests] == [True]


def test_a_connection_is_reset(upstreams, caller):
    caller.rules = RATINGS.replace("attempts: 2", "attempts: 30")
    ratings = upstreams.grpc("ratings").reset().respond(b"five")
    messages, call = caller.call()
    assert messages == [b"five"]
    # grpcio may begin the next ones on the broken connection before it knows that it is broken, or as it learns that
    first, *broken, last = failures(call)
    assert (first, last) == ("reset", "200")
    assert set(broken) <= {"reset", "refused"}
    assert len(ratings.requests) == 2


@pytest.mark.parametrize("runtime", ["stream", "asyncio stream"])
def test_a_stream_is_reset_in_its_middle(upstreams, mesh, runtime):
    ratings = upstreams.grpc("ratings")
    gate = ratings.gate()
    ratings.reset(b"1", b"2", gate=gate)
    made = mesh(RATINGS)
    got = []

    def take(message):
        got.append(message)
        if len(got) == 2:
            gate.open()

    def read():
        with made.grpc_channel("ratings:80") as channel:
            for message in channel.unary_stream(METHOD)(b""):
                take(message)

    async def read_async():
        async with made.aio_grpc_channel("ratings:80") as channel:
            async for message in channel.unary_stream(METHOD)(b""):
                take(message)

    with pytest.raises(grpc.RpcError) as raised:
        read() if runtime == "stream" else asyncio.run(read_async())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert got == [b"1", b"2"]


def test_it_dies_and_is_revived(upstreams, mesh):
    ratings = upstreams.grpc("ratings").always(b"five")
    with mesh().grpc_channel("ratings:80") as channel:
        get = channel.unary_unary(METHOD)
        assert get(b"") == b"five"
        ratings.stop()
        with pytest.raises(grpc.RpcError) as raised:
            get(b"")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        ratings.start()
        assert get(b"", wait_for_ready=True) == b"five"


def test_they_end_with_calls_under_way(mesh, fake_clock):
    from meshlib.testing import Upstreams

    with Upstreams(fake_clock) as made:
        ratings = made.grpc("ratings")
        ratings.respond(b"", gate=ratings.gate())
        channel = grpc.insecure_channel(ratings.address)
        call = channel.unary_unary(METHOD).future(b"")
        ratings.wait_for_requests()
    assert call.exception() is not None
    channel.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "meshlib-upstreams"]


# -- chaos ------------------------------------------------------------------------------------------------------------


def test_chaos_meets_every_kind_of_call(upstreams, caller, chaos, fake_clock):
    ratings = upstreams.grpc("ratings").always(b"five")
    chaos.on("ratings", nth=1, path=METHOD).latency(0.25)
    chaos.on("ratings", nth=1).reset()
    chaos.on("ratings", nth=2).down()
    before = fake_clock.monotonic()
    messages, call = caller.call()
    assert messages == [b"five"]
    assert failures(call) == ["reset", "connect_failed", "200"]
    assert before + 0.25 < fake_clock.monotonic() < before + 0.5
    assert len(ratings.requests) == 1


def test_what_no_retry_mends_is_a_status_that_tells_why(upstreams, caller, chaos):
    upstreams.grpc("ratings")
    chaos.on("ratings").expired_certificate()
    _, error = caller.call()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "certificate has expired (injected by meshlib.testing)" in error.details()
    assert_attempts(error, 3)


@pytest.mark.parametrize("runtime", ["blocking", "future", "asyncio"])
@pytest.mark.parametrize("kind", ["reset", "partial_body"])
def test_a_response_that_has_begun_and_breaks_is_not_retried(upstreams, mesh, chaos, runtime, kind):
    upstreams.grpc("ratings")
    getattr(chaos.on("ratings"), kind)(after=0)
    _, error = Caller(runtime, mesh).call()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "injected by meshlib.testing" in error.details()
    assert_attempts(error, 1)


@pytest.mark.parametrize("runtime", ["blocking", "future", "asyncio"])
def test_a_lost_response_is_of_a_call_that_was_served(upstreams, mesh, chaos, runtime):
    ratings = upstreams.grpc("ratings").always(b"five")
    chaos.on("ratings", nth=1).lost_response()
    messages, call = Caller(runtime, mesh).call()
    assert (messages, failures(call)) == ([b"five"], ["reset", "200"])
    assert len(ratings.requests) == 2
