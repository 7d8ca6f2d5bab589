"""The codec on h2, on its own: what it writes and when, and what it makes of a server's frames."""

from __future__ import annotations

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from meshlib.transport.protocol.http2_codec import MAX_FRAME, SEND_AT_ONCE, Code, SecretHeader, Violation
from meshlib.transport.protocol.http2_h2 import LAST_STREAM_ID, H2Codec
from tests.support.h2_frames import HEAD, SETTINGS, frames_of, response_head
from tests.support.http2_codecs import Told

WINDOW = 100_000


@pytest.fixture
def codec():
    made = H2Codec(0.0, 2**20, WINDOW)
    made.receive(SETTINGS, 0.0, Told())
    made.outgoing()
    return made


def test_it_greets_with_its_settings_and_its_window():
    settings, window = frames_of(H2Codec(0.0, 2**20, WINDOW).outgoing())
    assert settings.settings[SettingsFrame.ENABLE_PUSH] == 0
    assert settings.settings[SettingsFrame.INITIAL_WINDOW_SIZE] == 2**20
    assert settings.settings[SettingsFrame.MAX_FRAME_SIZE] == MAX_FRAME
    assert (window.stream_id, window.window_increment) == (0, WINDOW - 65535)


def test_a_secret_stays_out_of_the_compression_tables(codec):
    codec.open([*HEAD, SecretHeader(b"authorization", b"me")], True)
    (head,) = frames_of(codec.outgoing())
    decoded = Decoder().decode(head.data, raw=True)
    assert [type(pair) is NeverIndexedHeaderTuple for pair in decoded] == [False] * len(HEAD) + [True]


def test_the_last_number_of_a_stream_is_the_last(codec):
    assert [codec.open(HEAD, True) for _ in range(2)] == [1, 3]
    codec._connection.highest_outbound_stream_id = LAST_STREAM_ID - 2
    assert codec.open(HEAD, True) == LAST_STREAM_ID
    assert codec.open(HEAD, True) is None


def test_a_body_goes_as_far_as_windows_and_others_allow_and_ends_with_its_last_byte(codec):
    number = codec.open(HEAD, False)
    data = memoryview(bytes(SEND_AT_ONCE + 1))
    assert codec.send(number, data, True) == 65535
    assert codec.send(number, data[65535:], True) == 0
    codec.receive(b"".join(WindowUpdateFrame(n, window_increment=2**20).serialize() for n in (0, number)), 0.0, Told())
    assert codec.send(number, data[65535:], True) == 2
    sent = [frame for frame in frames_of(codec.outgoing()) if isinstance(frame, DataFrame)]
    assert max(len(frame.data) for frame in sent) <= MAX_FRAME
    assert [("END_STREAM" in frame.flags) for frame in sent] == [False] * (len(sent) - 1) + [True]
    wide = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2**20})
    codec.receive(wide.serialize(), 0.0, Told())
    assert codec.send(codec.open(HEAD, False), memoryview(bytes(2 * SEND_AT_ONCE)), True) == SEND_AT_ONCE


def test_the_connections_window_is_given_back_by_the_quarter_whether_somebody_reads_or_not(codec):
    number = codec.open(HEAD, True)
    codec.receive(response_head(number), 0.0, Told())
    codec.outgoing()
    codec.receive(DataFrame(number, bytes(15_000)).serialize(), 0.0, Told())
    assert codec.outgoing() == b""
    codec.receive(DataFrame(number, bytes(15_000)).serialize(), 0.0, Told())
    (window,) = frames_of(codec.outgoing())
    assert (window.stream_id, window.window_increment) == (0, 30_000)
    codec.consumed(number, 30_000)
    (window,) = frames_of(codec.outgoing())
    assert (window.stream_id, window.window_increment) == (number, 30_000)


def test_a_server_is_told_of_in_its_order_and_what_it_resets_apart_from_what_it_broke(codec):
    told, first, second = Told(), codec.open(HEAD, True), codec.open(HEAD, True)
    codec.receive(
        response_head(first) + DataFrame(first, b"ab", flags=["END_STREAM"]).serialize()
        + RstStreamFrame(second, error_code=Code.CANCEL).serialize()
        + GoAwayFrame(0, last_stream_id=first).serialize(),
        0.0,
        told,
    )  # fmt: skip
    assert told.calls == [
        ("head", first, [(b":status", b"200")]),
        ("data", first, b"ab", 2),
        ("end", first),
        ("reset", second, Code.CANCEL),
        ("goaway", first),
    ]


def test_after_goodbye_and_a_reset_that_comes_too_late_nothing_is_raised(codec):
    number = codec.open(HEAD, True)
    codec.receive(response_head(number, "END_STREAM"), 0.0, Told())
    codec.reset(number, Code.CANCEL)
    codec.close(Code.NO_ERROR)
    codec.close(Code.NO_ERROR)
    assert isinstance(frames_of(codec.outgoing())[-1], GoAwayFrame)


def test_a_violation_is_raised_with_the_librarys_own_goaway_written(codec):
    with pytest.raises(Violation) as broken:
        codec.receive(HeadersFrame(2, b"\x88", flags=["END_HEADERS"]).serialize(), 0.0, Told())
    assert broken.value.code is None
    assert isinstance(frames_of(codec.outgoing())[-1], GoAwayFrame)
