"""The codec on nghttp2, on its own: what it writes and when, and what it makes of a server's frames."""

from __future__ import annotations

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from meshlib.transport.protocol.http2_codec import SEND_AT_ONCE, Code, SecretHeader, Violation
from meshlib.transport.protocol.http2_frames import FRAMES_AT_ONCE
from tests.support.h2_frames import HEAD, SETTINGS, frames_of, response_head
from tests.support.http2_codecs import Told

module = pytest.importorskip("meshlib.transport.protocol.http2_ngh2")
ngh2 = pytest.importorskip("ngh2")
STREAM_WINDOW = 50_000


def made():
    return module.Ngh2Codec(0.0, STREAM_WINDOW, 2**20)


@pytest.fixture
def codec():
    ready = made()
    ready.receive(SETTINGS, 0.0, Told())
    ready.outgoing()
    return ready


def test_it_greets_with_its_settings():
    settings, *_ = frames_of(made().outgoing())
    assert settings.settings[SettingsFrame.ENABLE_PUSH] == 0
    assert settings.settings[SettingsFrame.INITIAL_WINDOW_SIZE] == STREAM_WINDOW


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "speaks HTTP/1, not HTTP/2"),
        (PingFrame(0, b"12345678").serialize(), "first frame is not SETTINGS"),
        (SettingsFrame(0, flags=["ACK"]).serialize(), "first frame is not SETTINGS"),
    ],
)
def test_a_server_that_does_not_speak_it_is_told_by_its_first_bytes_however_they_come(says, problem):
    codec, told = made(), Told()

    def bytewise() -> None:
        for byte in says:
            codec.receive(bytes([byte]), 0.0, told)

    with pytest.raises(Violation, match=problem):
        bytewise()
    assert told.calls == []


@pytest.mark.parametrize("name", [b"authorization", b"proxy-authorization"])  # nghttp2 knows the first by itself
@pytest.mark.parametrize("whole", [False, True])
def test_a_secret_stays_out_of_the_compression_tables(codec, name, whole):
    secret = [*HEAD, SecretHeader(name, b"me")]
    assert codec.open_whole(secret, b"x" * 9) if whole else codec.open(secret, True)
    head = frames_of(codec.outgoing())[0]
    decoded = Decoder().decode(head.data, raw=True)
    assert [type(pair) is NeverIndexedHeaderTuple for pair in decoded] == [False] * len(HEAD) + [True]


def test_a_stream_may_be_used_before_its_head_was_written(codec):
    first = codec.open(HEAD, False)
    assert codec.send(first, memoryview(b"ab"), True) == 2
    second = codec.open(HEAD, False)
    codec.end(second)
    third = codec.open(HEAD, False)
    codec.reset(third, Code.CANCEL)
    frames = frames_of(codec.outgoing())
    assert {frame.stream_id for frame in frames if isinstance(frame, HeadersFrame)} == {first, second, third}
    assert [frame.stream_id for frame in frames if "END_STREAM" in frame.flags] == [first, second]
    assert [(type(frame), frame.stream_id) for frame in frames][-1] == (RstStreamFrame, third)


def test_a_body_goes_as_far_as_windows_and_others_allow(codec):
    number = codec.open(HEAD, False)
    data = memoryview(bytes(3 * SEND_AT_ONCE))
    assert codec.send(number, data, True) == 65535
    assert codec.send(number, data, True) == 0
    codec.receive(b"".join(WindowUpdateFrame(n, window_increment=2**20).serialize() for n in (0, number)), 0.0, Told())
    assert codec.send(number, data, True) == SEND_AT_ONCE


def test_small_bodies_go_with_their_heads_and_no_further_than_the_windows(codec):
    codec.receive(WindowUpdateFrame(0, window_increment=35_000).serialize(), 0.0, Told())
    numbers = [codec.open(HEAD, False) for _ in range(3)]
    assert not codec._out  # nothing is written call by call
    last = numbers[-1]
    assert codec.send(last, memoryview(b"x" * 60_000), True) == 60_000
    other = codec.open(HEAD, False)
    assert codec.send(other, memoryview(b"x" * 60_000), True) == 100_535 - 60_000  # what the connection has left
    first = [frame.stream_id for frame in frames_of(codec.outgoing()) if isinstance(frame, HeadersFrame)]
    assert first == [*numbers, other]


class Counting:
    """A connection of nghttp2, and how often it was asked for what is to be written."""

    def __init__(self, connection) -> None:
        self._connection = connection
        self.asked = 0

    def __getattr__(self, name: str):
        self.asked += name == "data_to_send"
        return getattr(self._connection, name)


def test_a_request_that_is_all_here_is_begun_with_its_body_or_not_at_all(codec):
    taken = codec.open_whole(HEAD, b"x" * 60_000)
    assert codec.open_whole(HEAD, b"x" * 5_536) == 0  # the connection has less left
    assert codec.open_whole(HEAD, b"x" * 5_535) == taken + 2
    frames = frames_of(codec.outgoing())
    assert [frame.stream_id for frame in frames if isinstance(frame, HeadersFrame)] == [taken, taken + 2]
    ends = [frame.stream_id for frame in frames if isinstance(frame, DataFrame) and "END_STREAM" in frame.flags]
    assert ends == [taken, taken + 2]


