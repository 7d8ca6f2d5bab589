"""A look at the frames of a client."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)

from meshlib.transport.protocol import http2_client_frames
from meshlib.transport.protocol.http2_client_frames import PREFACE, ClientFrames
from meshlib.transport.protocol.http2_codec import Code, Violation


def made(*frames: Frame) -> bytes:
    return PREFACE + b"".join(frame.serialize() for frame in frames)


def head(stream: int, end: bool = False) -> HeadersFrame:
    return HeadersFrame(stream, b"abc", flags=["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"])


def violation(*frames: Frame) -> Violation:
    with pytest.raises(Violation) as raised:
        ClientFrames(0.0).look(made(*frames))
    return raised.value


@pytest.mark.parametrize("piece", [1, 2, 7, 23, 1000])
def test_all_that_arrives_is_passed_on_however_it_is_cut(piece):
    frames = [
        head(1),
        DataFrame(1, b"x" * 50),
        PriorityFrame(3, depends_on=1),
        PingFrame(0, b"12345678"),
        head(1, True),
    ]
    data = made(*frames, head(3), DataFrame(3, b"", flags=["END_STREAM"]))
    looked = ClientFrames(0.0)
    assert b"".join([looked.look(data[at : at + piece]) for at in range(0, len(data), piece)]) == data


@pytest.mark.parametrize("frame", [DataFrame(1, b"x"), head(1)])
@pytest.mark.parametrize("ending", [[head(1, True)], [head(1), DataFrame(1, b"", flags=["END_STREAM"])]])
def test_nothing_comes_on_a_stream_that_the_client_has_ended(frame, ending):
    assert violation(*ending, frame).code == Code.STREAM_CLOSED


def test_nothing_comes_on_a_stream_that_the_client_has_reset():
    assert violation(head(1), RstStreamFrame(1, error_code=8), DataFrame(1, b"x")).code == Code.STREAM_CLOSED


@pytest.mark.parametrize("length", [0xFFFF, 0x10000, 0xFFFFFF])
def test_a_frame_is_as_long_as_it_says(length):
    wrong = PriorityFrame(3, depends_on=3).serialize()
    payload = wrong + b"x" * (length - len(wrong))
    looked = ClientFrames(0.0)
    looked.look(PREFACE + length.to_bytes(3, "big") + b"\x50\0\0\0\0\3" + payload)
    with pytest.raises(Violation):
        looked.look(wrong)


def test_a_block_of_headers_has_begun_until_its_last_frame_has_come():
    looked = ClientFrames(0.0)
    assert looked.begun is None  # nothing at all has come
    looked.look(PREFACE[:5])
    assert looked.begun == 0
    looked.look(PREFACE[5:] + head(1).serialize() + PingFrame(0, b"12345678").serialize())
    assert looked.begun is None
    looked.look(HeadersFrame(3, b"abc").serialize())
    assert looked.begun == 3
    looked.look(ContinuationFrame(3, b"abc").serialize())
    assert looked.begun == 3
    looked.look(ContinuationFrame(3, b"abc", flags=["END_HEADERS"]).serialize())
    assert looked.begun is None


def test_the_numbers_of_streams_only_grow():
    assert violation(head(5), head(3)).code == Code.PROTOCOL_ERROR


def test_of_a_stream_that_we_have_reset_more_may_be_under_way():
    looked = ClientFrames(0.0)
    looked.look(made(head(1), head(3)))
    looked.reset(1)
    looked.reset(1)
    looked.look(DataFrame(1, b"x").serialize() + head(1).serialize() + head(1, True).serialize())
    with pytest.raises(Violation):
        looked.look(head(1).serialize())


@pytest.mark.parametrize("piece", [1, 5, 11, 1000])
def test_a_window_that_overflows_is_not_passed_on(piece):
    asked: list[tuple[int, int]] = []

    def overflows(stream: int, increment: int) -> bool:
        asked.append((stream, increment))
        return stream == 1

    frames = [WindowUpdateFrame(3, window_increment=2**30), WindowUpdateFrame(1, window_increment=2**31 - 1)]
    last = PingFrame(0, b"12345678")
    data = made(WindowUpdateFrame(1, window_increment=5), *frames, last)
    looked = ClientFrames(0.0, overflows)
    passed = b"".join([looked.look(data[at : at + piece]) for at in range(0, len(data), piece)])
    assert passed == made(WindowUpdateFrame(1, window_increment=5), frames[0], last)
    assert asked == [(3, 2**30), (1, 2**31 - 1)]


def test_what_is_remembered_of_streams_that_are_over_is_bounded(monkeypatch):
    monkeypatch.setattr(http2_client_frames, "REMEMBERED", 2)
    looked = ClientFrames(0.0)
    looked.look(made(*[head(number, True) for number in (1, 3, 5)]))
    assert list(looked._ended) == [3, 5]
    looked.look(b"".join(head(number).serialize() for number in (7, 9, 11)))
    for number in (7, 9, 11):
        looked.reset(number)
    assert list(looked._reset) == [9, 11]
    assert not looked._open


def test_priority_that_makes_no_sense():
    assert "itself" in str(violation(PriorityFrame(1, depends_on=1)))
    assert "stream 0" in str(violation(_priority_on_0()))


def _priority_on_0() -> Frame:
    frame = PriorityFrame(1, depends_on=3)
    frame.stream_id = 0
    return frame


def test_a_reset_of_a_stream_that_is_not_open_is_left_to_nghttp2():
    looked = ClientFrames(0.0)
    looked.look(made(RstStreamFrame(9, error_code=8), head(9)))


def test_head_on_stream_0_is_left_to_nghttp2():
    frame = head(1)
    frame.stream_id = 0
    ClientFrames(0.0).look(made(frame))


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, b"12345678"),
        PriorityFrame(1, depends_on=3),
        WindowUpdateFrame(0, window_increment=1),
        DataFrame(1, b""),
        DataFrame(1, b"", flags=["PADDED"], pad_length=200),
    ],
)
def test_a_flood_of_frames_that_carry_nothing_ends_the_connection(frame):
    looked = ClientFrames(0.0)
    looked.look(PREFACE)
    with pytest.raises(Violation) as raised:
        looked.look(frame.serialize() * 2001)
    assert raised.value.code == Code.ENHANCE_YOUR_CALM
    assert "the client floods" in str(raised.value)
