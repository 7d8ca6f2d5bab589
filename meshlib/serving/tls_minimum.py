"""The oldest TLS that our servers take under mTLS of the mesh: MeshConfig's ``meshMTLS.minProtocolVersion``, as the
configuration of this moment has it. As in Istio it is for servers; clients go by what the server takes, TLS 1.2 at least."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.transport.core.mesh_core import MeshCore


def tls13_alone(core: MeshCore) -> bool:
    """Whether nothing older than TLS 1.3 is taken; so of a mesh that is closed, too."""
    live = core.live
    return live is None or live.snapshot.inbound.default.mesh.tls13


def tls_minimum_of(core: MeshCore) -> ssl.TLSVersion:
    """The same as ``ssl`` has it."""
    return ssl.TLSVersion.TLSv1_3 if tls13_alone(core) else ssl.TLSVersion.TLSv1_2


def strictest(cores: Iterable[MeshCore]) -> ssl.TLSVersion:
    """Of a server that belongs to no mesh, in a process with these; those that are closed say nothing of it."""
    newer = any(tls13_alone(core) for core in cores if core.live is not None)
    return ssl.TLSVersion.TLSv1_3 if newer else ssl.TLSVersion.TLSv1_2
