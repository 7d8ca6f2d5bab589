"""A gateway at work in a thread of its own, on free ports."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.proxy.gateway_listeners import GatewayPlaces
from meshlib.proxy.places import TcpPlace
from meshlib.proxy.process import ProxyProcess, ProxySettings
from tests.support.eventually import eventually, turned
from tests.support.proxy import Client

INGRESS = meshlib.Workload("ingress", namespace="default", labels={"istio": "ingress"}, service_account="ingress")


def gateway(*servers: dict[str, Any], name: str = "gw", namespace: str = "default") -> dict[str, Any]:
    """A Gateway for ``INGRESS``."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"istio": "ingress"}, "servers": list(servers)},
    }


def server(
    *hosts: str, port: int = 80, protocol: str = "HTTP", name: str = "", tls: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A server of one."""
    made: dict[str, Any] = {
        "port": {"number": port, "name": name or f"{protocol.lower()}-{port}", "protocol": protocol},
        "hosts": list(hosts),
        **more,
    }
    return made if tls is None else {**made, "tls": tls}


class Gateway:
    """``meshlib proxy --gateways`` for these resources; each port of a Gateway is at a free one of this machine."""

    def __init__(
        self, *resources: dict[str, Any], drain: float = 2.0, choice: GatewayChoice = GatewayChoice(), **mesh: Any
    ) -> None:
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(
            resources,
            registry=self.registry,
            gateways=choice,
            **{"workload": INGRESS, "https_rules": "istio", "seed": 1, **mesh},
        )
        self._places = GatewayPlaces({port: TcpPlace("127.0.0.1", 0) for port in range(1, 65536)})
        self._settings = ProxySettings(drain=drain)
        self._up = threading.Event()
        self._ended: BaseException | None = None
        self.process: ProxyProcess
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._ended = error
            self._up.set()

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = ProxyProcess(self.mesh, (), self._settings, gateway=self._places)
        await self.process.run(self._up.set)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        if self._ended is not None:
            raise self._ended
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.process.stop)
        self._thread.join(20)
        ended = not self._thread.is_alive()
        self.mesh.close()
        assert ended, "the gateway has not ended"

    def port(self, number: int = 80) -> int:
        """Where a port of the Gateways is; waits until it is there."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [where for name, where, _ in self.process.listeners() if name == f"gateway:{number}"]
            return bool(found)

        assert eventually(there)
        return int(found[0].rpartition(":")[2])

    def has(self, number: int) -> bool:
        """Whether a port is listened on."""
        return any(name == f"gateway:{number}" for name, _, _ in self.process.listeners())

    def client(self, number: int = 80, wrap: Callable[[socket.socket], Any] | None = None) -> Client:
        """A connection to a port; ``wrap``: in TLS."""
        client = Client(self.port(number))
        if wrap is not None:
            try:
                client.sock = wrap(client.sock)
            except BaseException:
                client.sock.close()
                raise
        return client

    def get(self, host: str, path: str = "/", *lines: str, number: int = 80) -> Any:
        """The response to a request on a connection of its own."""
        with self.client(number) as client:
            return client.get(path, "GET", host, *lines)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        turned(self.loop)
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
