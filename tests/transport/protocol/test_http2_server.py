"""The server's side of HTTP/2 without I/O: against honest clients, h2's client in random order, and hostile clients."""

from __future__ import annotations

import contextlib
import re

import h2.config
import h2.connection
import h2.events
import ngh2
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.transport.protocol.http2_client_frames import PREFACE
from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.http2_response import response_head
from meshlib.transport.protocol.http2_server import ServerSession
from meshlib.transport.protocol.http2_server_limits import MAX_STREAMS, UNWRITTEN
from meshlib.transport.protocol.request_head import IN_VALUES
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.http2_client import GET, POST, Client, Told

OK = response_head(200, [])
EMPTY_SETTINGS = SettingsFrame(0)


def stream_of(client: Client, number: int = 1):
    return client.told.streams[number]


# -- requests and responses ---------------------------------------------------------------------------------------------


def test_a_server_says_what_it_takes():
    client = Client()
    assert client.got.settings == {1: 4096, 3: 1024, 4: 262144, 5: 16384, 6: 61440}
    assert client.got.windows == [(0, 16 * 1024 * 1024 - 65535)]
    assert Client(connection_window=65535).got.windows == []


def test_a_request_without_a_body_is_over_with_its_head():
    client = Client()
    client.request(headers=[*GET, ("x-request-id", "1")])
    assert client.told.calls == [("request", 1, True)]
    head = stream_of(client).head
    assert (head.method, head.target, head.authority) == (b"GET", b"/", b"reviews")
    client.session.respond(stream_of(client), OK, True)
    client.read()
    assert client.got.heads == {1: [[(":status", "200")]]}
    assert client.got.ended == [1]
    assert not client.session.streams


def test_bodies_and_trailers_go_both_ways():
    client = Client()
    client.request(headers=POST, end=False)
    client.data(1, b"hello")
    client.send(client.head(1, [("checksum", "1")]))
    assert client.told.calls == [
        ("request", 1, False),
        ("body", 1, b"hello"),
        ("trailers", 1, [(b"checksum", b"1")]),
        ("end", 1),
    ]
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    assert session.send(stream, b"world", False) == 5
    session.trailers(stream, [(b"grpc-status", b"0")])
    client.read()
    assert client.got.heads[1] == [[(":status", "200")], [("grpc-status", "0")]]
    assert client.got.bodies == {1: b"world"}
    assert client.got.ended == [1]


def test_a_response_without_trailers_may_end_by_itself():
    client = Client()
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    session.trailers(stream, [])
    client.read()
    assert client.got.ended == [1]


def test_the_last_piece_of_a_body_ends_the_response():
    client = Client()
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    assert session.send(stream, b"all", True) == 3
    client.read()
    assert (client.got.bodies, client.got.ended) == ({1: b"all"}, [1])


@pytest.mark.skipif(PLAIN, reason="a shortcut")
@pytest.mark.parametrize("trailers", [[(b"grpc-status", b"0")], []])
def test_a_response_that_is_all_here_is_one_command(trailers):
    client = Client()
    client.request()
    session, stream = client.session, stream_of(client)
    assert session.respond_whole(stream, OK, b"all", trailers)
    assert not session.respond_whole(stream, OK, b"again", trailers)
    client.read()
    assert client.got.heads[1] == [[(":status", "200")], *([("grpc-status", "0")] for _ in trailers)]
    assert (client.got.bodies, client.got.ended, session.streams) == ({1: b"all"}, [1], {})


def test_a_response_that_is_all_here_and_larger_than_what_is_taken_at_once_is_left_to_the_other_commands():
    client = Client()
    client.request(1)
    client.request(3)
    session, stream, other = client.session, stream_of(client), stream_of(client, 3)
    assert not session.respond_whole(stream, OK, b"x" * 65_536, [])  # than the window of its stream
    session.respond(other, OK, False)
    assert session.send(other, b"x" * 65_000, True) == 65_000
    assert not session.respond_whole(stream, OK, b"x" * 536, [])  # than what others have left of the connection's
    client.read()
    client.send(WindowUpdateFrame(0, window_increment=1 << 20), SettingsFrame(0, settings={4: 1 << 20}))
    assert not session.respond_whole(stream, OK, b"x" * 65_537, [])  # than its turn
    session.set_writable(False)
    assert not session.respond_whole(stream, OK, b"x", [])  # than the socket takes
    session.set_writable(True)
    session.respond(stream, OK, False)  # nothing has been said of it so far
    assert session.send(stream, b"all", True) == 3
    client.read()
    assert (client.got.heads[1], client.got.bodies[1]) == ([[(":status", "200")]], b"all")


