"""One attempt on a stream of an HTTP/2 connection that is there, without a task."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.engine.outcome import Failure
from meshlib.proxy.http2_attempt import Http2Attempt
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Call, Loop
from tests.support.h2_server import SETTINGS, H2Server, Peer, Request

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/x"), (b"te", b"trailers")]


async def soon(what) -> None:
    for _ in range(2000):
        if what():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


def warm(answer, work, **options):
    """``work(server, begin, outcomes)`` once there is a connection; ``begin(body)`` begins an attempt on it."""
    runtime = Loop()

    def answered(peer: Peer, request: Request) -> None:
        if request.path == "/first":
            peer.respond(request)
        else:
            answer(peer, request)

    with H2Server(answered, **options) as server:
        target = Target("127.0.0.1", server.port, http2=True)
        attempt = Attempt(b"POST", b"/x", [], None, target)
        outcomes: list = []

        def begin(body: bytes | None = None) -> Http2Attempt | None:
            made = Http2Attempt(outcomes.append, lambda: attempt)
            http2 = runtime.upstream.http2
            assert http2 is not None
            return made if made.begin(http2, target, HEAD, body, False) else None

        async def run() -> None:
            await runtime.call_async(target, Call(b"/first"))
            await work(server, begin, outcomes)

        runtime.run(run())
        runtime.close()


def test_without_a_connection_it_does_not_begin():
    async def work(server, begin, outcomes) -> None:
        server.peers[0].goaway()
        await soon(lambda: begin() is None)

    warm(lambda peer, request: None, work)


@pytest.mark.parametrize("body", [None, b"hello"])
def test_a_whole_response_is_heard_of_at_once(body):
    async def work(server, begin, outcomes) -> None:
        assert begin(body) is not None
        await soon(lambda: outcomes)
        (outcome,) = outcomes
        assert outcome.status == 200
        whole = outcome.whole
        if whole is None:
            whole = b"".join([piece async for piece in outcome.body])
        assert whole == (body or b"none")
        assert outcome.trailers == [(b"grpc-status", b"0")]

    def answer(peer: Peer, request: Request) -> None:
        peer.respond(request, bytes(request.body) or b"none", trailers=[(b"grpc-status", b"0")])

    warm(answer, work)


def test_the_rest_of_a_response_is_read_by_whoever_wants_it():
    held: list[tuple[Peer, Request]] = []

    async def work(server, begin, outcomes) -> None:
        begin()
        await soon(lambda: outcomes)
        (outcome,) = outcomes
        assert (outcome.status, outcome.whole) == (200, None)
        peer, request = held[0]
        peer.data(request, b"later")
        assert b"".join([piece async for piece in outcome.body]) == b"later"

    def answer(peer: Peer, request: Request) -> None:
        held.append((peer, request))
        peer.head(request)

    warm(answer, work)


def test_a_stream_that_is_reset_is_a_failure():
    async def work(server, begin, outcomes) -> None:
        begin()
        await soon(lambda: outcomes)
        assert outcomes[0].failure is Failure.REFUSED

    warm(lambda peer, request: peer.refuse(request), work)


def test_a_body_waits_for_the_window():
    async def work(server, begin, outcomes) -> None:
        begin(b"x" * 5000)
        begin(b"y" * 5000)
        await soon(lambda: len(outcomes) == 2)
        assert sorted(bytes(request.body[:1]) for request in server.requests[1:]) == [b"x", b"y"]
        assert [len(request.body) for request in server.requests[1:]] == [5000, 5000]

    warm(lambda peer, request: peer.respond(request), work, settings={SETTINGS.INITIAL_WINDOW_SIZE: 1000})


def test_a_response_that_begins_first_does_not_stop_the_rest_of_the_body():
    """Of a server that responds while it reads: it would wait for the request, and the client for it."""
    held: list[tuple[Peer, Request]] = []

    async def work(server, begin, outcomes) -> None:
        begin(b"x" * 5000)
        await soon(lambda: outcomes)
        (outcome,) = outcomes
        assert outcome.whole is None
        ((peer, request),) = held
        await soon(lambda: request.ended)
        peer.data(request, b"%d" % len(request.body))
        assert b"".join([piece async for piece in outcome.body]) == b"5000"

    def answer(peer: Peer, request: Request) -> None:
        held.append((peer, request))
        peer.head(request)

    warm(answer, work, settings={SETTINGS.INITIAL_WINDOW_SIZE: 1000}, early=True)


def test_of_an_attempt_that_is_cancelled_nobody_hears():
    seen: list[Request] = []

    async def work(server, begin, outcomes) -> None:
        made = begin()
        await soon(lambda: seen)
        made.cancel()
        await soon(lambda: server.peers[0].resets)
        assert outcomes == []

    warm(lambda peer, request: seen.append(request), work)
