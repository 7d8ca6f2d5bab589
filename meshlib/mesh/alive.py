"""The meshes of this process that are alive, and what a fork means for them.

Imported with the first mesh and after all that it is made of: a child runs its hooks in the order in which they were
registered, and the locks and alarms of other modules have to be put right before the meshes that use them.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.upstream.forked import take_all


class Living(Protocol):
    """A mesh, as it is known here."""

    _core: MeshCore

    def _after_fork(self) -> None: ...


meshes: weakref.WeakSet[Living] = weakref.WeakSet()


def cores() -> list[MeshCore]:
    """Of the meshes of this process, for servers that belong to none of them."""
    while True:
        try:
            return [mesh._core for mesh in meshes]
        except RuntimeError:  # another thread has made one meanwhile
            continue


def _after_fork_in_child() -> None:
    take_all([mesh._after_fork for mesh in list(meshes)])


os.register_at_fork(after_in_child=_after_fork_in_child)