def test_interim_heads_come_before_the_response():
    client = Client()
    client.request(headers=POST, end=False)
    session, stream = client.session, stream_of(client)
    session.interim(stream, response_head(100, []))
    session.respond(stream, OK, False)
    session.interim(stream, response_head(103, []))
    client.read()
    assert client.got.heads[1] == [[(":status", "100")], [(":status", "200")]]


def test_a_response_may_go_while_the_request_still_comes():
    client = Client()
    client.request(headers=POST, end=False)
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    for piece in (b"1", b"2", b"3"):
        client.data(1, piece)
        session.send(stream, b"echo " + piece, False)
    client.data(1, b"", end=True)
    session.end(stream)
    client.read()
    assert client.got.bodies == {1: b"echo 1echo 2echo 3"}
    assert client.told.of("end") == [("end", 1)]


def test_a_response_that_is_over_before_its_request_tells_the_client_to_stop():
    client = Client()
    client.request(headers=POST, end=False)
    client.session.respond(stream_of(client), response_head(413, []), True)
    client.read()
    assert client.got.ended == [1]
    assert client.got.resets == {1: Code.NO_ERROR}
    client.data(1, b"still on its way", end=True)
    assert client.session.broken is None
    assert client.told.of("body") == []


def test_commands_for_a_stream_that_is_over_do_nothing():
    client = Client()
    client.request(headers=POST, end=False)
    session, stream = client.session, stream_of(client)
    client.reset(1)
    session.interim(stream, response_head(100, []))
    session.respond(stream, OK, False)
    assert session.send(stream, b"x", True) == 0
    session.end(stream)
    session.trailers(stream, [(b"a", b"b")])
    session.reset(stream)
    session.consumed(stream, 5)
    client.read()
    assert client.got.heads == {}
    assert client.told.of("reset") == [("reset", 1, "the client reset the stream (CANCEL)")]


def test_a_response_has_one_head():
    client = Client()
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    session.respond(stream, response_head(500, []), True)
    session.end(stream)
    client.read()
    assert client.got.heads == {1: [[(":status", "200")]]}


def test_one_write_for_all_that_came_together():
    told = Told()
    client = Client(told)
    session = client.session
    told.on_request = lambda stream: session.respond(stream, OK, True)  # type: ignore[method-assign]
    session.receive(b"".join(client.head(number, GET).serialize() for number in (1, 3, 5)), 0.0)
    written = session.outgoing()
    assert written.count(b"\0\0\x01\x01\x05") == 3  # HEADERS of one byte, which end their streams
    assert session.outgoing() == b""


# -- flow control ---------------------------------------------------------------------------------------------------------


def test_a_body_waits_for_the_window_of_its_stream():
    client = Client()
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    body = b"x" * 100_000
    sent = session.send(stream, body, True)
    assert sent == 65535
    assert session.send(stream, body[sent:], True) == 0
    client.send(WindowUpdateFrame(0, window_increment=100_000))
    assert session.send(stream, body[sent:], True) == 0
    client.send(WindowUpdateFrame(1, window_increment=100_000))
    assert client.told.of("room")[-1] == ("room", 1)
    assert session.send(stream, body[sent:], True) == len(body) - sent
    client.read()
    assert len(client.got.bodies[1]) == len(body)
    assert client.got.ended == [1]


def test_streams_share_the_window_of_the_connection():
    client = Client()
    client.request(1)
    client.request(3)
    session = client.session
    for number in (1, 3):
        session.respond(stream_of(client, number), OK, False)
    assert session.send(stream_of(client, 1), b"x" * 40_000, False) == 40_000
    assert session.send(stream_of(client, 3), b"x" * 40_000, False) == 25_535
    assert session.send(stream_of(client, 3), b"x", False) == 0
    client.send(SettingsFrame(0, settings={4: 10}))
    assert client.told.of("room") == [("room", 3)]


