"""The mode of a port, as the configuration of this moment has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.mtls_mode import MtlsMode

if TYPE_CHECKING:
    from meshlib.transport.core.mesh_core import MeshCore


def mode_of(core: MeshCore, port: int) -> MtlsMode:
    """``port`` is the container's. On a mesh that is closed no one is let in without a certificate."""
    live = core.live
    return MtlsMode.STRICT if live is None else live.inbound.of(port).settings.mtls
