"""The server's side of HTTP/2 without I/O: what is refused, hostile clients, floods, and any bytes at all."""

from __future__ import annotations

import contextlib
import re

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    ExtensionFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.transport.protocol.http2_client_frames import PREFACE
from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.http2_response import response_head
from meshlib.transport.protocol.http2_server_limits import MAX_STREAMS
from meshlib.transport.protocol.request_head import IN_VALUES
from tests.support.http2_client import GET, POST, Client, Told

OK = response_head(200, [])
EMPTY_SETTINGS = SettingsFrame(0)


def stream_of(client: Client, number: int = 1):
    return client.told.streams[number]


# -- what is refused ------------------------------------------------------------------------------------------------------

MALFORMED = [
    [*GET, ("Upper", "x")],
    [*GET, ("connection", "close")],
    [*GET, ("transfer-encoding", "chunked")],
    [*GET, ("upgrade", "h2c")],
    [*GET, ("te", "gzip")],
    [*GET, ("bad name", "x")],
    [*GET, ("", "x")],
    [*GET, ("x", "a\r\nb: c")],
    [*GET, ("x", "a\0b")],
    [*GET, (":path", "/")],
    [*GET, (":unknown", "x")],
    [GET[0], GET[1], ("x", "y"), GET[2], GET[3]],
    GET[1:],
    [GET[0], *GET[2:]],
    [*GET[:2], GET[3]],
    GET[:3],
    [*GET[:2], (":path", ""), GET[3]],
    [*GET[:2], (":path", "a"), GET[3]],
    [*GET[:2], (":path", "/a b"), GET[3]],
    [*GET[:3], (":authority", "me@reviews")],
    [(":method", "G T"), *GET[1:]],
    [*GET, ("host", "a"), ("host", "b")],
    [*GET, ("content-length", "3")],
    [*GET, ("content-length", "0"), ("content-length", "0")],
    [*GET, ("content-length", "-1")],
    [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]],
]


@pytest.mark.parametrize("headers", MALFORMED, ids=str)
def test_a_malformed_request_ends_its_stream_and_nobody_hears_more_of_it_than_that(headers):
    client = Client()
    client.request(1, headers)
    assert client.got.resets == {1: Code.PROTOCOL_ERROR}
    client.request(3)
    assert client.told.calls == [("malformed",), ("request", 3, True)]


@pytest.mark.parametrize("place", ["name", "value", ":path", ":authority", ":method"])
def test_nothing_that_is_taken_makes_another_line_of_http1(place):
    client = Client(max_streams=2000)
    for number, byte in enumerate(range(256)):
        text = bytes([97, byte, 98])
        fields = {name.encode(): value.encode() for name, value in GET}
        if place == "name":
            fields[text] = b"x"
        elif place == "value":
            fields[b"x"] = text
        else:
            fields[place.encode()] = {b":path": b"/"}.get(place.encode(), b"") + text
        block = client.encoder.encode(list(fields.items()), huffman=False)
        client.now += 2.0
        client.send(HeadersFrame(2 * number + 1, block, flags=["END_HEADERS", "END_STREAM"]))
        client.session.broken = None
        stream = client.told.streams.get(2 * number + 1)
        if stream is None or stream.head.refused is not None:
            continue
        head = stream.head
        written = b"%b %b HTTP/1.1\r\n%b" % (head.method, head.target, head.lines)
        lines = written.split(b"\r\n")[:-1]
        assert len(lines) == len(fields) - 2, (
            text
        )  # all but :scheme and :path have a line, and the first has two of them
        assert not written.translate(None, IN_VALUES + b"\r\n"), text
        assert written.count(b"\n") == written.count(b"\r") == len(lines)
        assert lines[0].count(b" ") == 2
        assert place != "name" or re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9a-z]+", text), text
    assert len(client.told.streams) > 50


def test_what_can_be_read_in_two_ways_is_handed_on_as_refused():
    client = Client()
    client.request(1, [*GET, ("host", "other")])
    refused = stream_of(client).head.refused
    assert refused is not None
    assert refused.status == 400


@pytest.mark.parametrize("sent", [b"ab", b"abcd"])
def test_a_body_is_as_long_as_the_head_says(sent):
    client = Client()
    client.request(headers=[*POST, ("content-length", "3")], end=False)
    client.data(1, sent, end=True)
    assert client.got.resets == {1: Code.PROTOCOL_ERROR}
    assert client.told.of("reset") == [("reset", 1, "the client broke HTTP/2 on this stream (PROTOCOL_ERROR)")]
    assert client.told.of("end") == []