def test_no_stream_takes_more_than_its_turn():
    client = Client()
    client.send(WindowUpdateFrame(0, window_increment=1 << 20), SettingsFrame(0, settings={4: 1 << 20}))
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    assert session.send(stream, b"x" * 100_000, True) == 65536
    assert session.send(stream, b"x" * 34_464, True) == 34_464


def test_while_the_socket_takes_nothing_no_body_is_sent():
    client = Client()
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    session.set_writable(False)
    assert session.send(stream, b"x", True) == 0
    session.set_writable(False)
    assert client.told.of("room") == []
    session.set_writable(True)
    session.set_writable(True)
    assert client.told.of("room") == [("room", 1)]
    assert session.send(stream, b"x", True) == 1


def test_however_much_room_windows_have_only_so_much_is_made_ready_for_one_write():
    client = Client()
    client.send(SettingsFrame(0, settings={4: 1 << 24}), WindowUpdateFrame(0, 1 << 28))
    for number in range(1, 64, 2):
        client.request(number)
        client.session.respond(stream_of(client, number), OK, False)
    session, body = client.session, b"x" * (1 << 20)

    def send(stream):
        left = body[len(client.got.bodies.get(stream.id, b"")) :]
        while left and (sent := session.send(stream, left, True)):
            left = left[sent:]

    client.told.on_room = send  # type: ignore[method-assign]
    for stream in list(client.told.streams.values()):
        send(stream)
    writes = 0
    while session.holds_back:
        before = sum(map(len, client.got.bodies.values()))
        client.read()
        assert sum(map(len, client.got.bodies.values())) - before <= UNWRITTEN
        session.go_on()
        writes += 1
    client.read()
    assert writes >= (32 << 20) // UNWRITTEN
    assert {len(each) for each in client.got.bodies.values()} == {1 << 20}
    assert len(client.got.ended) == 32


def test_what_is_held_back_does_not_go_on_while_the_socket_takes_nothing():
    client = Client()
    client.send(SettingsFrame(0, settings={4: 1 << 24}), WindowUpdateFrame(0, 1 << 28))
    client.request()
    session, stream = client.session, stream_of(client)
    session.respond(stream, OK, False)
    left = UNWRITTEN + 1
    while sent := session.send(stream, b"x" * left, True):
        left -= sent
    assert (left, session.holds_back) == (1, True)
    session.set_writable(False)
    client.read()
    session.go_on()
    assert client.told.of("room") == []
    session.set_writable(True)
    assert client.told.of("room") == [("room", 1)]


def test_one_stream_of_those_woken_may_end_another():
    client = Client()
    client.request(1)
    client.request(3)
    session = client.session
    session.set_writable(False)
    for number in (1, 3):
        session.respond(stream_of(client, number), OK, False)
        session.send(stream_of(client, number), b"x", True)
    client.told.on_room = lambda stream: session.reset(stream_of(client, 4 - stream.id))  # type: ignore[method-assign]
    session.set_writable(True)
    client.read()
    assert client.got.resets == {3: Code.INTERNAL_ERROR}


def test_a_reader_that_is_behind_stops_its_own_stream_only():
    client = Client(Told(consumes=False), stream_window=70_000, connection_window=200_000)
    client.request(1, POST, end=False)
    client.request(3, POST, end=False)
    for _ in range(4):
        client.data(1, b"x" * 16_000)
    assert client.got.windows == [(0, 200_000 - 65535)]
    client.data(3, b"y" * 16_000)
    client.session.consumed(stream_of(client, 1), 64_000)
    client.read()
    assert client.got.windows[1:] == [(1, 64_000)]


def test_a_client_that_ignores_the_window_loses_its_connection():
    client = Client(Told(consumes=False), stream_window=20_000)
    client.send(SettingsFrame(0, flags=["ACK"]))
    client.request(headers=POST, end=False)
    for _ in range(2):
        client.data(1, b"x" * 16_000)
    assert client.session.broken is not None
    assert "FLOW_CONTROL_ERROR" in client.session.broken
    assert client.got.goaways == [(1, Code.FLOW_CONTROL_ERROR)]


