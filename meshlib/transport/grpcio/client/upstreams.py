"""A mesh's channels to endpoints."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from meshlib.identity import grpc_process
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings
from meshlib.transport.grpcio.client.mutual import Mutual
from meshlib.transport.grpcio.client.upstream import Upstream, made_channels

if TYPE_CHECKING:
    import grpc

    from meshlib.engine.cluster import BoundCluster
    from meshlib.transport.core.mesh_core import MeshCore


class Upstreams:
    """A mesh's channels to endpoints. They live in ``BoundCluster.targets`` beside those of HTTP, so that reloads treat
    them alike; here are only the settings they share and the list to close."""

    def __init__(self) -> None:
        self._settings: dict[tuple[object, ...], ChannelSettings] = {}
        self._kept_by_parent: list[Upstream] = []
        self._used = False  # whether this process, or the one it was forked from, has made a channel
        self._forked = False
        self.mutual: Mutual | None = None  # mTLS of the mesh, where a channel has it

    def settings(
        self,
        authority: str,
        credentials: grpc.ChannelCredentials | None,
        options: tuple[tuple[str, object], ...],
        compression: grpc.Compression | None,
    ) -> ChannelSettings:
        """The one object for these values."""
        key = (authority, id(credentials), options, compression)
        try:
            found = self._settings.get(key)
        except TypeError:  # an option whose value is a pointer or a function of the caller's
            return ChannelSettings(authority, credentials, options, compression)
        if found is None:
            # it holds the credentials, whose id cannot be anybody else's as long as it lives
            found = self._settings[key] = ChannelSettings(authority, credentials, options, compression)
        return found

    def check(self) -> None:
        """Whether channels can be made here. Raises ``CannotConnect`` in the child of a process that has used gRPC, unless
        grpcio's fork support is on: gRPC core's threads do not exist there, and every call would wait for ever."""
        if self._forked and os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() not in ("1", "true", "yes"):
            raise CannotConnect(
                "this process was forked from one that had made gRPC calls: set GRPC_ENABLE_FORK_SUPPORT=1 in its environment "
                "before grpc is imported, or make no call before the fork (channels of the mesh may be made)"
            )
        self._used = True

    def after_fork(self) -> None:
        """In a forked child. Calls that the parent has left as garbage are not to be collected here: their destruction takes
        locks of gRPC core, which threads of the parent may have held, and ends in a hang or an abort."""
        # an identity that is followed over gRPC has used it, too
        self._used = self._used or grpc_process.was_used()
        self._forked = self._used
        if self.mutual is not None:
            self.mutual.after_fork()
        for upstream in list(made_channels):  # wherever it is kept: a call on it would hang in gRPC core
            upstream.worn = True
            self._kept_by_parent.append(upstream)
        if self._used:
            gc.freeze()

    def close(self) -> None:
        """With the mesh, when its channels have been closed."""
        if self.mutual is not None:
            self.mutual.close()

    def abandon(self, cluster: BoundCluster) -> None:
        """In a forked child: the parent's channels must not be used, and not even be freed. What they watched, nobody
        watches here: the next attempt will tell."""
        for key, target in list(cluster.targets.items()):
            if isinstance(target, Upstream):
                self._kept_by_parent.append(target)
                del cluster.targets[key]
                if isinstance(key, tuple) and (target.watching is not None or target.ended):
                    cluster.state.observe_health(key[0], reachable=True, serving=True)


def mutual_of(core: MeshCore) -> Mutual:
    """The mesh's own; made when there is a channel that needs it."""
    shared = upstreams_of_mesh(core)
    if shared.mutual is None:
        shared.mutual = Mutual(core)
    return shared.mutual


def upstreams_of_mesh(core: MeshCore) -> Upstreams:
    """What all gRPC channels of a mesh share; made when there is one."""
    found = core.channels
    if not isinstance(found, Upstreams):
        found = core.channels = Upstreams()
    return found
