"""The body of a response over HTTP/2 for a task: read, cut, given up, and left to the garbage collector."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.http2_loop_body import Http2Body
from tests.support.h2_frames import Played
from tests.support.loop_lender import TARGET


class Connection(Played):
    """Its own loop: ``later`` are the calls that came from anywhere."""

    closed = False

    def __init__(self, *says: bytes) -> None:
        super().__init__(*says)
        self.later: list = []
        self.loop = self

    async def perform(self, steps, stream, waiter):
        return self.run(steps)

    def is_closed(self) -> bool:
        return self.closed

    def call_soon_threadsafe(self, what, *arguments) -> None:
        self.later.append((what, *arguments))


def body(connection: Connection, **limits: float) -> Http2Body:
    attempt = Attempt(b"GET", b"/", [], None, TARGET, caller=CallerTimeouts(**limits))
    return Http2Body(connection, connection.stream, None, attempt)


async def read(made: Http2Body) -> list[bytes]:
    return [part async for part in made]


def data(part: bytes, *flags: str) -> bytes:
    return DataFrame(1, part, flags=list(flags)).serialize()


async def test_it_comes_in_pieces_and_its_trailers_behind_it():
    trailers = HeadersFrame(1, b"\x00\x03x-a\x011", flags=["END_HEADERS", "END_STREAM"])
    connection = Connection(data(b"ab"), data(b"cd"), trailers.serialize())
    made = body(connection)
    assert await read(made) == [b"ab", b"cd"]
    assert made.trailers == [(b"x-a", b"1")]
    await made.aclose()
    del made
    assert (connection.ended, connection.later) == ([], [])


async def test_one_that_is_reset_says_so_and_is_over():
    connection = Connection(data(b"ab"), RstStreamFrame(1, error_code=2).serialize())
    made = body(connection)
    with pytest.raises(BodyFailed, match="INTERNAL_ERROR") as cut:
        await read(made)
    assert cut.value.failure is Failure.RESET
    assert await read(made) == []


async def test_silence_is_the_callers_read_timeout_and_gives_up_the_stream():
    connection = Connection(data(b"ab"))
    with pytest.raises(BodyFailed, match="read timeout") as silent:
        await read(body(connection, read=3.0))
    assert (silent.value.failure, connection.ended) == (Failure.TIMEOUT, ["cancelled"])
    assert connection.waited == [103.0, 103.0]


async def test_closed_before_its_end_it_gives_up_its_stream_once():
    connection = Connection(data(b"ab"))
    made = body(connection)
    parts = aiter(made)
    assert await anext(parts) == b"ab"
    await made.aclose()
    made.abort()
    await parts.aclose()
    del made, parts
    assert (connection.ended, connection.later) == (["cancelled"], [])


@pytest.mark.parametrize("closed", [False, True])
async def test_what_the_garbage_collector_finds_is_left_to_the_loop_while_there_is_one(closed):
    connection = Connection()
    connection.closed = closed
    body(connection)
    assert connection.ended == []
    assert connection.later == ([] if closed else [(connection.cancel, connection.stream)])