def test_a_request_whose_trailers_its_reader_does_not_want_is_over_with_them():
    client = Client()
    client.request(headers=POST, end=False)
    client.told.on_trailers = lambda stream, trailers: client.session.reset(stream)  # type: ignore[method-assign]
    client.send(client.head(1, [("a", "b")]))
    assert client.told.of("end") == []
    assert client.got.resets == {1: Code.INTERNAL_ERROR}


def test_what_nobody_will_read_does_not_keep_the_connection_from_others():
    client = Client(Told(consumes=False), connection_window=65535)
    client.request(headers=POST, end=False)
    for _ in range(3):
        client.data(1, b"x" * 16_000)
    client.session.reset(stream_of(client), Code.CANCEL)
    client.read()
    assert client.got.windows == [(0, 48_000)]
    assert client.got.resets == {1: Code.CANCEL}


def test_padding_is_given_back():
    client = Client(connection_window=65535)
    client.request(headers=POST, end=False)
    for _ in range(200):
        client.send(DataFrame(1, b"x" * 300, flags=["PADDED"], pad_length=255))
    assert client.session.broken is None
    assert sum(size for stream, size in client.got.windows if not stream) > 65535


def test_data_for_a_stream_that_was_reset_in_the_same_batch_is_given_back():
    client = Client(connection_window=65535)
    session = client.session
    client.told.on_request = session.reset  # type: ignore[assignment]
    batch = client.head(1, POST, False).serialize()
    for _ in range(3):
        batch += DataFrame(1, b"x" * 16_000).serialize()
    client.send(batch, client.head(1, [("a", "b")]))
    assert client.got.windows == [(0, 48_000)]
    assert client.told.calls == []


LARGEST = WindowUpdateFrame(1, window_increment=2**31 - 1)


@pytest.mark.parametrize("together", [True, False])
def test_a_window_larger_than_it_may_be_ends_its_stream_only(together):
    client = Client()
    head, other = client.head(1, POST, False), client.head(3, POST, False)
    if together:
        client.send(head, other, LARGEST, LARGEST)
    else:
        client.send(head, other)
        client.send(WindowUpdateFrame(3, window_increment=2**30), LARGEST)
        client.send(LARGEST)
    assert client.got.resets == {1: Code.FLOW_CONTROL_ERROR}
    assert client.told.of("reset") == [("reset", 1, "the client made the stream's window larger than it may be")]
    assert client.session.broken is None


def test_the_window_of_the_connection_may_not_be_larger_either():
    client = Client()
    client.send(WindowUpdateFrame(0, window_increment=2**31 - 1))
    assert client.got.goaways == [(0, Code.FLOW_CONTROL_ERROR)]


def test_a_stream_that_was_never_opened_has_no_window():
    client = Client()
    client.send(LARGEST)
    assert client.got.goaways == [(0, Code.PROTOCOL_ERROR)]


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


# -- nghttp2 has other ideas -------------------------------------------------------------------------------------------------


class Failing:
    """A connection of which everything fails, as of a stream that nghttp2 has closed and not told yet."""

    remote_window_size = local_window_size = 65535

    def __getattr__(self, name: str):
        def fail(*args: object, **options: object) -> None:
            raise ngh2.StreamUnavailableError(name)

        return fail


def test_what_nghttp2_does_not_take_any_more_is_no_error(monkeypatch):
    client = Client()
    for number in (1, 3, 5):
        client.request(number, POST, end=False)
    session = client.session
    session._connection = Failing()  # type: ignore[assignment]
    first = stream_of(client, 1)
    session.interim(first, OK)
    session.respond(first, OK, False)
    assert session.send(first, b"x", True) == 0
    assert not session.respond_whole(stream_of(client, 3), OK, b"x", [(b"a", b"b")])
    session.consumed(first, 0)
    first.unread = 4
    session.trailers(first, [(b"a", b"b")])
    session.end(stream_of(client, 3))
    session.reset(stream_of(client, 5))
    session.drain()
    session.drained()
    assert session.outgoing() == b""
    session.close("over")
    assert session.outgoing() == b"\0\0\x08\x07\0\0\0\0\0\0\0\0\5\0\0\0\0"


