"""What both sides of a connection over HTTP/2 have of nghttp2."""

from __future__ import annotations

import ngh2
import pytest
from ngh2.events import ConnectionClosed

from meshlib.transport.protocol.http2_codec import Code, Violation
from meshlib.transport.protocol.ngh2_connection import GOAWAY, Ngh2Connection, closed_by
from meshlib.transport.protocol.shortcuts import PLAIN

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def server():
    connection = ngh2.Connection(ngh2.Role.SERVER)
    connection.initiate_connection()
    return Ngh2Connection(connection)


def test_what_is_said_is_written_once():
    made = server()
    assert made._said()[3:4] == b"\4"  # SETTINGS
    assert made._said() == b""
    for flushed in (False, True):
        assert made._read(SETTINGS if flushed else PREFACE + SETTINGS, None) is None
        if flushed:
            made._flush()
        assert made._said() == b"\0\0\0\4\1\0\0\0\0"  # its acknowledgement


def test_what_is_read_is_told_and_what_breaks_http2_is_returned():
    made = server()
    assert made._read(PREFACE + SETTINGS, None) is None
    assert [type(event).__name__ for event in made._events] == ["SettingsReceived"]
    assert isinstance(server()._read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None), Violation)


def test_what_it_has_been_given_is_no_longer_promised_when_it_is_written():
    made = server()
    for written in (made._flush, made._said):
        made._fresh, made._promised = 7, 9
        written()
        assert (made._fresh, made._promised) == (0, 0)


class Window:
    """A connection that has nothing to write. ``asked``: how often for its window."""

    want_read, want_write = True, False

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked = 0

    @property
    def remote_window_size(self) -> int:
        self.asked += 1
        return self.size


@pytest.mark.parametrize("written", ["_flush", "_said"])
def test_a_window_that_had_room_is_not_asked_again_until_that_was_written(written):
    made = Ngh2Connection(window := Window(100))
    assert [made._fits(size) for size in (60, 100, 1)] == [True, True, True]
    assert window.asked == 1
    assert not made._fits(101)
    made._promised = 60
    getattr(made, written)()
    window.size, window.asked = 45, 0  # more is under way that was not promised
    assert (made._fits(40), window.asked) == (True, 0)
    assert (made._fits(46), window.asked) == (False, 1)
    window.size = 1000
    assert made._fits(46)


def test_once_the_peer_has_made_windows_smaller_the_window_is_always_asked():
    """As nghttp2 may have bodies to write then that are promised no more."""
    made = Ngh2Connection(window := Window(100))
    first = ngh2.Setting.INITIAL_WINDOW_SIZE
    for settings in ({}, {first: 70_000}, {first: 70_000}):
        made._set({**settings})
        assert made._fits(60)
    assert (window.asked, made._first_window) == (1, 70_000)
    made._set({first: 69_999})
    for _ in range(2):
        assert [made._fits(60), made._fits(101), made._least] == [True, False, 0]
    assert (window.asked, made._first_window) == (5, 69_999)


def test_goodbye_is_said_once_nghttp2_has_no_connection_any_more_too():
    made = server()
    assert made._read(PREFACE + SETTINGS, None) is None
    for _ in range(2):
        made._out.clear()
        made._say_goodbye(Code.ENHANCE_YOUR_CALM, 5)
        assert made._said().endswith(GOAWAY + b"\0\0\0\5" + b"\0\0\0\x0b")
        made._connection.events()


def test_why_it_was_closed_is_said_in_words_and_was_said_to_the_peer():
    violation = closed_by(ConnectionClosed(1, b"why"))
    assert (str(violation), violation.code) == ("PROTOCOL_ERROR: why", None)


@pytest.mark.skipif(PLAIN, reason="a shortcut")
@pytest.mark.parametrize("waiting", [True, False])
def test_while_something_waits_to_be_told_nothing_is_told_before_it(waiting):
    class Looked(Ngh2Connection):
        looks = 0

        def _rows(self, told, sink):
            self.looks += 1
            return told

    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection()
    made = Looked(server()._connection)
    made._read(client.data_to_send(), None)
    client.receive_data(made._said())
    made._read(client.data_to_send(), None)  # its acknowledgement
    if not waiting:
        made._events.clear()
    before, made.looks = list(made._events), 0
    assert bool(before) is waiting
    head = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
    for _ in range(3):
        client.send_request(head, end_stream=True)
    made._read(client.data_to_send(), None)
    assert made.looks == (0 if waiting else 2)
    assert [*made._events][: len(before)] == before
    assert len(made._events) == len(before) + 3


def test_what_belongs_to_a_stream_is_told_together_in_its_order():
    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection()
    made = server()
    made._read(client.data_to_send(), None)
    made._flush()
    client.receive_data(made._said())
    made._read(client.data_to_send(), None)  # its acknowledgement
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
    numbers = [client.send_request(head) for _ in range(3)]
    for number in numbers:
        client.send_data(number, b"x", end_stream=True)
    made._events.clear()
    made._read(client.data_to_send(), None)  # three heads, then three bodies
    told = [(type(event).__name__, event.stream_id) for event in made._events if hasattr(event, "stream_id")]
    if not PLAIN:
        assert told == [(name, number) for number in numbers for name in ("RequestReceived", "DataReceived")]
    assert sorted(told, key=lambda each: each[1]) == [
        (name, number) for number in numbers for name in ("RequestReceived", "DataReceived")
    ]
