"""A proxy at work: a mesh, its listeners, and the signals that stop it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from meshlib.proxy.forward import Forwarder
from meshlib.proxy.inbound_application import ApplicationAddress
from meshlib.proxy.inbound_listener import InboundListener
from meshlib.proxy.listener import Listener

if TYPE_CHECKING:
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.runtimes.serving import Server

log = logging.getLogger("meshlib.proxy")


class Proxied(Protocol):
    """A ``Mesh``."""

    _core: MeshCore

    def _server(self, propagate_deadline: bool = True) -> Server: ...
    def close(self) -> None: ...


class Inbound(NamedTuple):
    """A socket, which listens already, in front of an application."""

    sock: socket.socket
    app: ApplicationAddress


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """``drain``: seconds that requests under way have once the proxy is told to stop (Istio's terminationDrainDuration)."""

    drain: float = 5.0


class ProxyProcess:
    """Forwards what comes on ``outbound``, which listens already, by ``mesh``, and serves what comes on each of ``inbound`` to
    its application."""

    def __init__(
        self,
        mesh: Proxied,
        outbound: socket.socket | Sequence[socket.socket],
        settings: ProxySettings = ProxySettings(),
        inbound: Sequence[Inbound] = (),
    ) -> None:
        self._mesh = mesh
        self._outbound = [outbound] if isinstance(outbound, socket.socket) else list(outbound)
        self._inbound = inbound
        self._settings = settings
        self._stopping = asyncio.Event()
        self.listeners: list[Listener] = []

    @property
    def listener(self) -> Listener | None:
        """The first."""
        return self.listeners[0] if self.listeners else None

    def stop(self) -> None:
        """Drain and end."""
        self._stopping.set()

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Until it is told to stop. ``ready`` is called once connections are accepted."""
        core = self._mesh._core
        forwarder = Forwarder(core)
        listeners: list[Listener] = [Listener(sock, forwarder) for sock in self._outbound]
        if self._inbound:
            server = self._mesh._server()
            listeners += [InboundListener(each.sock, server, each.app) for each in self._inbound]
        self.listeners = listeners
        for listener in listeners:
            await listener.start()
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            for each in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread
                    loop.add_signal_handler(each, self.stop)
                    undo.callback(loop.remove_signal_handler, each)
            ready()
            await self._stopping.wait()
            for listener in listeners:
                listener.stop()
            drained = await asyncio.gather(*(listener.drained(self._settings.drain) for listener in listeners))
            if not all(drained):
                log.warning("requests were still under way after %g s of draining: broken off", self._settings.drain)
        await forwarder.close()


def run(
    mesh: Proxied,
    outbound: Sequence[socket.socket],
    settings: ProxySettings,
    ready: Callable[[], None],
    inbound: Sequence[Inbound] = (),
) -> None:
    """In this thread, on uvloop where it is installed."""

    async def work() -> None:
        await ProxyProcess(mesh, outbound, settings, inbound).run(ready)

    try:
        import uvloop
    except ImportError:
        asyncio.run(work())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())
