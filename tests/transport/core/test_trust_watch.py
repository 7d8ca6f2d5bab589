"""Connections over mTLS are let go with the certificates that they stand on: in both runtimes and protocols, by the mesh's
clock."""

from __future__ import annotations

import gc
import os
import ssl
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from meshlib.alarms import Alarms
from meshlib.engine.outcome import Failure, Outcome
from meshlib.identity.credentials import Credentials
from meshlib.identity.servers import Servers
from meshlib.transport.core.trust_watch import LOOK, TrustWatch
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.mutual import WORTHLESS, MutualTls
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server, Peer, Request, answer_ok
from tests.support.mesh_tls import (
    BUNDLES,
    OTHER_ROOT,
    REVIEWS,
    ROOT,
    Gate,
    MutualServer,
    WallClock,
    bundles,
    identity,
    svid,
)
from tests.support.open_sockets import sockets_to

Runtime = Threads | Loop
BOTH = bundles(ROOT, OTHER_ROOT)
LIMIT = 60.0


class World:
    """A client with a watch and a server; ``server_ttl``: seconds that the server's certificate lasts, ``ours`` likewise.
    ``rings``: the watch's alarms ring by the clock, and not when the test says so."""

    def __init__(
        self,
        runtime: Runtime,
        http2: bool,
        *,
        server_ttl: float = 36_000.0,
        ours: float = 36_000.0,
        rings: bool = False,
    ) -> None:
        self.runtime, self.http2 = runtime, http2
        self.clock = WallClock()
        self.alarms = Alarms(self.clock if rings else WallClock())
        self.identity, self.source = identity(svid(ttl=ours), BOTH)
        self.servers = Servers(self.identity, tuple, self.clock)
        loops = {runtime.loop: runtime.upstream} if isinstance(runtime, Loop) else {}
        here = runtime.upstream if isinstance(runtime, Threads) else Threads().upstream
        self.watch = TrustWatch(self.servers, self.identity, self.alarms, here, loops)
        self.gate = Gate(Credentials(svid(REVIEWS, ttl=server_ttl), BOTH))
        self.held: list[tuple[Peer, Request]] | list[ssl.SSLSocket] = []
        self.server = self._serving()
        self.server.__enter__()
        self.target = Target(
            "127.0.0.1", self.server.port, MutualTls(self.servers, (REVIEWS,), "a test"), http2=http2, label="reviews-1"
        )

    def _serving(self) -> H2Server | MutualServer:
        if self.http2:
            return H2Server(self._answer, tls=self.gate)  # type: ignore[arg-type]
        server = MutualServer(self.gate)
        server.respond = self._respond
        return server

    def _answer(self, peer: Peer, request: Request) -> None:
        if request.path != "/long":
            return answer_ok(peer, request)
        peer.head(request)
        peer.some(request, b"so")
        self.held.append((peer, request))  # type: ignore[arg-type]
        return None

    def _respond(self, peer: ssl.SSLSocket) -> None:
        long = b"/long" in self.server.received[-1]  # type: ignore[union-attr]
        peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (4 if long else 2, b"so" if long else b"ok"))
        if long:
            self.held.append(peer)  # type: ignore[arg-type]

    def go_on(self) -> None:
        """The rest of the long response."""
        (held,) = self.held
        if isinstance(held, tuple):
            held[0].data(held[1], b"on")
        else:
            held.sendall(b"on")

    @property
    def ended(self) -> int:
        """Connections that are over, as the server sees them."""
        server = self.server
        return server.ended if isinstance(server, MutualServer) else server.connections - len(server.peers)

    def call(self) -> Outcome:
        return self.runtime.call(self.target, Call()).outcome

    def begin_long(self) -> Outcome:
        """A response whose beginning is there."""
        return self.runtime.send(self.target, Call(b"/long"))

    def read(self, outcome: Outcome) -> bytes:
        return b"".join(self.runtime.chunks(outcome))

    def pass_time(self, until_ended: int) -> float:
        """Let time pass, look by look, until so many connections are over; how many seconds it took."""
        began = self.clock.now
        while self.ended < until_ended and self.clock.now - began <= 10 * LIMIT:
            self.clock.advance(LOOK)
            self.watch.ring()
            self.runtime.until(lambda: self.ended >= until_ended, 0.03)
            if not sockets_to(self.server.port):  # closed here: the server hears of it when it comes to it
                self.runtime.until(lambda: self.ended >= until_ended)
        return self.clock.now - began

    def close(self) -> None:
        self.alarms.close()
        self.runtime.close()
        self.server.__exit__()


@pytest.fixture(params=["threads-http1", "threads-http2", "asyncio-http1", "asyncio-http2"])
def world_of(request: pytest.FixtureRequest) -> Iterator[object]:
    runtime, _, protocol = request.param.partition("-")
    made: list[World] = []

    def make(**given: Any) -> World:
        world = World(Threads() if runtime == "threads" else Loop(), protocol == "http2", **given)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def test_a_rotation_closes_what_is_idle_at_once_and_fails_nothing(world_of) -> None:
    world = world_of()
    for rotation in range(3):
        assert world.call().status == 200
        assert world.server.connections == rotation + 1
        world.source.publish(svid(), BOTH)
        assert world.runtime.until(lambda count=rotation + 1: world.ended == count)
    assert world.gate.callers == list(dict.fromkeys(world.gate.callers))  # a certificate each


