"""Rotations of certificates, and of the authority in three steps, while calls over mTLS go on: none fails, and the old root is
refused afterwards. 180 rotations with ``MESHLIB_FAULTS=1``, else some."""

from __future__ import annotations

import os

import pytest

from meshlib.engine.outcome import Failure
from meshlib.identity.credentials import Credentials
from tests.support.h2_runtimes import Call, Loop, Threads
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
