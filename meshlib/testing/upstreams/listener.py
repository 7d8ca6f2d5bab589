"""A port on loopback that can die and be revived, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")

TURNS = 8
"""Turns of the loop in which connections that were broken off close, and those behind them."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, no seconds."""


class LoopThread:
    """An event loop that runs in a daemon thread until ``close``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="meshlib-upstreams", daemon=True)
        self._lock = threading.Lock()
        self._closing = False
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, what: Coroutine[object, object, T]) -> T:
        """Run it there; this thread waits, for no longer than it takes. Raises RuntimeError after ``close``, and CancelledError
        if that comes between."""
        with self._lock:
            if self._closing:
                what.close()
                raise RuntimeError("the upstreams are closed")
            running = asyncio.run_coroutine_threadsafe(what, self.loop)
        return running.result()

    def close(self) -> None:
        """End whatever still runs there, and the thread."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for _ in range(TURNS):
                await asyncio.sleep(0)

        with self._lock:  # whatever was begun before is among the tasks
            self._closing = True
            ending = asyncio.run_coroutine_threadsafe(cancel_all(), self.loop)
        ending.result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Listener:
    """Accepts connections at ``port``, each with a protocol that ``make`` makes, while it ``listens``. All methods run on the
    loop, but for the constructor."""

    def __init__(self, make: Callable[[Listener], asyncio.Protocol]) -> None:
        self._make = make
        self._bound: socket.socket | None = self._bind(0)
        self.port: int = self._bound.getsockname()[1]
        self._server: asyncio.Server | None = None
        self.listens = False
        self.transports: set[asyncio.Transport] = set()

    @staticmethod
    def _bind(port: int) -> socket.socket:
        made = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio asks for it before it sets TCP_NODELAY
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made

    async def start(self) -> None:
        """Accept connections."""
        if self._server is None and self._bound is not None:
            loop = asyncio.get_running_loop()
            self.listens = True
            self._server = await loop.create_server(lambda: self._make(self), sock=self._bound, backlog=128)
            self._bound = None  # the server's now

    async def stop(self) -> None:
        """Refuse connections and break off those that are open. The port stays ours: bound, and nobody listens."""
        if self._server is not None:
            self.listens = False
            self._server.close()
            self._server = None
            self.break_all()
            self._bound = self._bind(self.port)

    async def close(self) -> None:
        """For good."""
        await self.stop()
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def opened(self, transport: asyncio.Transport) -> None:
        """To be told of each connection: one that came at the last moment is reset like the others."""
        self.transports.add(transport)
        if not self.listens:
            reset(transport)

    def break_all(self) -> None:
        """Reset all connections."""
        for transport in list(self.transports):
            reset(transport)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a RST: its peer is told that it broke, not that it ended."""
    ours = transport.get_extra_info("socket")
    if ours is not None and ours.fileno() >= 0:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
