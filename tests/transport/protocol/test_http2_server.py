"""The server's side of HTTP/2 without I/O: requests and responses, and h2's client in random order."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import ngh2
import pytest
from hyperframe.frame import DataFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.http2_response import response_head
from meshlib.transport.protocol.http2_server import ServerSession
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


def test_streams_that_are_told_of_after_the_connection_was_closed_end_with_their_response():
    class Closing(Told):
        def on_request(self, stream):
            super().on_request(stream)
            if stream.id == 3:
                client.session.close("enough")
            elif not client.session.respond_whole(stream, OK, b"x" * 9, []):
                client.session.respond(stream, OK, True)

    client = Client(Closing())
    client.request(1)
    client.send(*[client.head(number, GET) for number in (3, 5, 7)])
    assert len(client.told.of("request")) == 4
    assert not client.session.streams


def test_one_write_for_all_that_came_together():
    told = Told()
    client = Client(told)
    session = client.session
    told.on_request = lambda stream: session.respond(stream, OK, True)  # type: ignore[method-assign]
    session.receive(b"".join(client.head(number, GET).serialize() for number in (1, 3, 5)), 0.0)
    written = session.outgoing()
    assert written.count(b"\0\0\x01\x01\x05") == 3  # HEADERS of one byte, which end their streams
    assert session.outgoing() == b""


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
            if stream.unread:  # what is told at once is given back already
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


@pytest.mark.skipif(PLAIN, reason="then it is told in pieces")
def test_a_request_that_comes_with_its_end_is_told_at_once_and_takes_no_window():
    class Whole(Told):
        def on_whole(self, stream, data):
            self.calls.append(("whole", stream.id, data, stream.request_over, stream.unread))
            assert self.session is not None
            self.session.respond(stream, OK, True)

    client = Client(Whole(), connection_window=65535, stream_window=65535)
    for number in range(1, 41, 2):
        head, body = client.head(number, POST, end=False), DataFrame(number, b"x" * 10_000, flags=["END_STREAM"])
        client.send(head, body)
    assert client.told.calls == [("whole", number, b"x" * 10_000, True, 0) for number in range(1, 41, 2)]
    assert client.session.broken is None
    assert client.session.streams == {}


def test_streams_that_have_ended_well_wait_for_nobody_and_others_are_told():
    client = Client(Told())
    for number in (1, 3, 5):
        client.send(client.head(number, POST))
    session, streams = client.session, dict(client.session.streams)
    for number in (1, 3):
        session.respond(streams[number], OK, True)
    session.outgoing()
    assert not session._events
    session._events.append(ngh2.events.StreamClosed(5, Code.PROTOCOL_ERROR, None))
    session.outgoing()
    client.send(b"")
    assert client.told.calls[-1][:2] == ("reset", 5)


def test_one_whose_body_is_empty_or_goes_on_is_told_in_pieces():
    client = Client(Told())
    client.send(client.head(1, POST, end=False), DataFrame(1, b"", flags=["END_STREAM"]))
    client.send(client.head(3, POST, end=False), DataFrame(3, b"some"))
    assert client.told.calls == [("request", 1, False), ("end", 1), ("request", 3, False), ("body", 3, b"some")]


@pytest.mark.parametrize("read", [True, False], ids=["and the client reads on", "and the client says nothing more"])
def test_of_streams_that_ended_without_an_error_before_their_time_nothing_is_left(read):
    """A response that is over before its request, and a client that has enough of one: as many as they like of each."""
    client = Client()
    session = client.session
    for number in range(1, 40, 4):
        client.request(number, headers=POST, end=False)
        session.respond(stream_of(client, number), response_head(413, []), True)
        client.request(number + 2, headers=POST, end=False)
        session.respond(stream_of(client, number + 2), OK, False)
        client.reset(number + 2, Code.NO_ERROR)
        client.read()
        if read:
            client.send(b"")
    assert session.broken is None
    assert not session.streams
    assert not session._resets
