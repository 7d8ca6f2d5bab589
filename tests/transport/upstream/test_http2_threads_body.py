"""The body of a response over HTTP/2 for a thread: read, cut, given up, and left to the garbage collector."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.http2_threads_body import Http2Body
from tests.support.h2_frames import Played
from tests.support.lender import TARGET


class Connection(Played):
    def perform(self, steps, stream, waiter):
        return self.run(steps)


def body(connection: Connection, **limits: float) -> Http2Body:
    attempt = Attempt(b"GET", b"/", [], None, TARGET, caller=CallerTimeouts(**limits))
    return Http2Body(connection, connection.stream, None, attempt)


def data(part: bytes, *flags: str) -> bytes:
    return DataFrame(1, part, flags=list(flags)).serialize()


def test_it_comes_in_pieces_and_its_trailers_behind_it():
    trailers = HeadersFrame(1, b"\x00\x03x-a\x011", flags=["END_HEADERS", "END_STREAM"])
    connection = Connection(data(b"ab"), data(b"cd"), trailers.serialize())
    made = body(connection)
    assert list(made) == [b"ab", b"cd"]
    assert made.trailers == [(b"x-a", b"1")]
    made.close()
    del made
    assert (list(body(connection)), connection.ended) == ([], [])


def test_one_that_is_reset_says_so_and_is_over():
    connection = Connection(data(b"ab"), RstStreamFrame(1, error_code=2).serialize())
    made = body(connection)
    with pytest.raises(BodyFailed, match="INTERNAL_ERROR") as cut:
        list(made)
    assert cut.value.failure is Failure.RESET
    assert list(made) == []


def test_silence_is_the_callers_read_timeout_and_gives_up_the_stream():
    connection = Connection(data(b"ab"))
    with pytest.raises(BodyFailed, match="read timeout") as silent:
        list(body(connection, read=3.0))
    assert (silent.value.failure, connection.ended) == (Failure.TIMEOUT, ["cancelled"])
    assert connection.waited == [103.0, 103.0]


def test_closed_before_its_end_it_gives_up_its_stream_once_and_at_once():
    connection = Connection(data(b"ab"))
    made = body(connection)
    parts = iter(made)
    assert next(parts) == b"ab"
    made.abort()
    made.close()
    del made, parts
    assert connection.ended == ["cancelled"]


@pytest.mark.parametrize("begun", [False, True])
def test_what_the_garbage_collector_finds_is_dropped_without_taking_a_lock(begun):
    connection = Connection(data(b"ab"))
    made = body(connection)
    parts = iter(made)
    if begun:
        next(parts)
    del parts, made
    assert connection.ended == ["dropped"]