def test_trailers_are_bounded_with_their_stream():
    client = Client()
    client.request(headers=POST, end=False)
    client.send(client.head(1, [(f"x{number}", "y") for number in range(101)]))
    assert client.got.resets == {1: Code.ENHANCE_YOUR_CALM}
    assert client.told.of("reset") == [("reset", 1, "the request's trailers are larger than 61440 bytes, or too many")]
    client.request(3, POST, end=False)
    client.send(_continued(client, 3, [("x", "y" * 61440)]))
    assert client.got.resets[3] == Code.ENHANCE_YOUR_CALM


def _continued(client: Client, stream: int, headers: list[tuple[str, str]]) -> bytes:
    block = client.encoder.encode(headers, huffman=False)
    frames = HeadersFrame(stream, block[:16000], flags=["END_STREAM"]).serialize()
    for at in range(16000, len(block), 16000):
        flags = ["END_HEADERS"] if at + 16000 >= len(block) else []
        frames += ContinuationFrame(stream, block[at : at + 16000], flags=flags).serialize()
    return frames


def test_a_head_that_is_too_large_is_refused_and_one_beyond_all_measure_ends_the_connection():
    client = Client()
    client.send(_continued(client, 1, [*GET, ("x", "y" * 61440)]))
    refused = stream_of(client).head.refused
    assert refused is not None
    assert refused.status == 431
    client = Client()
    client.request(1, [*GET, ("bomb", "y" * 3000)])
    bomb = client.head(3, [*GET, *[("bomb", "y" * 3000)] * 100])  # one entry of the table, named again and again
    assert len(bomb.data) < 200
    client.send(bomb)
    assert client.got.goaways == [(1, Code.ENHANCE_YOUR_CALM)]
    assert client.session.over


def test_streams_are_bounded():
    client = Client(max_streams=2)
    for number in (1, 3, 5):
        client.request(number, POST, end=False)
    assert client.got.resets == {5: Code.REFUSED_STREAM}
    client.send(SettingsFrame(0, flags=["ACK"]))
    client.request(7, POST, end=False)
    assert client.got.goaways == [(3, Code.PROTOCOL_ERROR)]


def test_tunnels_are_offered_only_when_asked_for():
    tunnel = [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]]
    client = Client(tunnels=True)
    assert client.got.settings[8] == 1
    client.request(1, tunnel, end=False)
    assert stream_of(client).head.protocol == b"websocket"
    assert stream_of(client).head.refused is None


# -- connections that break -------------------------------------------------------------------------------------------------

