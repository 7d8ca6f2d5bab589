"""The HTTP/2 session without I/O: against h2's own server side in memory, in random order, and against hostile servers."""

from __future__ import annotations

import itertools

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol import http2_frames
from meshlib.transport.protocol.http2 import CONNECTION_WINDOW, Http2Session
from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.http2_h2 import H2Codec
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.protocol.request_head import InvalidHead
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.http2_codecs import CODECS, sessions_on


@pytest.fixture(scope="module", params=sorted(CODECS), autouse=True)
def codec(request):
    """The library under the sessions of this file."""
    with sessions_on(request.param):
        yield request.param


CODES = h2.errors.ErrorCodes
SETTINGS = h2.settings.SettingCodes
HEAD = request_head(b"GET", b"/", [(b"Host", b"reviews")], b"http")
OK = [(b":status", b"200")]


class Pair:
    """A session and an honest server, with nothing in between but ``move``."""

    def __init__(self, server_settings: dict | None = None, limit: int = 2**31 - 1, **windows: int) -> None:
        self.client = Http2Session(0.0, limit, **windows)
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self.server = h2.connection.H2Connection(config)
        values = {SETTINGS.MAX_CONCURRENT_STREAMS: 100, **(server_settings or {})}
        self.server.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.server.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.woken: list[int] = []
        self.move()

    def to_server(self) -> None:
        data = self.client.outgoing()
        if data:
            self.events += self.server.receive_data(data)

    def to_client(self, chunk: int = 1 << 20) -> None:
        data = self.server.data_to_send()
        for at in range(0, len(data), chunk):
            self.client.receive(data[at : at + chunk], 0.0)

    def move(self) -> None:
        for _ in range(4):
            self.to_server()
            self.to_client()

    def open(self, end: bool = True, head_request: bool = False) -> Stream:
        head = request_head(b"HEAD", b"/", [(b"Host", b"reviews")], b"http") if head_request else HEAD
        number = itertools.count(1)
        stream = self.client.open(head, end, head_request, lambda: self.woken.append(next(number)))
        assert stream is not None
        self.to_server()
        return stream

    def raw(self, *frames) -> None:
        """From the server, past its library."""
        self.client.receive(b"".join(frame.serialize() for frame in frames), 0.0)

    def resets(self) -> dict[int, int]:
        self.to_server()
        return {e.stream_id: int(e.error_code) for e in self.events if isinstance(e, h2.events.StreamReset)}


# -- the way it should be ---------------------------------------------------------------------------------------------


def test_a_body_that_is_all_here_goes_with_its_head(codec):
    pair = Pair()
    stream = pair.client.open(HEAD, False, False, lambda: None, b"hello")
    assert stream is not None
    if not stream.sent:  # h2 is not asked for it
        assert codec == "h2" or PLAIN
        assert pair.client.send(stream, memoryview(b"hello"), True) == 5
    pair.to_server()
    assert [e.data for e in pair.events if isinstance(e, h2.events.DataReceived)] == [b"hello"]
    assert [e.stream_id for e in pair.events if isinstance(e, h2.events.StreamEnded)] == [1]


@pytest.mark.parametrize("writable", [True, False])
def test_a_body_for_which_there_is_no_room_is_left_to_be_sent(writable):
    pair = Pair({SETTINGS.INITIAL_WINDOW_SIZE: 4} if writable else None)
    pair.client.set_writable(writable)
    stream = pair.client.open(HEAD, False, False, lambda: None, b"hello")
    assert stream is not None
    assert not stream.sent
    pair.client.set_writable(True)
    assert pair.client.send(stream, memoryview(b"hello"), True) == (4 if writable else 5)


def test_an_answer_has_its_head_body_and_trailers():
    pair = Pair()
    stream = pair.open()
    pair.server.send_headers(1, [*OK, (b"x-a", b"1"), (b"x-a", b"2")])
    pair.server.send_data(1, b"hello ")
    pair.server.send_data(1, b"world")
    pair.server.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    pair.move()
    assert (stream.status, stream.headers) == (200, [(b"x-a", b"1"), (b"x-a", b"2")])
    assert pair.client.take(stream) == b"hello world"
    assert stream.complete
    assert stream.trailers == [(b"grpc-status", b"0")]
    assert pair.client.streams == {}
    assert pair.woken


