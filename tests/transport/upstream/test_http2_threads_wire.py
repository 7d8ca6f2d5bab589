"""What goes over an HTTP/2 connection that threads share, and how it ends: against frames from the other end of a socket."""

from __future__ import annotations

import socket

import httpx
import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, RstStreamFrame

from meshlib.engine.outcome import Failure
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_threads_wire import UNUSED_SECONDS, Wire
from meshlib.transport.upstream.target import Target
from tests.support.h2_frames import HEAD, SETTINGS, frames_of, response_head


class WaitedFor(ClientLimits):
    """Somebody stands in line."""

    waited_for = True


class Pool:
    """A ``Keeper`` of one connection, ready for use, with its server at ``far``."""

    def __init__(self, limits: ClientLimits | None = None) -> None:
        self.at = 100.0
        self.now = lambda: self.at
        self.over: list[Wire] = []
        ours, self.far = socket.socketpair()
        self.far.settimeout(60)
        self.wire = Wire(ours, Target("127.0.0.1", 80, http2=True, limits=limits), self)
        self.comes(SETTINGS)
        self.heard()

    def gone(self, connection: Wire) -> None:
        self.over.append(connection)

    def too_many_idle(self, limits: ClientLimits) -> bool:
        return False

    def comes(self, data: bytes) -> None:
        self.far.sendall(data)
        self.wire._pump()
        self.wire._flush()

    def open(self) -> Stream:
        stream = self.wire.session.open(HEAD, True, False, lambda: None)
        assert stream is not None
        self.wire.requests += 1
        self.wire._flush()
        self.heard()
        return stream

    def heard(self) -> list:
        """What the server has been sent."""
        return frames_of(self.far.recv(65536))


@pytest.fixture
def pool():
    made = Pool()
    yield made
    made.wire.mesh_closed()
    made.far.close()


def test_what_comes_is_read_and_what_it_asks_for_is_written(pool):
    assert (pool.wire.idle, pool.wire.usable) == (True, True)
    stream = pool.open()
    assert not pool.wire.idle
    pool.comes(PingFrame(0, b"12345678").serialize() + response_head(1) + DataFrame(1, b"ok").serialize())
    assert (stream.status, pool.wire.session.take(stream)) == (200, b"ok")
    (ping,) = pool.heard()
    assert (type(ping), ping.flags) == (PingFrame, {"ACK"})


def test_one_that_is_to_go_says_goodbye_when_its_last_stream_is_over(pool):
    pool.open()
    pool.wire.retire()
    assert (pool.wire.usable, pool.wire.closed) == (False, False)
    pool.comes(response_head(1, "END_STREAM"))
    pool.wire.retire()
    assert (pool.wire.closed, pool.over) == (True, [pool.wire])
    assert [type(frame) for frame in pool.heard()] == [GoAwayFrame]
    assert pool.far.recv(1) == b""


def test_a_server_that_is_gone_fails_its_streams_and_is_told_of_once(pool):
    stream = pool.open()
    pool.far.close()
    pool.wire._pump()
    pool.wire._pump()
    assert (stream.failed.failure, pool.wire.usable) == (Failure.RESET, False)
    assert pool.over == [pool.wire]


def test_cancelling_tells_the_server_and_dropping_does_when_the_lock_is_free(pool):
    first, second = pool.open(), pool.open()
    pool.wire.cancel(first)
    (reset,) = pool.heard()
    assert (type(reset), reset.stream_id) == (RstStreamFrame, first.id)
    with pool.wire._lock:
        pool.wire.drop(second)
        assert second.failed is None  # whoever holds the lock sees to it
    pool.wire._tidy()
    assert [frame.stream_id for frame in pool.heard()] == [second.id]
    assert pool.wire.idle


def test_with_the_mesh_its_calls_end_too(pool):
    stream = pool.open()
    pool.wire.mesh_closed()
    assert (stream.failed.failure, pool.wire.closed) == (Failure.CLOSED, True)


@pytest.mark.parametrize("late", [False, True])
def test_its_slot_goes_back_when_it_closes_and_at_once_if_it_is_closed(pool, late):
    slots = Slots(1)
    assert slots.try_acquire()
    if not late:
        pool.wire.take_slot(slots)
        assert slots.in_use == 1
    pool.wire.retire()
    if late:
        pool.wire.take_slot(slots)
    pool.wire.retire()
    assert slots.in_use == 0


def test_somebody_in_line_gets_an_idle_one_closed_but_none_that_waits_for_its_first_call():
    pool = Pool(WaitedFor(httpx.Limits(max_connections=1)))
    pool.wire._tidy()
    assert not pool.wire.closed
    pool.at += UNUSED_SECONDS
    pool.wire._tidy()
    assert pool.wire.closed
    pool.far.close()


def test_in_a_forked_child_the_peer_hears_nothing(pool):
    stream = pool.open()
    pool.wire._pid -= 1
    pool.wire.drop(stream)
    pool.wire.cancel(stream)
    pool.wire.forget()
    assert pool.wire.closed
    assert pool.far.recv(1) == b""
