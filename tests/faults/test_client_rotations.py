"""Rotations of certificates, and of the authority in three steps, while calls over mTLS go on: none fails, and the old root is
refused afterwards. 180 rotations with ``MESHLIB_FAULTS=1``, else some; between calls, and while calls are awaited."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable

import pytest

from meshlib.engine.outcome import Failure
from meshlib.identity.credentials import Credentials
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import Peer, Request
from tests.support.mesh_tls import OTHER_ROOT, REVIEWS, ROOT, bundles, svid
from tests.transport.core.test_trust_watch import World

ROTATIONS = 180 if os.environ.get("MESHLIB_FAULTS") else 9
CALLS = 4
OLD, BOTH, NEW = bundles(ROOT), bundles(ROOT, OTHER_ROOT), bundles(OTHER_ROOT)
STEPS = ((ROOT, OLD), (ROOT, BOTH), (OTHER_ROOT, BOTH), (OTHER_ROOT, NEW))
"""Whose certificates are shown, and what is trusted: at the start, and after each step."""


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("runtime", [Threads, Loop], ids=["threads", "asyncio"])
def test_no_call_fails_and_the_old_root_is_refused_afterwards(runtime: type[Threads | Loop], http2: bool) -> None:
    world = World(runtime(), http2)
    statuses = []
    for root, trusted in STEPS:
        for turn in range(-(-ROTATIONS // len(STEPS))):
            world.gate.shown = Credentials(svid(REVIEWS, root), trusted)
            if turn % 2:  # both ends rotate, each at its own time
                statuses += [one.outcome.status for one in world.runtime.many(world.target, [Call()] * CALLS)]
            world.source.publish(svid(root=root), trusted)
            statuses += [one.outcome.status for one in world.runtime.many(world.target, [Call()] * CALLS)]
    assert statuses == [200] * len(statuses)
    assert len(statuses) >= ROTATIONS * CALLS
    world.gate.shown = Credentials(svid(REVIEWS, ROOT), BOTH)
    world.runtime.upstream.close_idle()
    assert world.call().failure is Failure.CONNECT_FAILED
    world.close()


class Amid(World):
    """Its server has everything rotate (``rotate``) when a call has come and before it responds: the second of each batch,
    while the others are on their way, in a handshake or waiting for their response."""

    def __init__(self, runtime: Threads | Loop, http2: bool) -> None:
        self.rotate: Callable[[], None] = lambda: None
        self.rotations = 0
        self._come = 0
        self._one_by_one = threading.Lock()
        super().__init__(runtime, http2)

    def _meanwhile(self) -> None:
        with self._one_by_one:
            self._come += 1
            if self._come % CALLS == 2:
                self.rotate()
                self.rotations += 1

    def _answer(self, peer: Peer, request: Request) -> None:
        self._meanwhile()
        super()._answer(peer, request)

    def _respond(self, peer: ssl.SSLSocket) -> None:
        self._meanwhile()
        super()._respond(peer)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("runtime", [Threads, Loop], ids=["threads", "asyncio"])
def test_no_call_fails_that_is_under_way_while_it_rotates(runtime: type[Threads | Loop], http2: bool) -> None:
    world = Amid(runtime(), http2)
    statuses = []
    for root, trusted in STEPS:

        def rotate(root: Authority = root, trusted: TrustBundles = trusted) -> None:
            world.gate.shown = Credentials(svid(REVIEWS, root), trusted)
            world.source.publish(svid(root=root), trusted)

        world.gate.shown = Credentials(svid(REVIEWS, root), trusted)
        world.rotate = rotate
        for _ in range(-(-ROTATIONS // len(STEPS))):
            statuses += [one.outcome.status for one in world.runtime.many(world.target, [Call()] * CALLS)]
    assert statuses == [200] * len(statuses)
    assert world.rotations >= ROTATIONS
    assert world.server.connections > len(STEPS), "who comes after a rotation is on a connection of its own"
    world.rotate = lambda: None
    world.gate.shown = Credentials(svid(REVIEWS, ROOT), BOTH)
    world.runtime.upstream.close_idle()
    assert world.call().failure is Failure.CONNECT_FAILED
    world.close()