@pytest.mark.parametrize("trailers", [False, True])
def test_those_that_come_in_one_piece_are_given_back_to_the_connections_window(trailers):
    pair = Pair()
    for _ in range(CONNECTION_WINDOW // 10_000 + 100):
        stream = pair.client.open(HEAD, True, False, lambda: None)
        assert stream is not None
        last = [headers_frame([(b"t", b"1")], stream.id, "END_STREAM")] if trailers else []
        body = DataFrame(stream.id, b"x" * 10_000, flags=[] if trailers else ["END_STREAM"])
        pair.raw(headers_frame(OK, stream.id), body, *last)
        assert (stream.status, stream.complete, stream.failed) == (200, True, None)
        assert (stream.rest(), stream.trailers) == (b"x" * 10_000, [(b"t", b"1")] if trailers else [])
        pair.client.outgoing()
    assert (pair.client.broken, pair.client.streams) == (None, {})


def test_nothing_is_opened_before_the_servers_settings():
    session = Http2Session(0.0)
    assert session.open(HEAD, True, False, print) is None
    session.receive(SettingsFrame(0).serialize(), 0.0)
    assert session.open(HEAD, True, False, print) is not None


@pytest.mark.parametrize(("own", "peers", "room"), [(2**31 - 1, 3, 3), (2, 3, 2), (5, 0, 0)])
def test_the_stricter_of_both_limits_on_streams_holds(own, peers, room):
    pair = Pair({SETTINGS.MAX_CONCURRENT_STREAMS: peers}, limit=own)
    for _ in range(room):
        pair.open()
    assert pair.client.room() == 0
    assert pair.client.open(HEAD, True, False, print) is None


def test_pushes_are_declined():
    pair = Pair()
    assert pair.server.remote_settings.enable_push == 0


def test_a_stream_that_is_over_makes_room_for_another():
    pair = Pair({SETTINGS.MAX_CONCURRENT_STREAMS: 1})
    pair.open()
    pair.server.send_headers(1, OK, end_stream=True)
    pair.move()
    assert pair.client.room() == 1
    assert pair.open().id == 3


def test_a_limit_that_the_server_lowers_holds_for_new_streams_only():
    pair = Pair()
    first, second = pair.open(), pair.open()
    pair.server.update_settings({SETTINGS.MAX_CONCURRENT_STREAMS: 1})
    pair.move()
    assert pair.client.room() == 0
    for stream in (first, second):
        pair.server.send_headers(stream.id, OK, end_stream=True)
    pair.move()
    assert first.complete
    assert second.complete


def test_interim_answers_are_passed_over_and_100_is_noticed():
    pair = Pair()
    stream = pair.open(end=False)
    pair.server.send_headers(1, [(b":status", b"103"), (b"link", b"</x>")])
    pair.move()
    assert (stream.continue_seen, stream.head_done) == (False, False)
    pair.server.send_headers(1, [(b":status", b"100")])
    pair.move()
    assert (stream.continue_seen, stream.head_done) == (True, False)
    pair.server.send_headers(1, [*OK, (b"x", b"y")], end_stream=True)
    pair.move()
    assert (stream.status, stream.headers, stream.complete) == (200, [(b"x", b"y")], True)


def test_a_body_waits_for_the_windows_of_stream_and_connection():
    pair = Pair()
    first, second = pair.open(end=False), pair.open(end=False)
    data = memoryview(bytes(100_000))
    assert pair.client.send(first, data, True) == 65535  # both windows are used up
    assert pair.client.send(second, data, True) == 0
    pair.to_server()
    pair.woken.clear()
    pair.server.increment_flow_control_window(50_000)  # the connection's: first is still held by its own
    pair.move()
    assert len(pair.woken) == 2
    assert pair.client.send(first, data[65535:], True) == 0
    assert pair.client.send(second, data, True) == 50_000


def test_a_smaller_initial_window_may_go_below_zero_and_is_obeyed():
    pair = Pair()
    stream = pair.open(end=False)
    assert pair.client.send(stream, memoryview(bytes(30_000)), False) == 30_000
    pair.server.update_settings({SETTINGS.INITIAL_WINDOW_SIZE: 1000})
    pair.move()
    assert pair.client.send(stream, memoryview(b"x"), False) == 0
    pair.server.increment_flow_control_window(29_001, 1)
    pair.move()
    assert pair.client.send(stream, memoryview(b"xx"), False) == 1


def test_a_larger_initial_window_lets_waiting_bodies_go_on():
    pair = Pair({SETTINGS.INITIAL_WINDOW_SIZE: 10})
    stream = pair.open(end=False)
    assert pair.client.send(stream, memoryview(bytes(100)), True) == 10
    pair.server.update_settings({SETTINGS.INITIAL_WINDOW_SIZE: 1000})
    pair.move()
    assert pair.woken
    assert pair.client.send(stream, memoryview(bytes(90)), True) == 90


def test_while_the_socket_is_full_no_body_is_sent():
    pair = Pair()
    stream = pair.open(end=False)
    pair.client.set_writable(False)
    assert pair.client.send(stream, memoryview(b"x"), True) == 0
    pair.client.set_writable(True)
    assert pair.woken
    assert pair.client.send(stream, memoryview(b"x"), True) == 1


def test_a_slow_reader_holds_up_its_own_stream_and_no_other():
    pair = Pair(stream_window=10_000, connection_window=65_535)
    slow, quick = pair.open(), pair.open()
    pair.server.send_headers(1, OK)
    pair.server.send_headers(3, OK)
    pair.server.send_data(1, bytes(10_000))
    pair.move()
    assert pair.server.local_flow_control_window(1) == 0
    total = 0
    for _ in range(100):  # ten connection windows
        pair.server.send_data(3, bytes(6_000))
        pair.move()
        total += len(pair.client.take(quick))
        pair.move()
    assert total == 600_000
    assert len(pair.client.take(slow)) == 10_000
    pair.move()
    assert pair.server.local_flow_control_window(1) >= 5_000


def test_padding_is_given_back_to_the_windows():
    pair = Pair(stream_window=1000, connection_window=65_535)
    stream = pair.open()
    pair.server.send_headers(1, OK)
    for _ in range(50):
        pair.server.send_data(1, b"x", pad_length=200)
        pair.move()
        pair.client.take(stream)
        pair.move()
    assert stream.received == 50


def test_cancelling_tells_the_server_and_spares_the_others():
    pair = Pair()
    first, second = pair.open(), pair.open()
    pair.server.send_headers(1, OK)
    pair.server.send_data(1, b"part")
    pair.move()
    pair.client.cancel(first)
    assert pair.resets() == {1: CODES.CANCEL}
    pair.server.send_headers(3, OK, end_stream=True)
    pair.move()
    assert second.complete
    assert pair.client.broken is None


def test_data_that_was_under_way_to_a_cancelled_stream_does_not_use_up_the_connection():
    pair = Pair(connection_window=65_535, stream_window=60_000)
    for _ in range(30):
        stream = pair.open()
        pair.server.send_headers(stream.id, OK)
        pair.server.send_data(stream.id, bytes(16_000))
        pair.server.send_data(stream.id, bytes(4_000))
        pair.client.cancel(stream)  # before it has seen any of it
        pair.to_client()
        pair.move()
    assert pair.client.broken is None
    assert pair.server.outbound_flow_control_window > 20_000


def test_an_early_answer_ends_the_upload():
    pair = Pair()
    stream = pair.open(end=False)
    pair.client.send(stream, memoryview(b"part"), False)
    pair.to_server()
    pair.server.send_headers(1, [(b":status", b"413")], end_stream=True)
    pair.move()
    assert (stream.status, stream.complete, stream.failed) == (413, True, None)
    assert pair.client.send(stream, memoryview(b"more"), True) == 0
    assert pair.resets() == {1: CODES.CANCEL}
    assert pair.client.streams == {}


def test_an_early_answer_followed_by_a_reset_is_an_answer():
    pair = Pair()
    stream = pair.open(end=False)
    pair.server.send_headers(1, [(b":status", b"413")], end_stream=True)
    pair.server.reset_stream(1, CODES.NO_ERROR)
    pair.move()
    assert (stream.status, stream.complete, stream.failed) == (413, True, None)


def test_ping_is_answered():
    pair = Pair()
    pair.server.ping(b"12345678")
    pair.move()
    assert any(isinstance(event, h2.events.PingAckReceived) for event in pair.events)


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_refused_stream_is_told_from_one_that_was_reset():
    pair = Pair()
    refused, reset, after_head = pair.open(), pair.open(), pair.open()
    pair.server.reset_stream(1, CODES.REFUSED_STREAM)
    pair.server.reset_stream(3, CODES.INTERNAL_ERROR)
    pair.server.send_headers(5, OK)
    pair.server.reset_stream(5, CODES.REFUSED_STREAM)
    pair.move()
    assert refused.failed.failure is Failure.REFUSED
    assert (reset.failed.failure, reset.failed.stale) == (Failure.RESET, False)
    assert "INTERNAL_ERROR" in reset.failed.detail
    assert after_head.failed.failure is Failure.RESET
    assert pair.client.streams == {}


def test_goaway_fails_what_was_not_processed_lets_the_rest_finish_and_takes_nothing_new():
    pair = Pair()
    kept, lost = pair.open(), pair.open()
    pair.raw(GoAwayFrame(0, last_stream_id=1))
    assert (lost.failed.failure, lost.failed.stale) == (Failure.REFUSED, True)
    assert kept.failed is None
    assert pair.client.room() == 0
    assert pair.client.open(HEAD, True, False, print) is None
    pair.server.send_headers(1, OK)
    pair.server.send_data(1, b"the rest", end_stream=True)
    pair.move()
    assert kept.complete
    assert pair.client.take(kept) == b"the rest"
    assert pair.client.broken is None


def test_a_goaway_in_two_steps_fails_by_the_second():
    pair = Pair()
    kept, lost = pair.open(), pair.open()
    pair.raw(GoAwayFrame(0, last_stream_id=2**31 - 1))
    assert lost.failed is None
    pair.raw(GoAwayFrame(0, last_stream_id=1))
    assert lost.failed.stale
    assert kept.failed is None


def test_a_connection_lost_before_an_answer_is_stale_only_if_it_had_answered_before():
    pair = Pair()
    first = pair.open()
    pair.client.lost(None)
    assert (first.failed.failure, first.failed.stale) == (Failure.RESET, False)

    pair = Pair()
    pair.open()
    pair.server.send_headers(1, OK, end_stream=True)
    pair.move()
    waiting, begun = pair.open(), pair.open()
    pair.server.send_headers(begun.id, OK)
    pair.move()
    pair.client.lost(ConnectionResetError("gone"))
    assert (waiting.failed.failure, waiting.failed.stale) == (Failure.RESET, True)
    assert (begun.failed.failure, begun.failed.stale) == (Failure.RESET, False)
    assert "in the middle of the response" in begun.failed.detail


def test_goodbye_tells_the_server():
    pair = Pair()
    pair.client.goodbye()
    pair.to_server()
    assert any(isinstance(event, h2.events.ConnectionTerminated) for event in pair.events)


# -- answers that are not proper HTTP fail their stream ----------------------------------------------------------------


def encoded(headers) -> bytes:
    return Encoder().encode(headers)


def headers_frame(headers, stream: int = 1, *flags: str) -> HeadersFrame:
    return HeadersFrame(stream, encoded(headers), flags=["END_HEADERS", *flags])


def big_head(pair: Pair, kilobytes: int) -> None:
    """A head of this size, small on the wire thanks to the compression table."""
    block = Encoder().encode([*OK, *[(b"x", b"v" * 1000)] * kilobytes])
    pair.raw(HeadersFrame(1, block, flags=["END_HEADERS"]))


BAD_ANSWERS = {
    "a status that is no number": lambda p: p.raw(headers_frame([(b":status", b"2x0")])),
    "a status of four digits": lambda p: p.raw(headers_frame([(b":status", b"2000")])),
    "101": lambda p: p.raw(headers_frame([(b":status", b"101")])),
    "101 headers": lambda p: p.raw(headers_frame([*OK, *[(b"x", b"1")] * 101])),
    "a head of 70 KB": lambda p: big_head(p, 70),
    "a body shorter than its length, with trailers": lambda p: p.raw(
        headers_frame([*OK, (b"content-length", b"20")]),
        DataFrame(1, b"abc"),
        headers_frame([(b"t", b"1")], 1, "END_STREAM"),
    ),
    "a head with a length and no body": lambda p: p.raw(
        headers_frame([*OK, (b"content-length", b"5")], 1, "END_STREAM")
    ),
    "101 trailers": lambda p: p.raw(headers_frame(OK), headers_frame([(b"t", b"1")] * 101, 1, "END_STREAM")),
}


@pytest.mark.parametrize("what", list(BAD_ANSWERS))
def test_an_answer_that_is_not_proper_http_fails_its_stream_and_no_other(what):
    pair = Pair()
    bad, good = pair.open(), pair.open()
    BAD_ANSWERS[what](pair)
    assert bad.failed.failure is Failure.PROTOCOL_ERROR
    assert pair.client.broken is None
    assert pair.resets().get(1) in (CODES.PROTOCOL_ERROR, None)
    encoder_state_kept = headers_frame(OK, 3, "END_STREAM")
    pair.raw(encoder_state_kept)
    assert good.complete


@pytest.mark.parametrize(
    "frames",
    [
        [headers_frame([*OK, (b"x", b"a\r\nb: c")])],
        [headers_frame([*OK, (b"x", b"a\0b")])],
        [headers_frame([*OK, (b"content-length", b"2"), (b"content-length", b"3")])],
        [headers_frame(OK), headers_frame([(b"x", b"a\nb")], 1, "END_STREAM")],
    ],
    ids=["line break", "zero", "two lengths", "line break in trailers"],
)
def test_what_another_reader_might_read_differently_is_an_error_in_every_library(frames):
    pair = Pair()
    stream = pair.open()
    if isinstance(pair.client._codec, H2Codec):
        pair.client._codec._connection.config.validate_inbound_headers = False  # as versions before 4.3
    pair.raw(*frames)
    assert stream.failed.failure is Failure.PROTOCOL_ERROR


def test_the_length_of_an_answer_to_head_is_not_a_promise():
    pair = Pair()
    stream = pair.open(head_request=True)
    pair.raw(headers_frame([*OK, (b"content-length", b"5000")], 1, "END_STREAM"))
    assert (stream.complete, stream.failed) == (True, None)


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_nor_is_that_of_an_answer_without_body(status, codec):
    if (codec, status) == ("ngh2", b"204"):
        pytest.skip("nghttp2 holds to RFC 9110, 8.6: no length with 204")
    pair = Pair()
    stream = pair.open()
    pair.raw(headers_frame([(b":status", status), (b"content-length", b"5")], 1, "END_STREAM"))
    assert (stream.complete, stream.failed) == (True, None)


# -- hostile servers end the connection, not the process ---------------------------------------------------------------


def bomb(pair: Pair) -> None:
    """A 4 KB entry of the table, then 16,000 references to it: 64 MB of headers in one frame."""
    encoder = Encoder()
    pair.raw(HeadersFrame(1, encoder.encode([*OK, (b"x", b"v" * 3900)]), flags=["END_HEADERS"]))
    pair.raw(HeadersFrame(3, b"\x88" + b"\xbe" * 16_000, flags=["END_HEADERS"]))


def window_update(stream: int, size: int) -> WindowUpdateFrame:
    return WindowUpdateFrame(stream, window_increment=size)


HOSTILE = {
    "a first frame that is not SETTINGS": lambda p: p.raw(PingFrame(0, b"12345678")),
    "not HTTP/2": lambda p: p.client.receive(b"SSH-2.0-OpenSSH_9.6\r\n" * 2, 0.0),
    "a frame that is announced as huge": lambda p: p.client.receive(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", 0.0),
    "a frame of the wrong length": lambda p: p.client.receive(b"\x00\x00\x03\x08\x00\x00\x00\x00\x00abc", 0.0),
    "garbage where headers should be": lambda p: p.raw(HeadersFrame(1, b"\xff" * 50, flags=["END_HEADERS"])),
    "a header bomb": bomb,
    "CONTINUATION for ever": lambda p: p.raw(HeadersFrame(1, b""), *[ContinuationFrame(1, b"")] * 100),
    "CONTINUATION of megabytes": lambda p: p.raw(HeadersFrame(1, b""), *[ContinuationFrame(1, b"x" * 16000)] * 6),
    "CONTINUATION of nothing": lambda p: p.raw(ContinuationFrame(1, b"x")),
    "a frame in the middle of a header block": lambda p: p.raw(HeadersFrame(1, b"\x88"), PingFrame(0, b"12345678")),
    "GOAWAY in the middle of a header block": lambda p: p.raw(HeadersFrame(1, b"\x88"), GoAwayFrame(0)),
    "GOAWAY on a stream": lambda p: p.client.receive(b"\x00\x00\x08\x07\x00\x00\x00\x00\x01" + bytes(8), 0.0),
    "a GOAWAY that is too short": lambda p: p.client.receive(b"\x00\x00\x04\x07\x00\x00\x00\x00\x00" + bytes(4), 0.0),
    "PUSH_PROMISE": lambda p: p.raw(PushPromiseFrame(1, 2, encoded(HEAD), flags=["END_HEADERS"])),
    "a stream of its own": lambda p: p.raw(headers_frame(HEAD, 2)),
    "an answer on a stream that was never opened": lambda p: p.raw(headers_frame(OK, 99)),
    "data on a stream that was never opened": lambda p: p.raw(DataFrame(99, b"x")),
    "data before the head": lambda p: p.raw(DataFrame(1, b"x")),
    "more data than the window": lambda p: p.raw(headers_frame(OK), *[DataFrame(1, bytes(16000))] * 70),
    "a window beyond 2**31": lambda p: p.raw(window_update(0, 2**31 - 1), window_update(0, 2**31 - 1)),
    "an initial window beyond 2**31": lambda p: p.raw(SettingsFrame(0, {SETTINGS.INITIAL_WINDOW_SIZE: 2**31})),
    "a setting that cannot be": lambda p: p.raw(SettingsFrame(0, {SETTINGS.MAX_FRAME_SIZE: 5})),
    "a flood of PING": lambda p: p.raw(*[PingFrame(0, b"12345678")] * 3000),
    "a flood of SETTINGS": lambda p: p.raw(*[SettingsFrame(0, {SETTINGS.HEADER_TABLE_SIZE: 1})] * 3000),
    "a flood of PRIORITY": lambda p: p.raw(*[PriorityFrame(1, depends_on=3)] * 3000),
    "a flood of WINDOW_UPDATE": lambda p: p.raw(*[window_update(0, 1)] * 3000),
    "a flood of empty DATA": lambda p: p.raw(headers_frame(OK), *[DataFrame(1, b"")] * 3000),
    "a flood of padding": lambda p: p.raw(
        headers_frame(OK), *[DataFrame(1, b"", pad_length=1, flags=["PADDED"])] * 3000
    ),
    "a flood of DATA of one byte": lambda p: p.raw(headers_frame(OK), *[DataFrame(1, b"x")] * 13_000),
    "a flood of padded DATA of one byte": lambda p: p.raw(
        headers_frame(OK), *[DataFrame(1, b"x", pad_length=40, flags=["PADDED"])] * 13_000
    ),
    "a flood of interim answers": lambda p: p.raw(*[headers_frame([(b":status", b"103")])] * 3000),
    "a flood of frames that nobody knows": lambda p: p.raw(*[ExtensionFrame(0x42, 0)] * 6000),
    "a flood of resets of nothing": lambda p: p.raw(*[RstStreamFrame(1, error_code=8)] * 3000),
}


MALFORMED = {
    "no status": lambda p: p.raw(headers_frame([(b"x", b"y")])),
    "a request as answer": lambda p: p.raw(headers_frame(HEAD)),
    "a header in capitals": lambda p: p.raw(headers_frame([*OK, (b"Evil", b"1")])),
    "a connection header": lambda p: p.raw(headers_frame([*OK, (b"transfer-encoding", b"chunked")])),
    "a length that is no number": lambda p: p.raw(headers_frame([*OK, (b"content-length", b"two")])),
    "a body longer than its length": lambda p: p.raw(
        headers_frame([*OK, (b"content-length", b"2")]), DataFrame(1, b"abc")
    ),
    "a body shorter than its length": lambda p: p.raw(
        headers_frame([*OK, (b"content-length", b"9")]), DataFrame(1, b"abc", flags=["END_STREAM"])
    ),
    "trailers that do not end": lambda p: p.raw(headers_frame(OK), headers_frame([(b"t", b"1")])),
}


@pytest.mark.parametrize("what", list(MALFORMED))
def test_a_malformed_answer_fails_its_stream_or_the_connection_as_the_library_has_it(what):
    pair = Pair()
    bad, good = pair.open(), pair.open()
    MALFORMED[what](pair)
    assert bad.failed.failure is Failure.PROTOCOL_ERROR
    assert bad.failed.detail
    assert not bad.complete
    if pair.client.broken is None:
        assert pair.resets().get(1) == CODES.PROTOCOL_ERROR
        pair.raw(headers_frame(OK, 3, "END_STREAM"))
        assert good.complete
    else:
        assert pair.client.broken.failure is Failure.PROTOCOL_ERROR
        assert good.settled
    assert pair.client.streams == {}


def test_what_comes_after_the_end_of_an_answer_does_not_change_it():
    pair = Pair()
    stream = pair.open()
    pair.raw(headers_frame([*OK, (b"x", b"1")], 1, "END_STREAM"))
    pair.raw(headers_frame([(b":status", b"500")], 1))
    pair.raw(DataFrame(1, b"more"))
    assert (stream.status, stream.headers, stream.complete) == (200, [(b"x", b"1")], True)
    assert pair.client.take(stream) == b""


@pytest.mark.parametrize("what", list(HOSTILE))
def test_a_hostile_server_ends_its_connection_with_a_protocol_error(what):
    pair = Pair()
    if what in ("not HTTP/2", "a first frame that is not SETTINGS"):
        pair.client = Http2Session(0.0)
        waiting = []
    else:
        waiting = [pair.open(), pair.open()]
    HOSTILE[what](pair)
    assert pair.client.broken.failure is Failure.PROTOCOL_ERROR
    assert pair.client.broken.detail
    for stream in waiting:
        assert stream.settled
        if stream.failed is not None and not stream.complete:
            assert stream.failed.failure in (Failure.PROTOCOL_ERROR, Failure.RESET)
    assert pair.client.streams == {}
    assert len(pair.client.outgoing()) < 200_000
    pair.client.receive(b"anything" * 100, 0.0)  # and no more is listened to


def test_goaway_goes_out_when_the_server_broke_a_rule_of_ours():
    pair = Pair()
    pair.open()
    pair.raw(*[PingFrame(0, b"12345678")] * 3000)
    assert GoAwayFrame(0, last_stream_id=0, error_code=CODES.ENHANCE_YOUR_CALM).serialize() in pair.client.outgoing()


def test_frames_that_carry_nothing_are_no_flood_when_they_come_over_time():
    pair = Pair()
    pair.open()
    ping = PingFrame(0, b"12345678").serialize()
    for second in range(10_000):
        pair.client.receive(ping, float(second))
        pair.client.outgoing()
    assert pair.client.broken is None


def test_nor_is_a_body_that_comes_in_words_over_time():
    pair = Pair()
    stream = pair.open()
    pair.raw(headers_frame(OK))
    for word in range(50_000):
        pair.client.receive(DataFrame(1, b"word ").serialize(), word / 900)
        pair.client.take(stream)
        pair.client.outgoing()
    assert pair.client.broken is None


def test_nor_are_the_words_of_many_answers():
    pair = Pair()
    for _ in range(100):
        stream = pair.client.open(HEAD, True, False, lambda: None)
        pair.raw(headers_frame(OK, stream.id), *[DataFrame(stream.id, b"word ")] * 900)
        pair.raw(DataFrame(stream.id, b"", flags=["END_STREAM"]))
        assert (stream.complete, len(pair.client.take(stream))) == (True, 4500)
        pair.client.outgoing()
    assert pair.client.broken is None


def test_a_flood_of_tiny_data_costs_a_bounded_number_of_frames():
    pair = Pair()
    stream = pair.open()
    pair.raw(headers_frame(OK))
    many = DataFrame(1, b"x").serialize() * 6000
    for _ in range(100):
        pair.client.receive(many, 0.0)
    assert pair.client.broken.failure is Failure.PROTOCOL_ERROR
    assert stream.received <= http2_frames.TINY_BUDGET + http2_frames.TINY_A_STREAM


def test_what_comes_at_once_is_handled_in_pieces():
    pair = Pair()
    stream = pair.open()
    size = http2_frames.FRAMES_AT_ONCE
    data = headers_frame(OK).serialize() + DataFrame(1, b"x" * 20).serialize() * (3 * size)
    turns = [0]
    more = pair.client.receive_some(data, 0.0)
    while more:
        turns.append(stream.received // 20)
        more = pair.client.receive_some(b"", 0.0)
    turns.append(stream.received // 20)
    assert turns[-1] == 3 * size
    assert max(later - before for before, later in itertools.pairwise(turns)) <= size


def test_nor_are_window_updates_for_what_was_sent():
    pair = Pair()
    stream = pair.open(end=False)
    for _ in range(5_000):
        assert pair.client.send(stream, memoryview(b"x"), False) == 1
        pair.raw(window_update(0, 1), window_update(1, 1))
        pair.to_server()
    assert pair.client.broken is None


def test_nor_are_the_frames_of_many_short_answers():
    pair = Pair()
    for _ in range(3_000):
        stream = pair.client.open(HEAD, True, False, lambda: None)
        pair.client.outgoing()
        pair.raw(headers_frame(OK, stream.id, "END_STREAM"), window_update(0, 1))
        assert stream.complete


def test_an_error_in_the_protocol_library_ends_the_connection_and_nothing_else(monkeypatch):
    pair = Pair()
    stream = pair.open()

    def stumble(*_):
        raise KeyError("nobody expected this frame")

    monkeypatch.setattr(type(pair.client._codec), "receive", stumble)
    pair.raw(PingFrame(0, b"12345678"))
    assert pair.client.broken.failure is stream.failed.failure is Failure.PROTOCOL_ERROR


@pytest.mark.parametrize("status", [b"000", b"099", b"20", b"2000", b"20x", b"+20"])
def test_a_status_is_three_digits_from_100_on(status):
    pair = Pair()
    stream, other = pair.open(), pair.open()
    pair.raw(headers_frame([(b":status", status)]))
    assert stream.failed.failure is Failure.PROTOCOL_ERROR
    assert other.failed is None


@pytest.mark.parametrize(
    ("headers", "trailers", "whole"),
    [
        ([(b"h", b"1")] * 60, [(b"t", b"1")] * 40, True),
        ([(b"h", b"1")] * 60, [(b"t", b"1")] * 41, False),
        # these are small only while they are compressed
        ([(b"h", b"1" * 3900)] * 7, [(b"t", b"1" * 3900)] * 7, True),
        ([(b"h", b"1" * 3900)] * 8, [(b"t", b"1" * 3900)] * 8, False),
    ],
)
def test_head_and_trailers_share_their_bounds(headers, trailers, whole):
    pair = Pair()
    stream, other = pair.open(), pair.open()
    pair.raw(headers_frame([*OK, *headers]), headers_frame(trailers, 1, "END_STREAM"))
    assert stream.complete is whole
    assert (stream.failed is None) is whole
    assert other.failed is None


def test_a_window_overflow_on_one_stream_ends_that_stream_and_with_nghttp2_the_connection(codec):
    pair = Pair()
    stream, other = pair.open(end=False), pair.open()
    pair.raw(window_update(1, 2**31 - 1), window_update(1, 2**31 - 1))
    assert stream.failed.failure is Failure.PROTOCOL_ERROR
    assert (other.failed is None) is (pair.client.broken is None) is (codec == "h2")


def test_rapid_resets_are_failures_of_their_streams():
    pair = Pair({SETTINGS.MAX_CONCURRENT_STREAMS: 1000})
    streams = [pair.open() for _ in range(500)]
    for stream in streams:
        pair.server.reset_stream(stream.id, CODES.CANCEL)
    pair.move()
    assert {stream.failed.failure for stream in streams} == {Failure.RESET}
    assert pair.client.streams == {}
    assert pair.client.broken is None


def test_the_server_cannot_make_us_keep_a_large_header_table(codec):
    if codec != "h2":
        pytest.skip("the table is nghttp2's own, whose size is set when it is made (max_deflate_dynamic_table_size)")
    pair = Pair()
    pair.raw(SettingsFrame(0, {SETTINGS.HEADER_TABLE_SIZE: 2**32 - 1}))
    assert pair.client._codec._connection.encoder.header_table_size == http2_frames.HEADER_TABLE
    for number in range(2000):
        head = request_head(b"GET", b"/", [(b"Host", b"a"), (b"x-id", b"%d" % number * 10)], b"http")
        stream = pair.client.open(head, True, False, lambda: None)
        pair.client.cancel(stream)
        pair.client.outgoing()
    assert pair.client._codec._connection.encoder.header_table._current_size <= http2_frames.HEADER_TABLE


def test_what_is_unread_is_bounded_by_the_stream_window():
    pair = Pair()
    stream = pair.open()
    pair.server.send_headers(1, OK)
    sent = 0
    while size := min(pair.server.local_flow_control_window(1), 16384):
        pair.server.send_data(1, bytes(size))
        sent += size
        pair.move()
    assert sent == sum(map(len, stream.chunks)) == 1024 * 1024
    assert pair.server.outbound_flow_control_window > CONNECTION_WINDOW // 2


@given(st.binary(max_size=400), st.integers(1, 50))
def test_random_bytes_never_raise(data, chunk):
    pair = Pair()
    pair.open()
    for at in range(0, len(data), chunk):
        pair.client.receive(data[at : at + chunk], 0.0)
    pair.client.outgoing()


FRAMES = st.one_of(
    st.builds(
        lambda kind, flags, stream, payload: (
            len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
        ),
        st.integers(0, 11),
        st.integers(0, 255),
        st.sampled_from([0, 1, 2, 3, 5, 99]),
        st.one_of(st.binary(max_size=40), st.just(b"\x88"), st.just(encoded([*OK, (b"content-length", b"3")]))),
    )
)


@given(st.lists(FRAMES, max_size=12), st.booleans())
@settings(max_examples=400)
def test_random_frames_never_raise_and_leave_no_stream_in_between(frames, cancel):
    pair = Pair()
    first, second = pair.open(), pair.open(end=False)
    for frame in frames:
        pair.client.receive(frame, 0.0)
        pair.client.take(first)
        if second.id in pair.client.streams:
            pair.client.send(second, memoryview(b"body"), False)
        pair.client.outgoing()
    if cancel:
        pair.client.cancel(first)
        pair.client.cancel(second)
    pair.client.lost(None)
    assert first.settled
    assert second.settled
    assert pair.client.streams == {}


# -- random but honest -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["open", "upload", "end", "take", "cancel", "head", "data", "finish", "trailers", "reset", "move", "half"]
        ),
        st.integers(0, 7),
        st.integers(1, 40_000),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([1, 7, 1000, 1 << 20]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_events_delivers_what_was_sent_and_loses_no_window(steps, chunk):
    pair = Pair({SETTINGS.MAX_CONCURRENT_STREAMS: 8}, stream_window=20_000, connection_window=65_535)
    streams: list[Stream] = []
    uploaded: dict[int, bytearray] = {}
    sent: dict[int, bytearray] = {}
    got: dict[int, bytearray] = {}
    heads: set[int] = set()
    over: set[int] = set()  # as the server sees it

    def server_data(size: int) -> bytes:
        return bytes(i % 251 for i in range(size))

    def receive() -> None:
        for event in pair.events:
            if isinstance(event, h2.events.DataReceived):
                uploaded.setdefault(event.stream_id, bytearray()).extend(event.data)
                if event.flow_controlled_length:
                    pair.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                over.add(event.stream_id)
        pair.events.clear()

    expected: dict[int, bytearray] = {}
    for what, which, size in steps:
        if what == "open":
            stream = pair.client.open(HEAD, False, False, lambda: None)
            if stream is not None:
                streams.append(stream)
                expected[stream.id], sent[stream.id], got[stream.id] = bytearray(), bytearray(), bytearray()
            continue
        if what == "move":
            pair.to_server()
            receive()
            pair.to_client(chunk)
            continue
        if what == "half":
            pair.to_server()
            receive()
            continue
        if not streams:
            continue
        stream = streams[which % len(streams)]
        number = stream.id
        known = number in pair.server.streams and number not in over
        if what == "upload":
            data = server_data(size)
            taken = pair.client.send(stream, memoryview(data), False)
            expected[number] += data[:taken]
        elif what == "end":
            pair.client.end(stream)
        elif what == "take":
            got[number] += pair.client.take(stream)
        elif what == "cancel":
            pair.client.cancel(stream)
        elif not known:
            continue
        elif what == "head" and number not in heads:
            pair.server.send_headers(number, OK)
            heads.add(number)
        elif what == "data" and number in heads:
            data = server_data(min(size, pair.server.local_flow_control_window(number), 16_384))
            if data:
                pair.server.send_data(number, data)
                sent[number] += data
        elif what in ("finish", "trailers") and number in heads:
            if what == "finish":
                pair.server.end_stream(number)
            else:
                pair.server.send_headers(number, [(b"t", b"1")], end_stream=True)
            over.add(number)
        elif what == "reset":
            pair.server.reset_stream(number, CODES.INTERNAL_ERROR)
            over.add(number)

    for _ in range(6):
        pair.to_server()
        receive()
        pair.to_client(chunk)
    assert pair.client.broken is None
    for stream in streams:
        got[stream.id] += pair.client.take(stream)
        assert bytes(sent[stream.id]).startswith(bytes(got[stream.id]))
        assert bytes(expected[stream.id]).startswith(bytes(uploaded.get(stream.id, b"")))
        if stream.complete and stream.failed is None:
            assert got[stream.id] == sent[stream.id]
        pair.client.cancel(stream)
    for _ in range(4):
        pair.to_server()
        receive()
        pair.to_client(chunk)
    assert pair.client.streams == {}
    assert pair.server.open_inbound_streams == 0
    # what is left of the connection's window lets any stream go on
    assert pair.server.outbound_flow_control_window >= 65_535 // 4


# -- request heads -----------------------------------------------------------------------------------------------------


def test_a_request_head_is_written_as_http2_wants_it():
    headers = [
        (b"Host", b"reviews:9080"),
        (b"Accept", b"*/*"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"websocket"),
        (b"X-Hop", b"1"),
        (b"TE", b"gzip"),
        (b"X-Padded", b" a "),
        (b"Cookie", b"a=1; b=2"),
        (b"Authorization", b"Bearer secret"),
    ]
    head = request_head(b"POST", b"/a?b=c", headers, b"https")
    assert [tuple(header) for header in head] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"reviews:9080"),
        (b":path", b"/a?b=c"),
        (b"accept", b"*/*"),
        (b"x-padded", b"a"),
        (b"cookie", b"a=1; b=2"),
        (b"authorization", b"Bearer secret"),
    ]
    assert isinstance(head[-1], SecretHeader)


def test_te_trailers_stays():
    head = request_head(b"POST", b"/", [(b"Host", b"a"), (b"TE", b"trailers"), (b"Connection", b"TE")], b"http")
    assert (b"te", b"trailers") in head


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GET", b"/", [(b"x", b"a\r\nevil: 1")]),
        (b"GET", b"/", [(b"x", b"a\x00b")]),
        (b"GET", b"/", [(b"bad name", b"1")]),
        (b"GET", b"/", [(b":path", b"/other")]),
        (b"GET", b"/a b", []),
        (b"G T", b"/", []),
        (b"GET", b"/", [(b"Host", b"a"), (b"host", b"b")]),
        (b"CONNECT", b"a:443", []),
    ],
)
def test_a_request_that_cannot_be_written_safely_is_refused(method, target, headers):
    with pytest.raises(InvalidHead):
        request_head(method, target, headers, b"http")


def test_a_request_may_end_with_trailers():
    pair = Pair()
    stream = pair.client.open(HEAD, False, False, lambda: None)
    assert stream is not None
    pair.client.send(stream, memoryview(b"x"), False)
    pair.client.end(stream, [(b"checksum", b"1")])
    pair.move()
    (event,) = [one for one in pair.events if isinstance(one, h2.events.TrailersReceived)]
    assert [(bytes(name), bytes(value)) for name, value in event.headers] == [(b"checksum", b"1")]
