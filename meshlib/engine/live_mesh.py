"""``LiveMesh``: all of a mesh that is at work, both ways; the one reference that a reload swaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.inbound_state import SHUT, BoundPorts
from meshlib.engine.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.guard import Report, Storage
    from meshlib.policy.outlier import Ejection


class LiveMesh(Live):
    """What calls know (``Live``), and ``inbound``: what happens to requests that are served."""

    __slots__ = ("inbound",)

    def __init__(
        self,
        snapshot: Snapshot,
        now: float,
        previous: Live | None = None,
        on_bind: Callable[[BoundCluster], None] | None = None,
        storage: Storage | None = None,
        report: Report | None = None,
        inbound: BoundPorts = SHUT,
        on_ejection: Callable[[str, Ejection], None] | None = None,
    ) -> None:
        super().__init__(snapshot, now, previous, on_bind, storage, report, on_ejection)
        self.inbound = inbound