def test_what_nghttp2_cannot_read_any_more_ends_nothing_else():
    client = Client()

    class Closed(Failing):
        def receive_data(self, data: bytes) -> None:
            raise ngh2.ConnectionStateError("closed")

    client.session._connection = Closed()  # type: ignore[assignment]
    assert not client.session.receive(b"x", 0.0)
    assert client.session.broken is None


# -- h2's client, in random order -------------------------------------------------------------------------------------------


class Echo(Told):
    """Sends back what it gets, as windows allow."""

    def on_request(self, stream):
        stream.owner = bytearray()
        assert self.session is not None
        self.session.respond(stream, OK, False)
        if stream.request_over:
            self.on_end(stream)

    def on_body(self, stream, data):
        stream.owner += data
        self.on_room(stream)

    def on_end(self, stream):
        self.on_room(stream)

    def on_room(self, stream):
        assert self.session is not None
        while stream.owner:
            sent = self.session.send(stream, bytes(stream.owner), False)
            if not sent:
                return
            self.session.consumed(stream, sent)
            del stream.owner[:sent]
        if stream.request_over:
            self.session.trailers(stream, [(b"grpc-status", b"0")])


@given(
    bodies=st.lists(st.lists(st.integers(0, 20_000), max_size=3), min_size=1, max_size=4),
    cut=st.integers(300, 20_000),
    resets=st.sets(st.integers(0, 3)),
    window=st.integers(5_000, 100_000),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_mix_of_streams_is_echoed_whole(bodies, cut, resets, window):
    told = Echo()
    session = told.session = ServerSession(told, 0.0)
    config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
    client = h2.connection.H2Connection(config)
    client.local_settings.initial_window_size = window
    client.local_settings.acknowledge()
    client.initiate_connection()
    got: dict[int, bytearray] = {}
    trailers: set[int] = set()
    left = {2 * index + 1: b"".join(bytes([65 + index]) * size for size in sizes) for index, sizes in enumerate(bodies)}
    sent = dict(left)

    def move() -> None:
        data = client.data_to_send()
        for at in range(0, len(data), cut):
            session.receive(data[at : at + cut], 0.0)
        out = session.outgoing()
        for at in range(0, len(out), cut):
            for event in client.receive_data(out[at : at + cut]):
                if isinstance(event, h2.events.DataReceived):
                    got[event.stream_id] += event.data
                    client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.TrailersReceived):
                    trailers.add(event.stream_id)

    for number in sent:
        got[number] = bytearray()
        client.send_headers(number, POST)
    for turn in range(300):
        for number, body in list(left.items()):
            if turn == 1 and number // 2 in resets:
                client.reset_stream(number)
                del left[number], sent[number]
                continue
            room = min(client.local_flow_control_window(number), client.max_outbound_frame_size, len(body))
            client.send_data(number, body[:room], end_stream=room == len(body))
            left[number] = body[room:]
            if not left[number]:
                del left[number]
        move()
        assert session.broken is None
        if trailers.issuperset(sent):
            break
    assert {number: bytes(got[number]) for number in sent} == sent
    assert not session.streams


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


@pytest.mark.skipif(PLAIN, reason="then it is told in pieces")
def test_a_request_that_comes_with_its_end_is_told_at_once_and_takes_no_window():
    class Whole(Told):
        def on_whole(self, stream, data):
            self.calls.append(("whole", stream.id, data, stream.request_over, stream.unread))
            assert self.session is not None
            self.session.consumed(stream, len(data))
            assert stream.unread == 0
            self.session.respond(stream, OK, True)

    client = Client(Whole(), connection_window=65535, stream_window=65535)
    for number in range(1, 41, 2):
        head, body = client.head(number, POST, end=False), DataFrame(number, b"x" * 10_000, flags=["END_STREAM"])
        client.send(head, body)
    assert client.told.calls == [("whole", number, b"x" * 10_000, True, 10_000) for number in range(1, 41, 2)]
    assert client.session.broken is None
    assert client.session.streams == {}


def test_one_whose_body_is_empty_or_goes_on_is_told_in_pieces():
    client = Client(Told())
    client.send(client.head(1, POST, end=False), DataFrame(1, b"", flags=["END_STREAM"]))
    client.send(client.head(3, POST, end=False), DataFrame(3, b"some"))
    assert client.told.calls == [("request", 1, False), ("end", 1), ("request", 3, False), ("body", 3, b"some")]
