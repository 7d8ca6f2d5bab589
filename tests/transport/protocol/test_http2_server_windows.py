"""The server's side of HTTP/2 without I/O: windows, turns, and readers and clients that are behind."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, SettingsFrame, WindowUpdateFrame

from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.http2_response import response_head
from meshlib.transport.protocol.http2_server_limits import UNWRITTEN
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.http2_client import GET, POST, Client, Told

OK = response_head(200, [])
EMPTY_SETTINGS = SettingsFrame(0)


def stream_of(client: Client, number: int = 1):
    return client.told.streams[number]


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


@pytest.mark.skipif(PLAIN, reason="a shortcut")
def test_a_response_that_is_all_here_fits_into_the_first_window_that_the_client_has_set_last():
    client = Client()
    session = client.session
    client.send(SettingsFrame(0, settings={4: 2}))
    client.request()
    assert not session.respond_whole(stream_of(client), OK, b"all", [])
    client.send(WindowUpdateFrame(1, window_increment=1))
    assert session.respond_whole(stream_of(client), OK, b"all", [])
    client.send(SettingsFrame(0, settings={3: 100}), client.head(3, GET))
    assert not session.respond_whole(stream_of(client, 3), OK, b"all", [])
    client.send(SettingsFrame(0, settings={4: 3}))
    assert session.respond_whole(stream_of(client, 3), OK, b"all", [])


@pytest.mark.skipif(PLAIN, reason="a shortcut")
def test_a_window_that_was_made_smaller_and_has_not_been_told_of_counts():
    client = Client()
    taken = []

    class Answering(Told):
        def on_request(self, stream):
            taken.append(client.session.respond_whole(stream, OK, b"all", []))

    client.session._sink = Answering()
    client.send(client.head(1, GET), SettingsFrame(0, settings={4: 2}))
    assert taken == [False]


@pytest.mark.skipif(PLAIN, reason="a shortcut")
def test_bodies_that_a_smaller_window_holds_back_count_when_they_are_written_later():
    client = Client()
    session = client.session
    client.send(*[client.head(number, GET) for number in (1, 3, 5)])
    for number in (1, 3, 5):
        assert session.respond_whole(stream_of(client, number), OK, b"x" * 16_000, [])
    client.send(SettingsFrame(0, settings={4: 0}))  # before they are written

    class Answering(Told):
        def on_request(self, stream):
            session.respond_whole(stream, OK, b"x" * 9_000, [])

    session._sink = Answering()
    client.send(SettingsFrame(0, settings={4: 65535}), *[client.head(number, GET) for number in range(7, 21, 2)])
    assert sum(map(len, client.got.bodies.values())) == 65535
    assert session._connection.remote_window_size == 0
    assert session._least <= 0


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
