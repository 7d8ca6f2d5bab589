"""A connection that has been accepted and is not served yet: its client has not said its first byte, or not ended its
handshake.

Its transport reads what is said first, and goes on with whatever serves it then. To look at the first byte before there is a
transport would be a watch of the loop's and a turn more for each connection. Where it is TLS, this is the TLS as well: to give
a transport another protocol has uvloop watch its socket anew, three calls of the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from meshlib.transport.upstream.loop_tls import LoopTls

if TYPE_CHECKING:
    from meshlib.alarms import Cancellable
    from meshlib.transport.upstream.tls import Wraps


class _Over:
    """The handshake of what is not TLS, or not yet."""

    def done(self) -> bool:
        """Nothing is to be done for it."""
        return True


_NONE: Any = _Over()


class Unheard(LoopTls):
    """``heard``: what its client has said first, at least a byte; ``silent``: it has gone without. A port that looks at
    connections itself (``acceptor.py``: those with a judge) does not have it ``listen``."""

    __slots__ = (
        *("_connecting", "_heard", "_silent", "closed", "late", "seen", "sock", "transport", "under_way", "until"),
        "watched",
    )

    def __init__(
        self, sock: socket.socket, heard: Callable[[Unheard, bytes], None], silent: Callable[[Unheard], None]
    ) -> None:
        # what LoopTls keeps is made when it is TLS; until then its data_received comes to ``_first``
        self._made = False
        self._took: Any = self._first
        self.handshake = _NONE
        self.sock = sock
        self._heard = heard
        self._silent = silent
        self._connecting: Coroutine[Any, Any, Any] | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.under_way: asyncio.Future[None] | None = None  # its handshake, or the task that hands it on
        self.until = 0.0  # when it is waited for no longer, by the clock of alarms
        self.late: Cancellable | None = None  # the same for a judge alone, before that
        self.watched = False
        self.seen = 0  # bytes that were looked at and did not tell

    @property
    def peer(self) -> str:
        """Its address, for people."""
        try:
            name = self.sock.getpeername()
        except OSError:
            return "a client"
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "a client of the unix socket"

    def unread(self) -> bool:
        """Whether its client has said something that nobody has read yet."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    # -- connecting ----------------------------------------------------------------------------------------------------

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a transport read what its client says first. Raises OSError: it is gone."""
        self.connect(loop, self)

    def connect(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        """Begin; ``protocol`` has the transport. Without a task: ``connected`` goes on. Raises OSError: it is gone."""
        connecting = loop.connect_accepted_socket(lambda: protocol, self.sock)
        connecting.send(None)
        self._connecting = connecting

    def connected(self) -> None:
        """Let what connects end; its transport is there. Raises OSError: it is gone."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            with contextlib.suppress(StopIteration):
                connecting.send(None)

    # -- of the transport, as long as it listens --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # uvloop's are no subclass
        if self.closed:  # in the turn in which it began; what connects has a turn to go
            asyncio.get_running_loop().call_soon(transport.abort)  # type: ignore[attr-defined]

    def _first(self, data: bytes) -> None:
        """In place of the ``_took`` of TLS."""
        if not self.closed:
            self.connected()
            self._heard(self, data)

    def eof_received(self) -> bool:
        return self.handshake is not _NONE and super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        if self.handshake is not _NONE:
            super().connection_lost(error)
            return
        self.connected()
        self.transport = self._took = None
        self._silent(self)

    # -- what becomes of it ---------------------------------------------------------------------------------------------

    def secure(self, loop: asyncio.AbstractEventLoop, inner: asyncio.Protocol, wraps: Wraps, data: bytes) -> None:
        """Be the TLS of ``inner``; the handshake begins when who was given ``data`` returns. Raises OSError."""
        transport = self.transport
        assert transport is not None
        super().__init__(loop, inner, wraps, None)
        self.transport = None
        super().connection_made(transport)
        self._took(data)

    def pass_on(self, protocol: asyncio.Protocol, data: bytes) -> None:
        """To what serves it, with what was read."""
        transport, self.transport = self.transport, None
        self._took = None  # which refers to this
        assert transport is not None
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_closing():
            protocol.data_received(data)

    def drop(self) -> None:
        """Without a word."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()
        elif self._connecting is None:
            self.sock.close()
