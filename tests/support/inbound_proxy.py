"""The inbound side of a proxy at work in a thread of its own, before an application that tells what has come to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.proxy.inbound_application import ApplicationAddress
from meshlib.proxy.inbound_listener import InboundListener
from meshlib.proxy.inbound_transparent import TransparentInbound
from meshlib.serving.serve import listen
from tests.support.eventually import turned
from tests.support.proxy import Client
from tests.support.resources import pod, service

REVIEWS = meshlib.Workload("reviews-v1", labels={"app": "reviews", "version": "v1"}, service_account="reviews")
SERVICE = [service("reviews"), pod("reviews", "v1", 9080)]


class InboundProxy:
    """``meshlib proxy --inbound 127.0.0.1:0 --app ...`` for these resources. ``app``: the application's port, or its place;
    None: the port is before all ports of it (``--transparent``)."""

    def __init__(
        self,
        app: int | str | None,
        *resources: dict[str, Any],
        policy_port: int = 0,
        drain: float = 2.0,
        workload: meshlib.Workload = REVIEWS,
        own: list[dict[str, Any]] = SERVICE,
        **mesh: Any,
    ) -> None:
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources([*own, *resources], registry=self.registry, workload=workload, **mesh)
        self._sock = listen("127.0.0.1", 0, "--inbound")
        self.port: int = self._sock.getsockname()[1]
        host = app if isinstance(app, str) else "127.0.0.1"
        self.address = ApplicationAddress(host, app if isinstance(app, int) else 0, policy_port)
        self._led = app is None
        self._drain = drain
        self._up = threading.Event()
        self._stopping = asyncio.Event()
        self.listener: InboundListener | TransparentInbound
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        server = self.mesh._server()
        if self._led:
            self.listener = TransparentInbound(self._sock, server)
        else:
            self.listener = InboundListener(self._sock, server, self.address)
        await self.listener.start()
        self._up.set()
        await self._stopping.wait()
        self.listener.stop()
        await self.listener.drained(self._drain)
        await self.listener.forwarder.runtime.aclose()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def stop(self) -> None:
        """As SIGTERM does."""
        self.loop.call_soon_threadsafe(self._stopping.set)

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()
        self._thread.join(20)
        ended = not self._thread.is_alive()
        self.mesh.close()
        assert ended, "the proxy has not ended"

    def client(self, wrap: Callable[[socket.socket], Any] | None = None) -> Client:
        """A connection to it; ``wrap``: in TLS."""
        client = Client(self.port)
        if wrap is not None:
            try:
                client.sock = wrap(client.sock)
            except BaseException:
                client.sock.close()
                raise
        return client

    def on_loop(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns, called on the proxy's loop."""

        async def call() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(20)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        turned(self.loop)
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
