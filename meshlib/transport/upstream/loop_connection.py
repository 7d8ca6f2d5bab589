"""One HTTP/1.1 connection on asyncio, driven by callbacks: no task, no timer of its own.

``Connection.start`` is the callback interface (the proxy's way in): a handler is told of head, body, end or failure and
may pause reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.engine.outcome import Failure
from meshlib.problems import said
from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.protocol.raw_head import Headers
from meshlib.transport.upstream.loop_deadlines import Deadlines
from meshlib.transport.upstream.loop_turn import Turn
from meshlib.transport.upstream.mutual import MutualTls, keep_session, vouched_of
from meshlib.transport.upstream.network_stream import AsyncPooledStream
from meshlib.transport.upstream.problems import BODY_CUT, CUT_HEAD, NO_RESPONSE, broke_at_first
from meshlib.transport.upstream.target import Target

if TYPE_CHECKING:
    from meshlib.identity.servers import Vouched
    from meshlib.policy.circuit_limits import Slots

CLOSING_TURNS = 4
"""Turns of a loop until connections that were closed politely hold no socket any more, TLS ones included."""


def close_politely(transport: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Close an idle connection. Over TLS the server is told (close_notify) and not waited for: asyncio would keep the socket
    for up to 30 seconds until it says the same."""
    if transport.is_closing():
        return  # it is lost: a TLS transport of asyncio that is closed twice knows nothing any more
    transport.close()
    if transport.get_extra_info("ssl_object") is not None:
        loop.call_soon(transport.abort)


async def closed() -> None:
    """Let the running loop finish with connections that were just closed."""
    for _ in range(CLOSING_TURNS):
        await asyncio.sleep(0)


class Handler(Protocol):
    """Who is told what happens to a request. Exactly one of ``on_end`` and ``on_failure`` comes, and comes last."""

    def on_head(self, reader: ResponseReader) -> None:
        """The head is whole; ``reader`` has status, headers and the body bytes so far (``take``)."""

    def on_data(self, reader: ResponseReader) -> None:
        """More body bytes wait in ``reader``."""

    def on_end(self, reader: ResponseReader) -> None:
        """The response is complete (after ``on_head``; the last bytes may still be in ``reader``)."""

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        """There will be no (more) response."""

    def on_writable(self, writable: bool) -> None:
        """The system has (or for now has not) taken all of the request that was written."""

    def on_interim(self, reader: ResponseReader) -> None:
        """An interim response (100, 103) may have come; the final one has not."""