def test_a_long_call_goes_on_over_rotations_and_is_the_last_of_its_connection(world_of) -> None:
    world = world_of()
    outcome = world.begin_long()
    for _ in range(5):
        world.source.publish(svid(), BOTH)
        world.clock.advance(LIMIT)
        world.runtime.settle()
    assert world.call().status == 200
    assert world.server.connections == 2
    world.go_on()
    assert world.read(outcome) == b"soon"
    assert world.runtime.until(lambda: world.ended == 1)
    assert world.call().status == 200
    assert world.server.connections == 2


def dropped(world: World) -> None:
    world.source.publish(svid(root=OTHER_ROOT, ttl=36_000.0), bundles(OTHER_ROOT))


def expired(world: World) -> None:
    world.clock.advance(3600.0)


def jumped(world: World) -> None:
    world.clock.jump(3600.0)


ENDS = {
    "a root that is dropped": (dropped, {}),
    "the server's certificate that ends": (expired, {"server_ttl": 3600.0}),
    "our certificate that ends": (expired, {"ours": 3600.0}),
    "a clock that jumps past the end": (jumped, {"server_ttl": 3600.0}),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_is_idle_is_closed(world_of, how: str) -> None:
    end, given = ENDS[how]
    world = world_of(**given)
    assert world.call().status == 200
    end(world)
    assert world.pass_time(until_ended=1) <= LOOK


@pytest.mark.parametrize("how", ENDS)
def test_a_call_under_way_is_cut_within_a_minute_with_the_reason(world_of, how: str) -> None:
    end, given = ENDS[how]
    world = world_of(**given)
    outcome = world.begin_long()
    end(world)
    assert LOOK < world.pass_time(until_ended=1) < LIMIT
    with pytest.raises(BodyFailed) as cut:
        world.read(outcome)
    assert cut.value.failure is Failure.RESET
    assert cut.value.detail == WORTHLESS


def test_a_body_without_a_length_is_not_taken_for_whole_when_it_is_cut() -> None:
    """Its end is the connection's, and this end is our own doing."""
    for runtime in (Threads(), Loop()):
        world = World(runtime, False)
        world.server.respond = lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\nso")  # type: ignore[union-attr]
        outcome = world.begin_long()
        dropped(world)
        assert world.pass_time(until_ended=1) < LIMIT
        with pytest.raises(BodyFailed, match="no longer valid"):
            world.read(outcome)
        world.close()


def test_a_call_that_waits_for_its_response_is_cut_too(world_of) -> None:
    world = world_of()
    results: list[Outcome] = []
    began, over = threading.Event(), threading.Event()
    if world.http2:
        world.server.answer = lambda peer, request: began.set()
    else:
        world.server.respond = lambda peer: began.set()

    def let_go() -> None:
        began.wait(30)
        dropped(world)
        for _ in range(1000):  # looks, which the loop has at its own time
            world.clock.advance(LOOK)
            world.watch.ring()
            if over.wait(0.01):
                break

    other = threading.Thread(target=let_go)
    other.start()
    results.append(world.call())
    over.set()
    other.join(60)
    assert [(one.failure, one.detail) for one in results] == [(Failure.RESET, WORTHLESS)]


def test_the_old_root_is_refused_afterwards_also_with_an_old_session(world_of) -> None:
    world = world_of()
    assert world.call().status == 200
    dropped(world)
    assert world.runtime.until(lambda: world.ended == 1)
    refused = world.call()
    assert (refused.failure, "not trusted" in refused.detail) == (Failure.CONNECT_FAILED, True)
    world.gate.shown = Credentials(svid(REVIEWS, OTHER_ROOT), BOTH)
    assert world.call().status == 200
    assert world.gate.resumed == [False, False]


def test_without_such_connections_no_alarm_is_set(world_of) -> None:
    world = world_of()
    assert world.watch._alarm is None
    assert world.call().status == 200
    assert world.watch._alarm is not None
    world.watch.ring()
    assert world.watch._alarm is not None
    world.runtime.upstream.close_idle()
    assert world.runtime.until(lambda: world.ended == 1)
    world.watch.ring()
    assert world.watch._alarm is None


def test_files_are_looked_at_though_no_connection_is_made(world_of) -> None:
    world, looks = world_of(rings=True), []
    world.source.look = lambda: looks.append(True)
    world.call()
    looks.clear()
    world.clock.advance(LOOK)
    assert world.runtime.until(lambda: bool(looks))


def test_a_watch_that_is_dropped_is_kept_by_nobody(world_of) -> None:
    world = world_of()
    world.call()
    watch = weakref.ref(world.watch)
    del world.watch
    gc.collect()
    assert watch() is None
    world.source.publish(svid(), BUNDLES)
    world.call()


def test_a_forked_child_begins_anew() -> None:
    world = World(Threads(), False)
    assert world.call().status == 200
    child = os.fork()
    if child == 0:
        world.watch.after_fork()
        world.runtime.upstream.after_fork()
        good = world.watch._alarm is None and world.call().status == 200 and world.watch._alarm is not None
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    world.close()
