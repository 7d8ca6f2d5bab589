"""A request over HTTP/2 whose response may come while the request is still sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Loop
from tests.support.h2_server import H2Server, Peer, Request


class Duplex(ReplayBody):
    """A body that its test feeds."""

    duplex = True

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.after: list[tuple[bytes, bytes]] = []
        super().__init__(self._pieces())

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        return self.after

    async def _pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self.queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def attempt(server: H2Server, body: Duplex, timeout: float | None = None, length: int | None = None) -> Attempt:
    headers = [(b"Host", b"reviews:9080")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return Attempt(b"POST", b"/", headers, body, Target("127.0.0.1", server.port, http2=True), timeout)


async def soon(what) -> None:
    for _ in range(2000):
        if what():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


def on_loop(answer, work, **server_options):
    """``work(server, send)`` with an upstream of its own loop."""
    runtime = Loop()
    with H2Server(answer, early=True, **server_options) as server:
        runtime.run(work(server, runtime.upstream.send))
        runtime.close()


def test_the_response_is_there_before_the_request_is_over_and_both_go_on():
    held: list[tuple[Peer, Request]] = []

    async def work(server, send) -> None:
        body = Duplex()
        sending = asyncio.ensure_future(send(attempt(server, body)))
        await soon(lambda: held)
        peer, request = held[0]
        peer.head(request)
        outcome = await sending
        assert (outcome.status, outcome.whole, outcome.http_version) == (200, None, b"HTTP/2")
        read = aiter(outcome.body)
        for piece in (b"one", b"two"):
            body.queue.put_nowait(piece)
            await soon(lambda piece=piece: bytes(request.body).endswith(piece))
            peer.some(request, b"re:" + piece)
            assert await anext(read) == b"re:" + piece
        body.after = [(b"checksum", b"1")]
        body.queue.put_nowait(None)
        await soon(lambda: request.ended)
        peer.data(request, b"end", [(b"t", b"1")])
        assert b"".join([piece async for piece in read]) == b"end"
        assert outcome.trailers == [(b"t", b"1")]

    on_loop(lambda peer, request: held.append((peer, request)), work)


def test_a_body_larger_than_the_windows_goes_as_they_allow():
    seen: list[Request] = []

    def answer(peer: Peer, request: Request) -> None:
        seen.append(request)

    async def work(server, send) -> None:
        body = Duplex()
        sending = asyncio.ensure_future(send(attempt(server, body)))
        for _ in range(4):
            body.queue.put_nowait(b"x" * 100_000)
        body.queue.put_nowait(None)
        await soon(lambda: seen and seen[0].ended)
        assert len(seen[0].body) == 400_000
        server.peers[0].respond(seen[0], b"all")
        outcome = await sending
        assert (outcome.whole or b"".join([piece async for piece in outcome.body])) == b"all"

    on_loop(answer, work)


def test_a_response_that_is_over_ends_the_request():
    async def work(server, send) -> None:
        body = Duplex()
        outcome = await send(attempt(server, body))
        body_of = outcome.whole or b"".join([piece async for piece in outcome.body])
        assert body_of == b"enough"
        await soon(lambda: server.peers[0].resets)
        await soon(lambda: len(asyncio.all_tasks()) == 1)

    on_loop(lambda peer, request: peer.respond(request, b"enough"), work)


def test_a_body_that_fails_is_the_callers_failure_and_resets_the_stream():
    async def work(server, send) -> None:
        body = Duplex()
        body.queue.put_nowait(ValueError("oh"))
        outcome = await send(attempt(server, body))
        assert outcome.failure is Failure.REQUEST_BODY_FAILED
        assert isinstance(outcome.error, ValueError)
        await soon(lambda: server.peers[0].resets)

    on_loop(lambda peer, request: None, work)


def test_a_body_that_fails_in_the_middle_of_the_response_cuts_it():
    async def work(server, send) -> None:
        body = Duplex()
        outcome = await send(attempt(server, body))
        body.queue.put_nowait(ValueError("oh"))
        with pytest.raises(BodyFailed):
            async for _ in outcome.body:
                pass

    on_loop(lambda peer, request: peer.head(request), work)


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"ab", None]])
def test_a_body_is_as_long_as_its_length_says(pieces):
    async def work(server, send) -> None:
        body = Duplex()
        for piece in pieces:
            body.queue.put_nowait(piece)
        outcome = await send(attempt(server, body, length=3))
        assert outcome.failure is Failure.INVALID_REQUEST
        await soon(lambda: server.peers[0].resets)

    on_loop(lambda peer, request: None, work)


def test_a_body_that_fails_after_its_stream_is_not_asked_any_more():
    async def work(server, send) -> None:
        body = Duplex()
        outcome = await send(attempt(server, body))
        outcome.body.abort()
        await asyncio.sleep(0)
        body.queue.put_nowait(ValueError("nobody hears this"))
        await asyncio.sleep(0.01)
        await soon(lambda: len(asyncio.all_tasks()) == 1)

    on_loop(lambda peer, request: peer.head(request), work)


def test_a_head_that_does_not_come_in_time():
    async def work(server, send) -> None:
        outcome = await send(attempt(server, Duplex(), timeout=0.05))
        assert outcome.failure is Failure.TIMEOUT
        await soon(lambda: len(asyncio.all_tasks()) == 1)

    on_loop(lambda peer, request: None, work)


def test_a_caller_that_is_cancelled_leaves_nothing_behind():
    seen: list[Request] = []

    async def work(server, send) -> None:
        sending = asyncio.ensure_future(send(attempt(server, Duplex())))
        await soon(lambda: seen)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await soon(lambda: server.peers[0].resets and len(asyncio.all_tasks()) == 1)

    on_loop(lambda peer, request: seen.append(request), work)