class Lender(Protocol):
    """Whose a connection is: lends it for one request, and takes it back."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    deadlines: Deadlines
    turn: Turn | None
    reader: type[ResponseReader]

    def release(self, connection: Connection) -> None:
        """The response is over: keep the connection if it is good for another."""

    def drop(self, connection: Connection) -> None:
        """Give up a connection in use."""

    def forget(self, connection: Connection) -> None:
        """An idle connection went away by itself."""

    def lost(self, connection: Connection) -> None:
        """A connection in use is no longer one of HTTP/1.1, or none at all."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: idle, or busy with one request."""

    __slots__ = (
        "_handler",
        "_head_sent",
        "_unwritten",
        "closed",
        "idle_since",
        "lender",
        "lost_by",
        "opened",
        "reader",
        "requests",
        "slot",
        "stream",
        "target",
        "tls",
        "transport",
    )

    def __init__(self, lender: Lender, target: Target) -> None:
        self.lender = lender
        self.target = target
        self.transport: Any = None
        self.lost_by: Exception | None = None
        self.tls: object = None  # what asyncio calls the "ssl_object"
        self.reader = lender.reader()
        self.requests = 0
        self.opened = lender.now()
        self.idle_since = 0.0
        self.closed = False
        self.slot: Slots | None = None  # that the client's limits gave it, while it is in use
        self.stream: AsyncPooledStream | None = None
        self._handler: Handler | None = None
        self._head_sent = False
        self._unwritten = b""  # a request that goes out when the loop's turn ends

    vouched: Vouched | None = None
    leaving = False
    """What it stands on, of ``MutualConnection``, and whether it takes no new call (``target.UsedByOne``)."""

    def leave(self) -> None:
        """Take no new call."""

    def admitted(self) -> None:
        """The connection is made and its server is one that may be spoken to."""

    # -- use --------------------------------------------------------------------------------------------------------

    def start(self, data: bytes, head_request: bool, handler: Handler, headers: Headers) -> None:
        """Send the head (and whatever of the body is at hand) of a request; ``handler`` gets its response. ``headers`` are the
        request's."""
        self.requests = requests = self.requests + 1
        if requests == 2:
            self._used_once()
        self._head_sent = False
        self.reader.begin(head_request)
        self.reader.request_headers = headers
        self._handler = handler
        turn = self.lender.turn
        if turn is None:
            self.transport.write(data)
        else:
            self._unwritten = data
            turn.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is kept now."""
        data, self._unwritten = self._unwritten, b""
        if data and not self.closed:
            self.transport.write(data)

    def _used_once(self) -> None:
        """Its first request is over, and the second begins."""

    def write(self, data: bytes | memoryview) -> None:
        """More of the request's body."""
        if data and not self.closed:
            if self._unwritten:
                self.flush()
            self.transport.write(data)

    def unsent(self) -> int:
        """Bytes that were written and that the system has not taken yet."""
        size: int = self.transport.get_write_buffer_size()
        return size + len(self._unwritten)

    def pause(self) -> None:
        """Stop reading: the response's consumer is behind."""
        if not self.closed:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self.closed:
            self.transport.resume_reading()

    def abort(self) -> None:
        """Give up the request (if any) and the connection; the handler hears nothing more."""
        self._handler = None
        self.closed = True
        if self.slot is not None:
            self.give_slot_back()
        if self.transport is not None:
            self.transport.abort()

    def unmade(self) -> None:
        """It has come to nothing before its first request. (asyncio need not say that it is lost, and what refers to each other
        here would stay for the garbage collector.)"""
        self.abort()
        self.reader.over()
        self.transport = self.stream = None

    def hear(self, handler: Handler) -> None:
        """The request that is under way, if any, has this handler from now on."""
        if self._handler is not None:
            self._handler = handler

    def leave_http(self) -> None:
        """The request is over, and with it HTTP: somebody else has the transport, and the handler hears nothing more."""
        self._handler = None

    def left(self) -> None:
        """What came after HTTP is over, too."""
        self.lender.lost(self)
        self.closed = True
        self.give_slot_back()

    def give_slot_back(self) -> None:
        """The connection is in use no longer."""
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()

    def break_off(self, failure: Failure, detail: str) -> None:
        """Give up the request and the connection; the handler is told."""
        handler = self._handler
        self.abort()
        if handler is not None:
            handler.on_failure(failure, detail, None, False)

    def retire(self) -> None:
        """Close politely; for connections without a request."""
        self._handler = None
        self.closed = True
        if self.slot is not None:
            self.give_slot_back()
        if self.unsent():
            self.transport.abort()  # of a request whose response is over: the server shall not hold the socket
        else:
            close_politely(self.transport, self.lender.loop)

    # -- asyncio's callbacks ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.tls = transport.get_extra_info("ssl_object")
        # tell of every byte that the system does not take at once (asyncio's TLS would take 0 for "always")
        self.transport.set_write_buffer_limits(high=0 if self.target.tls is None else 1, low=0)
        self.stream = AsyncPooledStream(transport, self.reader)

    def data_received(self, data: bytes) -> None:
        handler = self._handler
        if handler is None:
            self.abort()  # idle connections have nothing to say: these bytes belong to no request
            return
        reader = self.reader
        if self._unwritten:  # nobody's, as of an idle connection: the request has not gone out, and goes to another one
            self._unwritten = b""
            self._fail(Failure.RESET, NO_RESPONSE, None)
            return
        reader.feed(data)
        if reader.error:
            self._fail(Failure.PROTOCOL_ERROR, reader.error, None)
            return
        if not reader.head_done:
            handler.on_interim(reader)
            return
        if not self._head_sent:
            self._head_sent = True
            if reader.complete:
                # the connection is free before the handler runs, so that what it starts next can use it
                self._handler = None
                handler.on_head(reader)
                handler.on_end(reader)
                return
            handler.on_head(reader)
        elif reader.complete:
            self._handler = None
            handler.on_end(reader)
        else:
            handler.on_data(reader)

    def eof_received(self) -> bool:
        return False  # close our side too: connection_lost follows

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.reader.over()
        if self.slot is not None:
            self.give_slot_back()
        handler = self._handler
        if handler is None:
            self.lost_by = error
            self.lender.forget(self)
            return
        reader = self.reader
        if error is None and reader.feed_eof():
            self._handler = None
            if not self._head_sent:
                handler.on_head(reader)
            handler.on_end(reader)
            return
        if reader.head_done:
            what = f": {said(error)}" if error else ""
            detail = f"{BODY_CUT}{what}"
        elif error is None and reader.begun:
            self._fail(Failure.PROTOCOL_ERROR, CUT_HEAD, None)
            return
        elif error is None:
            detail = NO_RESPONSE
        elif self.requests == 1 and not reader.begun:
            broken = broke_at_first(self.target, self.tls, error)
            self._fail(broken.failure or Failure.RESET, broken.detail, error)
            return
        else:
            detail = f"the connection broke: {said(error)}"
        self._fail(Failure.RESET, detail, error)

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.on_writable(False)

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.on_writable(True)

    # -- ends -------------------------------------------------------------------------------------------------------

    def _fail(self, failure: Failure, detail: str, error: BaseException | None) -> None:
        handler, self._handler = self._handler, None
        stale = self.requests > 1 and not self.reader.begun
        self.closed = True
        self.transport.abort()
        if handler is not None:
            handler.on_failure(failure, detail, error, stale)


class MutualConnection(Connection):
    """Over mTLS of the mesh: its session is kept, as soon as it has one, for the next handshake. Others pay nothing for it."""

    __slots__ = ("_kept", "leaving", "vouched")

    def __init__(self, lender: Lender, target: Target) -> None:
        super().__init__(lender, target)
        self.vouched = None
        self.leaving = True
        self._kept = False

    def admitted(self) -> None:
        """The server has been judged."""
        self.vouched = vouched_of(self.tls)
        self.leaving = self.vouched is None

    def leave(self) -> None:
        """Take no new call."""
        self.leaving = True

    def _used_once(self) -> None:
        self._keep_session()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._kept:
            self._keep_session()
        super().connection_lost(error)

    def _keep_session(self) -> None:
        self._kept = True
        keep_session(self.target.tls, self.tls)


def connection_to(target: Target, lender: Lender) -> Connection:
    """A connection that is to be made."""
    return (MutualConnection if isinstance(target.tls, MutualTls) else Connection)(lender, target)
