"""Joins what a protocol writes in one turn of the loop. A server writes the head of a response and its body apart, and each
write over TLS is a record and a send of its own: joined they cost half. Without TLS, too, what is written at the end of a turn
wakes fewer readers (``transport/upstream/loop_turn.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, cast

MOST = 16_384
"""Bytes that are kept for the end of the turn, a whole TLS record: with more it is written at once, so that what fills the
transport's buffer is paused as early as without this. A whole response waits as well: written at once it costs the proxy
150 steps of bytecode less and yet more CPU (1.06 and 1.15 of it, with 16 connections), as clients wake one by one."""

Bytes = bytes | bytearray | memoryview


class Soon(Protocol):
    """A loop, or its ``Turn``."""

    def call_soon(self, function: Callable[[], None], /) -> object: ...


class JoinedWrites(asyncio.Transport):
    """``transport`` with its writes joined: nothing is kept for longer than this turn of ``loop``. Closing writes what is kept,
    aborting drops it."""

    __slots__ = ("_kept", "_size", "_soon", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: Soon) -> None:
        # not asyncio's __init__: what it keeps, the extra information, the transport has
        self._transport = transport
        self._soon = loop.call_soon
        self._kept: list[bytes] = []
        self._size = 0  # of all of those but the first

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, data: Bytes) -> None:
        """At the end of this turn, or before."""
        kept = self._kept
        if not kept:
            if len(data) >= MOST:
                self._transport.write(data)
                return
            kept.append(data if type(data) is bytes else bytes(data))  # its owner may change any other
            self._soon(self.flush)
            return
        kept.append(data if type(data) is bytes else bytes(data))
        self._size = size = self._size + len(kept[-1])
        if size + len(kept[0]) >= MOST:
            self.flush()

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        """All of them."""
        self.write(b"".join(list_of_data))

    def flush(self) -> None:
        """Write what is kept now."""
        kept = self._kept
        try:
            if len(kept) == 1:
                self._transport.write(kept.pop())
            elif kept:
                joined = b"".join(kept)
                self.drop()
                self._transport.write(joined)
        except RuntimeError:  # of uvloop, where the peer has gone in this turn: asyncio's transports drop it
            if not self._transport.is_closing():
                raise

    def write_eof(self) -> None:
        """After what was written."""
        self.flush()
        self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def get_write_buffer_size(self) -> int:
        """Bytes, with those that are kept."""
        return sum(map(len, self._kept)) + self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    # -- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """When all that was written has been sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Now."""
        self.drop()
        self._transport.abort()

    def drop(self) -> None:
        """What is kept: nobody is there to read it."""
        self._kept.clear()
        self._size = 0

    def own(self) -> asyncio.Transport:
        """The transport itself, from here on."""
        self.flush()
        return self._transport

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    # -- reading, and whom it is for ---------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return cast("object", self._transport.get_extra_info(name, default))
