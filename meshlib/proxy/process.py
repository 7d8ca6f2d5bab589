"""A proxy at work: a mesh, its listeners, and the signals that stop it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from meshlib.proxy.forward import Forwarder
from meshlib.proxy.listener import Listener

if TYPE_CHECKING:
    from meshlib.transport.core.mesh_core import MeshCore

log = logging.getLogger("meshlib.proxy")


class Proxied(Protocol):
    """A ``Mesh``."""

    _core: MeshCore

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """``drain``: seconds that requests under way have once the proxy is told to stop (Istio's terminationDrainDuration)."""

    drain: float = 5.0


class ProxyProcess:
    """Forwards what comes on ``outbound``, which listens already, by ``mesh``."""

    def __init__(self, mesh: Proxied, outbound: socket.socket, settings: ProxySettings = ProxySettings()) -> None:
        self._mesh = mesh
        self._sock = outbound
        self._settings = settings
        self._stopping = asyncio.Event()
        self.listener: Listener | None = None

    def stop(self) -> None:
        """Drain and end."""
        self._stopping.set()

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Until it is told to stop. ``ready`` is called once connections are accepted."""
        forwarder = Forwarder(self._mesh._core)
        self.listener = listener = Listener(self._sock, forwarder)
        await listener.start()
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            for each in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread
                    loop.add_signal_handler(each, self.stop)
                    undo.callback(loop.remove_signal_handler, each)
            ready()
            await self._stopping.wait()
            listener.stop()
            if not await listener.drained(self._settings.drain):
                log.warning("requests were still under way after %g s of draining: broken off", self._settings.drain)
        await forwarder.close()


def run(mesh: Proxied, outbound: socket.socket, settings: ProxySettings, ready: Callable[[], None]) -> None:
    """In this thread, on uvloop where it is installed."""

    async def work() -> None:
        await ProxyProcess(mesh, outbound, settings).run(ready)

    try:
        import uvloop
    except ImportError:
        asyncio.run(work())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())
