"""What a reload swaps: the clusters that calls know, and what is asked of requests that come in."""

from __future__ import annotations

from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.inbound_state import SHUT, BoundInbound, BoundPorts
from meshlib.engine.live_mesh import LiveMesh
from meshlib.workload import Workload

EMPTY = compile_snapshot([], Workload())
OPEN = BoundPorts(BoundInbound(EMPTY.inbound.default, ()))


def test_nothing_comes_in_where_nobody_has_said_what_is_asked() -> None:
    assert LiveMesh(EMPTY, 0.0).inbound is SHUT


def test_the_next_one_knows_the_clusters_of_the_last_and_asks_what_it_is_told() -> None:
    first = LiveMesh(EMPTY, 0.0, inbound=OPEN)
    first.check_failures.count = 3
    second = LiveMesh(EMPTY, 1.0, first)
    assert (second.check_failures, second.inbound) == (first.check_failures, SHUT)
