"""The HTTP/2 session without I/O: against h2's own server side in memory, and in random order."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, SettingsFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http2 import CONNECTION_WINDOW, Http2Session
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.http2_pair import CODES, HEAD, OK, SETTINGS, Pair, headers_frame

pytestmark = pytest.mark.usefixtures("codec")


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
