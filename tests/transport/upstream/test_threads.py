"""The connections of blocking clients: which is lent, which is kept, which goes, and when none is made any more."""

from __future__ import annotations

import socket

import httpx
import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.threads import SWEEP_SECONDS, SyncUpstream
from meshlib.transport.upstream.threads_connection import Connection
from tests.support.evil_server import OK, EvilServer
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def upstream(clock):
    names = Names(clock)
    made = SyncUpstream(clock, names)
    yield made
    made.close()
    names.close()


@pytest.fixture
def server():
    with EvilServer([OK]) as made:
        yield made


def call(upstream: SyncUpstream, target: Target) -> Outcome:
    outcome = upstream.send(Attempt(b"GET", b"/", [(b"Host", b"a")], None, target, 10.0))
    if outcome.body is not None:
        assert b"".join(outcome.body) == b"ok"
    return outcome


def keep(upstream: SyncUpstream, target: Target) -> socket.socket:
    """The far end of a connection that has just carried a call."""
    ours, far = socket.socketpair()
    far.settimeout(60)
    connection = Connection(ours, target, upstream)
    connection.requests = 1
    connection.reader.begin(False)
    connection.reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    upstream.give_back(connection, upstream.now())
    return far


def closed(far: socket.socket) -> bool:
    far.setblocking(False)
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:  # with something unread
        return True


def test_one_call_after_the_other_goes_over_one_connection_as_long_as_it_is_good(upstream, server, clock):
    target = Target("127.0.0.1", server.port, idle_timeout=60.0)
    for _ in range(3):
        assert call(upstream, target).status == 200
        clock.advance(59.0)
    assert server.connections == 1
    clock.advance(1.0)
    assert call(upstream, target).status == 200
    assert (server.connections, upstream.idle_connections()) == (2, 1)


def test_one_that_has_carried_its_share_is_not_kept(upstream, server):
    target = Target("127.0.0.1", server.port, max_requests=2)
    for connections in (1, 1, 2):
        assert call(upstream, target).status == 200
        assert server.connections == connections


def test_one_on_which_something_came_while_it_was_idle_is_not_used(upstream, server):
    target = Target("127.0.0.1", server.port)
    with keep(upstream, target) as far:
        far.sendall(b"HTTP/1.1 200 OK\r\n")
        assert call(upstream, target).status == 200
        assert closed(far)


def test_what_other_targets_have_left_for_too_long_goes_when_a_connection_is_made(upstream, server, clock):
    with (
        keep(upstream, Target("127.0.0.1", 1, idle_timeout=SWEEP_SECONDS)) as old,
        keep(upstream, Target("127.0.0.1", 2)) as good,
    ):
        clock.advance(SWEEP_SECONDS)
        call(upstream, Target("127.0.0.1", server.port))
        assert (closed(old), closed(good)) == (True, False)


def test_a_target_that_is_dropped_takes_its_idle_connections_with_it_and_those_that_come_back(upstream):
    target, other = Target("127.0.0.1", 1), Target("127.0.0.1", 2)
    with keep(upstream, target) as far, keep(upstream, other) as stays:
        target.retire()
        upstream.drop_idle(target)
        with keep(upstream, target) as late:
            assert [closed(one) for one in (far, late, stays)] == [True, True, False]


def test_a_client_keeps_no_more_than_its_limits_allow_and_what_is_idle_holds_no_slot(upstream, server):
    limits = ClientLimits(httpx.Limits(max_connections=2, max_keepalive_connections=1))
    targets = [Target("127.0.0.1", server.port, limits=limits) for _ in range(2)]
    for target in targets:
        assert call(upstream, target).status == 200
    assert (upstream.idle_of(limits), limits.slots.in_use) == (1, 0)


@pytest.mark.parametrize("why", ["nobody is there", "closed"])
def test_what_is_not_sent_is_a_value_and_leaves_no_slot_taken(upstream, why):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = Target("127.0.0.1", gone.getsockname()[1], limits=limits)
    if why == "closed":
        upstream.close()
    outcome = call(upstream, target)
    assert outcome.failure is (Failure.CLOSED if why == "closed" else Failure.CONNECT_FAILED)
    assert (limits.slots.in_use, upstream._busy) == (0, set())


def test_closing_ends_what_is_idle_and_what_comes_back_later(upstream):
    with keep(upstream, Target("127.0.0.1", 1)) as far:
        upstream.close()
        with keep(upstream, Target("127.0.0.1", 1)) as late:
            assert (closed(far), closed(late)) == (True, True)
    assert upstream.idle_connections() == 0
