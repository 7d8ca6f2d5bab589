"""The HTTP/2 session without I/O: answers that are no proper HTTP, and hostile servers."""

from __future__ import annotations

import itertools

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
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol import http2_frames
from meshlib.transport.protocol.http2 import CONNECTION_WINDOW, Http2Session
from meshlib.transport.protocol.http2_h2 import H2Codec
from meshlib.transport.protocol.http2_headers import request_head
from tests.support.http2_pair import CODES, HEAD, OK, SETTINGS, Pair, big_head, encoded, headers_frame

pytestmark = pytest.mark.usefixtures("codec")


# -- answers that are not proper HTTP fail their stream ----------------------------------------------------------------


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
