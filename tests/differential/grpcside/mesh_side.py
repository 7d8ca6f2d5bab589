"""The scene through ``mesh.grpc_channel`` and ``mesh.aio_grpc_channel``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import meshlib
from tests.differential.grpcside.aio import AioChannel, Loop
from tests.differential.grpcside.scene import PORT, Scene, resources


class MeshSide:
    """Channels of a mesh, blocking ones and asyncio's."""

    def __init__(self, mesh: meshlib.Mesh, loop: Loop) -> None:
        self._mesh = mesh
        self._loop = loop
        self._channels: dict[str, Any] = {}
        self._aio: dict[str, AioChannel] = {}

    def channel(self, host: str) -> Any:
        if host not in self._channels:
            self._channels[host] = self._mesh.grpc_channel(f"{host}:{PORT}")
        return self._channels[host]

    def aio_channel(self, host: str) -> AioChannel:
        async def made() -> Any:
            return self._mesh.aio_grpc_channel(f"{host}:{PORT}")

        if host not in self._aio:
            self._aio[host] = AioChannel(self._loop, self._loop.run(made()))
        return self._aio[host]

    def ejected(self, host: str) -> bool:
        """Whether an endpoint of a service is ejected."""
        found = [each for each in self._mesh.status()["clusters"] if each["host"].partition(".")[0] == host]
        assert found, f"nobody has called {host}"
        return any(endpoint["ejected"] for cluster in found for endpoint in cluster["endpoints"])

    def close(self) -> None:
        for channel in (*self._channels.values(), *self._aio.values()):
            channel.close()


@contextlib.contextmanager
def mesh_for(scene: Scene, ports: Mapping[str, int]) -> Iterator[MeshSide]:
    """A mesh for the scene."""
    loop = Loop()
    with contextlib.closing(loop), meshlib.Mesh.from_resources(resources(scene, ports)) as mesh:
        with contextlib.closing(MeshSide(mesh, loop)) as side:
            yield side
