"""The end of a connection whose client may still be sending.

A socket that is closed with unread bytes in it, or that more arrive at, resets the connection, and the reset takes with it
what the client has not read yet: the response or the GOAWAY that says why. So the sending side is closed alone, what still
comes is read and dropped, and the rest follows when the client closes its side, or after ``LINGER`` (Envoy's
delayed_close_timeout; nginx calls it lingering_close). TLS has no such half: there, the client is told at the end.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from meshlib.serving.joined_writes import JoinedWrites

LINGER = 1.0
"""Seconds that are read on for, once the client has been sent everything."""


class Owner(Protocol):
    """Who has read the connection until now."""

    def connection_lost(self, error: Exception | None, /) -> None: ...


class Leaving(asyncio.Protocol):
    """Closes ``transport``. Its owner holds this for its transport from now on, one that is closing, and is told when the
    connection is gone."""

    __slots__ = ("_loop", "_owner", "_timer", "_transport")

    def __init__(self, transport: Any, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._owner: Owner | None = owner
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        if transport.is_closing():
            return  # its owner will be told as it is
        transport.set_protocol(self)
        if transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:  # the client has gone
                transport.close()
                return
        elif isinstance(transport, JoinedWrites):
            transport.flush()  # the client may have closed its side already, and this side is closed with it
        transport.resume_reading()
        self._timer = loop.call_later(LINGER, self._waited)

    def _waited(self) -> None:
        if self._transport.get_write_buffer_size():  # how slowly it may take that is for ``slow_clients.py`` to say
            self._timer = self._loop.call_later(LINGER, self._waited)
        else:
            self._transport.close()

    # -- asyncio's callbacks --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Nobody wants it."""

    def eof_received(self) -> bool:
        return False  # which closes the transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        owner, self._owner = self._owner, None  # they refer to each other
        if owner is not None:
            owner.connection_lost(error)

    # -- what is left of the transport ----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Nothing is sent any more."""
        return True

    def write(self, data: bytes) -> None:
        """As by a transport that is closing."""

    def close(self) -> None:
        """It does."""

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """All that comes is read."""

    def resume_reading(self) -> None:
        """It is."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has yet to take."""
        size: int = self._transport.get_write_buffer_size()
        return size

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport knows."""
        return self._transport.get_extra_info(name, default)