def test_one_that_nghttp2_takes_the_head_of_alone_is_taken_back(codec):
    class Full(Counting):
        def send_data(self, *_: object, **__: object) -> None:
            raise ngh2.NGH2Error("no memory")

    real = codec._connection
    codec._connection = Full(real)
    assert codec.open_whole(HEAD, b"x") == 0
    codec._connection = real
    number = codec.open_whole(HEAD, b"x")
    frames = frames_of(codec.outgoing())
    assert [frame.stream_id for frame in frames if isinstance(frame, DataFrame)] == [number]
    begun = {frame.stream_id for frame in frames if isinstance(frame, HeadersFrame)} - {number}
    assert begun == {frame.stream_id for frame in frames if isinstance(frame, RstStreamFrame)}


def test_messages_of_several_streams_are_written_together_and_go_no_further_than_the_windows(codec):
    numbers = [codec.open(HEAD, False) for _ in range(3)]
    codec.outgoing()
    codec._connection = counting = Counting(codec._connection)
    for message in (b"a" * 100, b"b" * 100):
        assert [codec.send(number, memoryview(message), False) for number in numbers] == [100, 100, 100]
    assert counting.asked == 0
    assert codec.send(numbers[0], memoryview(b"c" * 65_000), False) == 65_535 - 600
    assert codec.send(numbers[1], memoryview(b"d" * 100), True) == 0  # the connection has none left
    frames = [frame for frame in frames_of(codec.outgoing()) if isinstance(frame, DataFrame)]
    sent = [b"".join(frame.data for frame in frames if frame.stream_id == number) for number in numbers]
    assert sent == [b"a" * 100 + b"b" * 100 + b"c" * 64_935, b"a" * 100 + b"b" * 100, b"a" * 100 + b"b" * 100]


def test_the_servers_first_window_bounds_a_body_that_goes_with_its_head():
    codec = made()
    codec.receive(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}).serialize(), 0.0, Told())
    codec.outgoing()
    assert codec.send(codec.open(HEAD, False), memoryview(b"x" * 11), True) == 10


def test_bodies_that_a_smaller_window_of_the_server_holds_back_count_when_they_are_written_later():
    codec, first = made(), SettingsFrame.INITIAL_WINDOW_SIZE
    codec.receive(SettingsFrame(0).serialize(), 0.0, Told())
    number = codec.open(HEAD, False)
    codec.outgoing()
    assert codec.send(number, memoryview(b"x" * 60_000), True) == 60_000
    for size in (0, 10_000):  # before it is written, so that 50,000 are held back
        codec.receive(SettingsFrame(0, settings={first: size}).serialize(), 0.0, Told())
    assert codec.open_whole(HEAD, b"x" * 9_000)
    codec.outgoing()
    codec.receive(WindowUpdateFrame(number, window_increment=50_000).serialize(), 0.0, Told())
    assert codec._connection.remote_window_size == 0
    assert not codec.open_whole(HEAD, b"x" * 9_000)


def test_what_nobody_reads_is_not_given_back_to_its_stream(codec):
    number = codec.open(HEAD, True)
    codec.receive(response_head(number), 0.0, Told())
    codec.outgoing()
    for _ in range(3):
        codec.receive(DataFrame(number, bytes(15_000)).serialize(), 0.0, Told())
    assert codec.outgoing() == b""
    codec.consumed(number, 45_000)
    assert number in [frame.stream_id for frame in frames_of(codec.outgoing())]


def test_a_server_is_told_of_in_its_order(codec):
    told, first, second = Told(), codec.open(HEAD, True), codec.open(HEAD, True)
    codec.receive(
        response_head(first) + DataFrame(first, b"ab", flags=["END_STREAM"]).serialize()
        + RstStreamFrame(second, error_code=Code.CANCEL).serialize()
        + GoAwayFrame(0, last_stream_id=first).serialize(),
        0.0,
        told,
    )  # fmt: skip
    assert [call for call in told.calls if call[0] != "broken"] == [
        ("head", first, [(b":status", b"200")]),
        ("data", first, b"ab", 2),
        ("end", first),
        ("reset", second, Code.CANCEL),
        ("goaway", first),
    ]


def test_much_at_once_is_told_in_turns(codec):
    told, number = Told(), codec.open(HEAD, True)
    many = b"".join(DataFrame(number, bytes(20)).serialize() for _ in range(FRAMES_AT_ONCE))
    assert codec.receive(response_head(number) + many, 0.0, told)
    assert len(told.calls) <= FRAMES_AT_ONCE
    assert not codec.receive(b"", 0.0, told)
    assert sum(call[0] == "data" for call in told.calls) == FRAMES_AT_ONCE


def test_a_flood_that_the_library_tells_nothing_of_is_seen_by_its_bytes(codec):
    flood = PriorityFrame(1, depends_on=0, stream_weight=1).serialize() * 5_000
    with pytest.raises(Violation) as broken:
        codec.receive(flood, 0.0, Told())
    assert broken.value.code == Code.ENHANCE_YOUR_CALM
