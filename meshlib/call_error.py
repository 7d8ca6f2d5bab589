"""What every call through the mesh can raise, whatever library makes it: no library is loaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange


class CallError(MeshError):
    """Base class of the errors that a call through the mesh can raise. ``exchange`` has what was decided and tried."""

    exchange: Exchange | None = None


class MeshClosed(CallError, RuntimeError):
    """The mesh (or the client's transport) was closed before the call."""


for _shown in (CallError, MeshClosed):
    _shown.__module__ = "meshlib.errors"  # where users find them, and what tracebacks name
