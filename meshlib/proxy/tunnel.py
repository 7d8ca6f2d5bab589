"""Bytes both ways between a client and an upstream that have left HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from meshlib.transport.upstream.switched import AsyncSwitched

AHEAD = 256 * 1024
"""Bytes of a client that wait for the upstream until the client is no longer read."""
READ = 64 * 1024
LINGER = 5.0
"""Seconds that an upstream has to take what a client that has gone said last."""


class Leaves(Protocol):
    """What the bytes of a connection go through that speaks HTTP no more: a ``Tunnel`` or a ``ConnectTunnel``."""

    def received(self, data: bytes) -> None:
        """From the client."""
        ...

    def ended(self) -> bool:
        """The client sends no more. Whether it may still be written to."""
        ...

    def writable(self, writable: bool) -> None:
        """Whether the client takes what is written."""
        ...

    def lost(self) -> None:
        """The client has gone."""
        ...


class Tunnel:
    """Between ``downstream``, a transport, and ``upstream``. Whichever ends first ends the other, when what it has sent is
    written."""

    __slots__ = (
        "_downstream",
        "_drained",
        "_ended",
        "_loop",
        "_paused",
        "_size",
        "_tasks",
        "_to_send",
        "_upstream",
        "_woken",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, downstream: Any, upstream: AsyncSwitched) -> None:
        self._loop = loop
        self._downstream = downstream
        self._upstream = upstream
        self._to_send: list[bytes] = []
        self._size = 0
        self._paused = self._ended = False
        self._woken = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._tasks = [loop.create_task(self._up()), loop.create_task(self._down())]

    def received(self, data: bytes) -> None:
        """From the client."""
        self._to_send.append(data)
        self._size += len(data)
        self._woken.set()
        if self._size > AHEAD and not self._paused:
            self._paused = True
            self._downstream.pause_reading()

    def ended(self) -> bool:
        """The client sends no more, and so, as in Envoy, wants no more."""
        return False

    def writable(self, writable: bool) -> None:
        """Whether the client takes what is written."""
        if writable:
            self._drained.set()
        else:
            self._drained.clear()

    def lost(self) -> None:
        """The client has gone."""
        self._ended = True
        self._woken.set()
        self._drained.set()
        self._loop.call_later(LINGER, self._give_up)

    def _give_up(self) -> None:
        """An upstream that reads no more would keep its connection, and the request that is served there, for ever."""
        for task in self._tasks:
            task.cancel()

    async def _up(self) -> None:
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                data = b"".join(self._to_send)
                self._to_send.clear()
                self._size = 0
                if data:
                    await self._upstream.write(data, None)
                if self._paused and not self._ended:
                    self._paused = False
                    self._downstream.resume_reading()
                if self._ended and not self._to_send:
                    break
        except OSError:
            pass  # it has gone: the other direction finds the same
        finally:
            await self._upstream.aclose()

    async def _down(self) -> None:
        try:
            while data := await self._upstream.read(READ, None):
                self._downstream.write(data)
                await self._drained.wait()
                if self._ended:
                    return
        except OSError:
            pass  # the upstream has gone, which is how a tunnel ends
        finally:
            self._downstream.close()
