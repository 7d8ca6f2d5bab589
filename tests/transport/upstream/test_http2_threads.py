"""HTTP/2 connections shared by threads: which there are, and who makes the next one. (Calls: test_http2_call.py.)"""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.framing import framing_of
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_threads import HTTP1_SECONDS, SyncHttp2
from meshlib.transport.upstream.problems import no_slot
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import HTTP2_OR_1
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket
from tests.support.h2_server import SETTINGS, H2Server


class ChoseHttp1:
    """A context whose servers choose HTTP/1.1."""

    def wrap_bio(self, incoming: object, outgoing: object, *, server_hostname: object) -> Any:
        return self

    def read(self, size: int) -> bytes:
        raise AssertionError("nothing is read here")

    def write(self, data: bytes) -> int:
        raise AssertionError("nothing is written here")

    def selected_alpn_protocol(self) -> str:
        return "http/1.1"


class Beside:
    """The pool of HTTP/1.1 connections. ``dials`` are the protocols that were offered; ``made`` is what a dial makes, an
    exception to raise or None for a connection."""

    def __init__(self) -> None:
        self.closed = False
        self.dials: list = []
        self.made: Outcome | AnySocket | Exception | None = None
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def dial(self, target, protocols, limit, trace=None):
        self.dials.append(protocols)
        if isinstance(self.made, Exception):
            raise self.made
        return self.made or socket.create_connection((target.host, target.port))

    def admit(self, limits, attempt):
        return None if limits.slots.try_acquire() else no_slot(attempt)

    def make_room(self, limits) -> None:
        """There is none to make."""

    def idle_of(self, limits) -> int:
        return 0


@pytest.fixture
def beside():
    return Beside()


@pytest.fixture
def pool(beside):
    made = SyncHttp2(beside, beside.now)
    yield made
    made.close()


@pytest.fixture
def server():
    with H2Server() as made:
        yield made


def target_of(server: H2Server, **settings) -> Target:
    return Target("127.0.0.1", server.port, http2=True, **settings)


def call(pool: SyncHttp2, target: Target, method: bytes = b"GET"):
    attempt = Attempt(method, b"/", [(b"Host", b"a")], None, target)
    found = pool.send(attempt, framing_of(attempt.headers, None))
    if isinstance(found, Outcome) and found.body is not None:
        assert b"".join(found.body) == b"GET /"
    return found


def test_calls_share_a_connection_and_each_target_has_its_own(pool, beside, server):
    first, second = target_of(server), target_of(server)
    assert [call(pool, target).status for target in (first, first, second, first)] == [200] * 4
    assert (beside.dials, pool.idle_connections()) == ([HTTP2_OR_1] * 2, 2)


def test_a_call_beyond_what_the_others_leave_room_for_makes_another(pool, beside, server):
    server.answer = lambda peer, request: peer.head(request)
    target = target_of(server, max_concurrent_streams=1)
    attempt = Attempt(b"GET", b"/", [(b"Host", b"a")], None, target)
    held = [pool.send(attempt, framing_of(attempt.headers, None)) for _ in range(2)]
    assert (len(beside.dials), pool.idle_connections()) == (2, 0)
    for outcome in held:
        outcome.body.close()
    assert pool.idle_connections() == 2


def test_a_server_that_chose_http1_lends_its_socket_and_is_not_asked_again_for_a_while(pool, beside):
    target = Target("127.0.0.1", 1, http2=True)
    with socket.socket() as raw:
        beside.made = sock = TlsSocket(raw, ChoseHttp1(), None, beside.now)
        assert call(pool, target) is sock
        beside.at += HTTP1_SECONDS - 1
        assert call(pool, target) is None
        assert len(beside.dials) == 1
        beside.at += 1
        assert call(pool, target) is sock


@pytest.mark.parametrize(
    ("made", "failure"),
    [(Outcome(Failure.CONNECT_FAILED, "gone"), Failure.CONNECT_FAILED), (TimeoutError(), Failure.CONNECT_TIMEOUT)],
)
def test_no_connection_is_a_value_and_costs_no_slot(pool, beside, made, failure):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    beside.made = made
    assert call(pool, Target("127.0.0.1", 1, http2=True, limits=limits)).failure is failure
    assert limits.slots.in_use == 0


def test_an_open_connection_holds_a_slot_until_it_is_closed(pool, server):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    slots: Slots = limits.slots
    first, second = target_of(server, limits=limits), target_of(server, limits=limits)
    assert call(pool, first).status == 200
    assert (slots.in_use, pool.idle_of(limits)) == (1, 1)
    assert call(pool, second).failure is not None
    assert (pool.retire_idle(limits), slots.in_use) == (True, 0)
    assert not pool.retire_idle(limits)
    assert call(pool, second).status == 200


def test_a_server_without_streams_is_let_go(pool, beside):
    with H2Server(settings={SETTINGS.MAX_CONCURRENT_STREAMS: 0}) as server:
        assert call(pool, target_of(server)).failure is Failure.REFUSED
        assert (len(beside.dials), pool._open) == (1, set())


def test_nothing_is_dialled_for_a_head_that_cannot_be_written_or_when_the_mesh_is_closed(pool, beside, server):
    assert call(pool, target_of(server), b"G T").failure is Failure.INVALID_REQUEST
    beside.closed = True
    assert call(pool, target_of(server)).failure is Failure.CLOSED
    assert beside.dials == []


def test_a_target_that_is_dropped_takes_its_connections_and_what_is_known_of_it(pool, beside, server):
    target, other = target_of(server), target_of(server)
    for one in (target, other):
        call(pool, one)
    pool.drop_target(target)
    assert pool.idle_connections() == 1
    assert list(pool._pools) == [other]
