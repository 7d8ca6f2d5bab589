"""A connection whose client says something before it is known what serves it: a header of the PROXY protocol, the first message
of TLS. Its listener keeps it as long as that takes, and cuts it off when it takes too long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from meshlib.alarms import Cancellable
    from meshlib.proxy.responder import Downstream
    from meshlib.proxy.slow_clients import Wait


class Greets(Protocol):
    """A connection whose client has not said everything yet. ``alarm`` rings when that has taken too long."""

    alarm: Cancellable | None
    transport: asyncio.Transport


class Waits(Protocol):
    """A listener that waits for what its clients say first."""

    def opened(self, connection: Downstream, /) -> None: ...
    def closed(self, connection: Downstream, /) -> None: ...
    def greeting(self, connection: Greets, /) -> None: ...
    def greeted(self, connection: Greets, /) -> None: ...


L = TypeVar("L", bound=Waits)


class FirstWords(asyncio.Protocol, Generic[L]):
    """Until they are all there, which ``data_received`` of who inherits decides."""

    def __init__(self, listener: L) -> None:
        self._listener = listener
        self._first = b""
        self.alarm: Cancellable | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._listener.opened(self)
        if not self.transport.is_closing():
            self._listener.greeting(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.greeted(self)
        self._listener.closed(self)

    # -- as a connection of its listener --------------------------------------------------------------------------------

    def drain(self) -> None:
        """It may still come to something, within the patience of its listener."""

    def waits(self) -> tuple[Wait, int] | None:
        """Its listener's patience is another one."""
        return None

    def give_up(self, wait: Wait) -> None:
        """It is not waited for any longer."""
        self.transport.abort()
