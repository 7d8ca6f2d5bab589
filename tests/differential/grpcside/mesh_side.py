"""The scene through ``mesh.grpc_channel``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import grpc

import meshlib
from tests.differential.grpcside.scene import PORT, Scene, resources


class MeshSide:
    """Channels of a mesh."""

    def __init__(self, mesh: meshlib.Mesh) -> None:
        self._mesh = mesh
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, host: str) -> grpc.Channel:
        if host not in self._channels:
            self._channels[host] = self._mesh.grpc_channel(f"{host}:{PORT}")
        return self._channels[host]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


@contextlib.contextmanager
def mesh_for(scene: Scene, ports: Mapping[str, int]) -> Iterator[MeshSide]:
    """A mesh for the scene."""
    with meshlib.Mesh.from_resources(resources(scene, ports)) as mesh:
        side = MeshSide(mesh)
        try:
            yield side
        finally:
            side.close()
