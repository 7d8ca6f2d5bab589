"""A connection of an event loop on a transport that is none, and whoever lent it: no loop runs, no socket is open."""

from __future__ import annotations

import asyncio

from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.upstream.loop_connection import Connection
from meshlib.transport.upstream.target import Target

TARGET = Target("127.0.0.1", 80)


class Transport(asyncio.Transport):
    """Keeps what is written; ``calls`` are the others, in their order. ``unsent``: bytes that the system has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.calls: list[str] = []
        self.unsent = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")


class Deadlines:
    """One wait at a time: ``ring`` ends it."""

    def __init__(self) -> None:
        self.rings: list = []

    def add(self, ring, at: float) -> None:
        self.rings.append(ring)

    def discard(self, ring) -> None:
        self.rings.remove(ring)


class LoopLender:
    """A ``Lender`` of one connection. ``fates`` is what became of it."""

    reader = ResponseReader
    turn = None

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, target: Target = TARGET) -> None:
        self.loop = loop
        self.now = lambda: 0.0
        self.deadlines = Deadlines()
        self.fates: list[str] = []
        self.connection = Connection(self, target)
        self.transport = Transport()
        self.connection.connection_made(self.transport)

    def release(self, connection: Connection) -> None:
        self.fates.append("released")

    def drop(self, connection: Connection) -> None:
        self.fates.append("dropped")
        connection.abort()

    def forget(self, connection: Connection) -> None:
        self.fates.append("forgotten")

    def lost(self, connection: Connection) -> None:
        self.fates.append("lost")