VIOLATIONS = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b" " * 10, Code.PROTOCOL_ERROR),
    "no SETTINGS": (PREFACE + PingFrame(0, b"12345678").serialize(), Code.PROTOCOL_ERROR),
    "an even stream": (PREFACE + EMPTY_SETTINGS.serialize() + b"\0\0\1\1\5\0\0\0\2\x82", Code.PROTOCOL_ERROR),
    "DATA on an idle stream": (PREFACE + EMPTY_SETTINGS.serialize() + b"\0\0\1\0\0\0\0\0\1x", Code.PROTOCOL_ERROR),
    "a frame too large": (
        PREFACE + EMPTY_SETTINGS.serialize() + b"\0\x40\1\6\0\0\0\0\0" + b"x" * 16385,
        Code.FRAME_SIZE_ERROR,
    ),
    "bad compression": (
        PREFACE + EMPTY_SETTINGS.serialize() + b"\0\0\3\1\5\0\0\0\1\xff\xff\xff",
        Code.COMPRESSION_ERROR,
    ),
    "PRIORITY on itself": (
        PREFACE + EMPTY_SETTINGS.serialize() + PriorityFrame(1, depends_on=1).serialize(),
        Code.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_breaks_the_protocol_is_told_and_left(name, whole):
    data, code = VIOLATIONS[name]
    client = Client(greet=False)
    for piece in [data] if whole else [data[at : at + 1] for at in range(len(data))]:
        client.send_at_once(piece)
    assert client.got.goaways[-1][1] == code
    assert client.session.over
    assert client.session.broken is not None
    assert not client.session.receive(b"more", 1.0)


def test_calls_under_way_hear_that_the_connection_broke():
    client = Client()
    client.request(headers=POST, end=False)
    client.send(b"\0\0\1\0\0\0\0\0\7x")
    assert client.told.of("reset") == [("reset", 1, "the client broke HTTP/2: PROTOCOL_ERROR: DATA: stream in idle")]
    assert not client.session.streams


def test_a_bug_of_whoever_is_told_ends_the_connection_not_the_process():
    told = Told()
    client = Client(told)

    def fail(stream: object) -> None:
        raise ZeroDivisionError("oh")

    told.on_request = fail  # type: ignore[method-assign]
    client.request()
    assert client.session.broken == "ZeroDivisionError: oh"
    assert client.got.goaways == [(1, Code.INTERNAL_ERROR)]


# -- floods -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, b"12345678"),
        SettingsFrame(0),
        SettingsFrame(0, settings={4: 65535}),
        PriorityFrame(1, depends_on=3),
        WindowUpdateFrame(0, window_increment=1),
        ExtensionFrame(0xF0, 0),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_a_flood_of_frames_that_carry_nothing_ends_the_connection(frame):
    client = Client()
    for _ in range(30):
        client.send(frame.serialize() * 100)
    assert client.got.goaways[-1][1] == Code.ENHANCE_YOUR_CALM


def test_as_many_frames_over_a_long_time_are_no_flood():
    client = Client()
    for second in range(100):
        client.now = float(second)
        client.send(PingFrame(0, b"12345678").serialize() * 50)
    assert client.session.broken is None
    assert len(client.got.pings) == 5000


def test_a_flood_of_continuations_ends_the_connection():
    client = Client()
    client.send(HeadersFrame(1, client.encoder.encode(GET)))
    for _ in range(20):
        client.send(ContinuationFrame(1, b""))
    assert client.session.broken is not None


def test_rapid_resets_end_the_connection():
    client = Client()
    for number in range(1, 1001, 2):
        client.send(client.head(number, POST, False), RstStreamFrame(number, error_code=8))
        if client.session.over:
            break
    assert number == 499  # half of 500, whatever would follow
    assert client.got.goaways == [(499, Code.ENHANCE_YOUR_CALM)]
    assert len(client.told.of("reset")) == 250


def test_malformed_requests_are_counted_as_resets_are():
    client = Client()
    for number in range(1, 1001, 2):
        client.request(number, [*GET, ("te", "gzip")])
    assert client.got.goaways[-1][1] == Code.ENHANCE_YOUR_CALM


def test_a_client_that_has_had_most_of_its_responses_may_give_up_others():
    client = Client()
    number = 1
    for _ in range(400):
        for resets in (False, False, False, True):
            client.request(number, POST, end=not resets)
            if resets:
                client.reset(number)
            else:
                client.session.respond(stream_of(client, number), OK, True)
            number += 2
            client.read()
    assert client.session.broken is None


def test_a_stream_that_was_given_time_is_not_given_up_at_once():
    client = Client()
    for number in range(1, 1201, 2):
        client.request(number, POST, end=False)
        client.now += 1.5
        client.reset(number)
    assert client.session.broken is None


def test_a_reset_that_crosses_the_end_of_the_response_is_none_at_once():
    client = Client()
    for number in range(1, 1201, 2):
        client.request(number)
        client.session.respond(stream_of(client, number), OK, True)
        client.reset(number)
    assert client.session.broken is None


def test_more_work_than_is_done_at_once_is_left_for_the_next_call():
    client = Client(max_streams=2000)
    client.send(b"".join(client.head(number, GET).serialize() for number in range(1, 1401, 2)))
    assert client.behind
    assert len(client.told.calls) == 512
    client.send_at_once(b"")
    assert not client.behind
    assert len(client.told.calls) == 700


@given(st.binary(max_size=400), st.integers(1, 50), st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_that_a_client_sends_raises(data, cut, greets):
    client = Client()
    if greets:
        client.request(1, POST, end=False)
    for at in range(0, len(data), cut):
        client.session.receive(data[at : at + cut], 0.0)
    with contextlib.suppress(Exception):  # the reader of the test, not the server
        client.read()
    assert client.session.broken is None or client.session.over


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 6), st.binary(max_size=40)), max_size=12)
)
@settings(max_examples=200, deadline=None)
def test_no_order_of_frames_raises(frames):
    client = Client()
    for kind, flags, stream, payload in frames:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        client.session.receive(head + payload, 0.0)
        client.session.outgoing()
    assert len(client.session.streams) <= MAX_STREAMS
