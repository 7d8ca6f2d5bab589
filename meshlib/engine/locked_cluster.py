"""A cluster at work where several threads run at once: what is counted without a lock with the GIL is counted under one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from meshlib.engine.cluster import BoundCluster

if TYPE_CHECKING:
    from meshlib.engine.cluster import Attempt


class LockedCluster(BoundCluster):
    """For an interpreter without the GIL."""

    __slots__ = ()

    def begin(self, attempt: Attempt) -> None:
        with self.state.lock:
            super().begin(attempt)

    def end(self, attempt: Attempt) -> None:
        with self.state.lock:
            super().end(attempt)


NewCluster: type[BoundCluster] = BoundCluster if getattr(sys, "_is_gil_enabled", lambda: True)() else LockedCluster
COUNTS_UNLOCKED: Final = NewCluster is BoundCluster
"""Whether what ``begin`` and ``end`` of a ``BoundCluster`` do may be done in their place (``plain_call.py``)."""
