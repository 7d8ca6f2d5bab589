"""A gRPC client of the mesh whose calls to one service go over mTLS, as a DestinationRule or auto mTLS would have it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import grpc

import meshlib
from meshlib.compiler.routes import TlsSettings
from meshlib.security.authority import Authority
from tests.support.grpc_mtls import CLIENT, SERVER, WHO, World
from tests.support.grpc_runtimes import TARGET, entry

SNI = "outbound_.9080_._.echo.test"


class Client:
    """``call`` asks who the server takes us for: its response, or what the caller is told in place of one."""

    def __init__(self, root: Authority, *ports: int, **mesh: Any) -> None:
        self.world = World(CLIENT, root)
        self.mesh = meshlib.Mesh.from_resources(
            [entry(*[("127.0.0.1", port, "v1") for port in ports])], identity=self.world.identity, **mesh
        )
        self._snapshot = self.core.live.snapshot

    @property
    def core(self) -> Any:
        return self.mesh._core

    def policy(self, *allowed: str, auto: bool = False, taken_by: tuple[int, ...] | None = None) -> None:
        """What the compiler would make of ISTIO_MUTUAL: ``allowed`` are the SPIFFE IDs of servers; ``auto``: of auto mTLS,
        which the endpoints at the ports ``taken_by`` take (None: all)."""
        tls = TlsSettings("ISTIO_MUTUAL", SNI, subject_alt_names=allowed or (SERVER,))

        def changed(cluster: Any) -> Any:
            if "echo.test" not in cluster.key:
                return cluster
            if not auto:
                return dataclasses.replace(cluster, tls=tls)
            keys = frozenset(e.key for e in cluster.endpoints if taken_by is None or e.port in taken_by)
            return dataclasses.replace(cluster, auto_mtls=tls, mutual=keys)

        clusters = {key: changed(cluster) for key, cluster in self._snapshot.clusters.items()}
        self.core.install(dataclasses.replace(self._snapshot, clusters=clusters))

    def channel(self, **more: Any) -> grpc.Channel:
        return self.mesh.grpc_channel(TARGET, **more)

    def close(self) -> None:
        self.mesh.close()


def told(call: Callable[[], bytes]) -> str:
    try:
        return bytes(call()).decode()
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"  # type: ignore[attr-defined]


class Calls:
    """Of one runtime: ``who()`` makes a call on the same channel each time."""

    def __init__(self, client: Client, runtime: str) -> None:
        self.runtime = runtime
        if runtime == "threads":
            self.channel: Any = client.channel()
        else:
            self.loop = asyncio.new_event_loop()

            async def make() -> Any:
                return client.mesh.aio_grpc_channel(TARGET)

            self.channel = self.loop.run_until_complete(make())

    def who(self, **more: Any) -> str:
        method = self.channel.unary_unary(WHO)
        if self.runtime == "threads":
            return told(lambda: method(b"", timeout=60, **more))

        async def call() -> bytes:
            return bytes(await method(b"", timeout=60, **more))

        return told(lambda: self.loop.run_until_complete(call()))

    def close(self) -> None:
        if self.runtime == "threads":
            self.channel.close()
        else:
            self.loop.run_until_complete(self.channel.close())
            self.loop.close()


@contextlib.contextmanager
def calls(client: Client, runtime: str) -> Iterator[Calls]:
    made = Calls(client, runtime)
    try:
        yield made
    finally:
        made.close()
