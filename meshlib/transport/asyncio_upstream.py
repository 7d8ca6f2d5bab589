"""Upstream connections on asyncio, from callbacks: no task and at most one timer per request on a kept-alive connection.

``Connection.start`` is the callback interface (the proxy's way in): a handler is told of head, body, end or failure and
may pause reading. ``AsyncioUpstream.send`` is a thin coroutine over it for callers that await.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

from meshlib.engine.outcome import Failure, Outcome, RawHeaders
from meshlib.transport.http1 import BodyFailed, InvalidHead, ResponseReader, encode_head
from meshlib.transport.request_body import ReplayBody, SourceFailed, frame, is_chunked, last_frame
from meshlib.transport.sync_upstream import CONTINUE_SECONDS, CUT_HEAD, _expects_continue, connect_problem
from meshlib.transport.target import Target, Timeouts, smaller
from meshlib.transport.tls import PeerNameMismatch, check_peer

HIGH_WATER = 256 * 1024  # unread bytes of an answer at which its connection stops reading
LOW_WATER = 64 * 1024


class Handler(Protocol):
    """Who is told what happens to a request. Exactly one of ``on_end`` and ``on_failure`` comes, and comes last."""

    def on_head(self, reader: ResponseReader) -> None:
        """The head is whole; ``reader`` has status, headers and the body bytes so far (``take``)."""

    def on_data(self, reader: ResponseReader) -> None:
        """More body bytes wait in ``reader``."""

    def on_end(self, reader: ResponseReader) -> None:
        """The answer is complete (after ``on_head``; the last bytes may still be in ``reader``)."""

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        """There will be no (more) answer."""

    def on_writable(self, writable: bool) -> None:
        """The connection can (or for now cannot) take more of the request's body."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: idle, or busy with one request."""

    __slots__ = (
        "_handler",
        "_head_sent",
        "_owner",
        "_reused",
        "closed",
        "idle_since",
        "opened",
        "reader",
        "requests",
        "target",
        "transport",
    )

    def __init__(self, owner: AsyncioUpstream, target: Target) -> None:
        self._owner = owner
        self.target = target
        self.transport: Any = None
        self.reader = ResponseReader()
        self.requests = 0
        self.opened = owner.loop.time()
        self.idle_since = 0.0
        self.closed = False
        self._handler: Handler | None = None
        self._head_sent = False
        self._reused = False

    # -- use --------------------------------------------------------------------------------------------------------

    def start(self, data: bytes, head_request: bool, handler: Handler) -> None:
        """Send the head (and whatever of the body is at hand) of a request; ``handler`` hears of its answer."""
        self._reused = self.requests > 0
        self.requests += 1
        self._head_sent = False
        self.reader.begin(head_request)
        self._handler = handler
        self.transport.write(data)

    def write(self, data: bytes) -> None:
        """More of the request's body."""
        if not self.closed:
            self.transport.write(data)

    def pause(self) -> None:
        """Stop reading: the answer's consumer is behind."""
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
        if self.transport is not None:
            self.transport.abort()

    def retire(self) -> None:
        """Close politely; for connections without a request."""
        self._handler = None
        self.closed = True
        self.transport.close()

    # -- asyncio's callbacks ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        handler = self._handler
        if handler is None:
            self.abort()  # idle connections have nothing to say: these bytes belong to no request
            return
        reader = self.reader
        reader.feed(data)
        if reader.error:
            self._fail(Failure.PROTOCOL_ERROR, reader.error, None)
            return
        if not reader.head_done:
            if reader.continue_seen:
                handler.on_writable(True)
            return
        if not self._head_sent:
            self._head_sent = True
            if reader.complete:
                self._finish(handler, with_head=True)
                return
            handler.on_head(reader)
        elif reader.complete:
            self._finish(handler, with_head=False)
        else:
            handler.on_data(reader)

    def eof_received(self) -> bool:
        return False  # close our side too: connection_lost follows

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        handler = self._handler
        if handler is None:
            self._owner.forget(self)
            return
        reader = self.reader
        if error is None and reader.feed_eof():
            self._handler = None
            if not self._head_sent:
                handler.on_head(reader)
            handler.on_end(reader)
            return
        if reader.head_done:
            what = f": {error}" if error else ""
            detail = f"the server closed the connection in the middle of the answer{what}"
        elif error is None and reader.begun:
            self._fail(Failure.PROTOCOL_ERROR, CUT_HEAD, None)
            return
        elif error is None:
            detail = "the server closed the connection without an answer"
        else:
            detail = f"the connection broke: {error}"
        self._fail(Failure.RESET, detail, error)

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.on_writable(False)

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.on_writable(True)

    # -- ends -------------------------------------------------------------------------------------------------------

    def _finish(self, handler: Handler, with_head: bool) -> None:
        self._handler = None
        # the connection is free before the handler runs, so that what it starts next can use it
        if with_head:
            handler.on_head(self.reader)
        handler.on_end(self.reader)

    def _fail(self, failure: Failure, detail: str, error: BaseException | None) -> None:
        handler, self._handler = self._handler, None
        stale = self._reused and not self.reader.begun
        self.closed = True
        self.transport.abort()
        if handler is not None:
            handler.on_failure(failure, detail, error, stale)


class AsyncioUpstream:
    """The connections of one event loop. Not thread-safe: it lives on its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self._idle: dict[Target, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    # -- connections ------------------------------------------------------------------------------------------------

    def take(self, target: Target) -> Connection | None:
        """An idle connection, None when there is none."""
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            now = self.loop.time()
            if now - connection.idle_since < target.idle_timeout and not _worn_out(connection, now):
                self._busy.add(connection)
                return connection
            connection.retire()
        return None

    async def connect(self, target: Target, limit: float | None) -> Connection:
        """A new connection, TLS done. Raises OSError, TimeoutError, PeerNameMismatch."""
        async with asyncio.timeout(limit):
            connection = Connection(self, target)
            options: dict[str, Any] = {}
            if target.tls is not None:
                options = {"ssl": target.tls, "server_hostname": target.server_hostname or target.host}
            try:
                if target.host.startswith("unix://"):
                    await self.loop.create_unix_connection(
                        lambda: connection, target.host.removeprefix("unix://"), **options
                    )
                else:
                    await self.loop.create_connection(lambda: connection, target.host, target.port, **options)
                if target.subject_alt_names:
                    check_peer(connection.transport.get_extra_info("peercert") or {}, target.subject_alt_names)
            except BaseException:
                connection.abort()
                raise
        sock = connection.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._busy.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """The answer is over: keep the connection if it is good for another."""
        self._busy.discard(connection)
        now = self.loop.time()
        if connection.closed:
            return
        if self._closed or not connection.reader.reusable or _worn_out(connection, now):
            connection.retire()
            return
        connection.idle_since = now
        target = connection.target
        idle = self._idle.get(target)
        if idle is None:
            idle = self._idle[target] = deque()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(target.idle_timeout, self._sweep)

    def drop(self, connection: Connection) -> None:
        """Give up a connection in use."""
        self._busy.discard(connection)
        connection.abort()

    def forget(self, connection: Connection) -> None:
        """An idle connection went away by itself."""
        idle = self._idle.get(connection.target)
        if idle is not None:
            try:
                idle.remove(connection)
            except ValueError:
                return
            if not idle:
                del self._idle[connection.target]

    def _sweep(self) -> None:
        self._sweeper = None
        now = self.loop.time()
        soonest: float | None = None
        for target in list(self._idle):
            idle = self._idle[target]
            while idle and (idle[0].closed or now - idle[0].idle_since >= target.idle_timeout):
                connection = idle.popleft()
                if not connection.closed:
                    connection.retire()
            if idle:
                soonest = smaller(soonest, idle[0].idle_since + target.idle_timeout)
            else:
                del self._idle[target]
        if soonest is not None and not self._closed:
            self._sweeper = self.loop.call_at(soonest, self._sweep)

    def idle_connections(self) -> int:
        """How many connections wait for use."""
        return sum(len(idle) for idle in self._idle.values())

    def close(self) -> None:
        """Close idle connections politely and drop those in use. Call it on the loop."""
        self._closed = True
        self.close_idle()
        for connection in list(self._busy):
            self.drop(connection)

    def close_idle(self) -> None:
        """Close the connections that wait for use. Call it on the loop."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for idle in self._idle.values():
            for connection in idle:
                if not connection.closed:
                    connection.retire()
        self._idle.clear()

    # -- one exchange -----------------------------------------------------------------------------------------------

    async def send(
        self,
        method: bytes,
        url_target: bytes,
        headers: RawHeaders,
        body: bytes | ReplayBody | None,
        target: Target,
        timeouts: Timeouts,
        clock_now: float,
    ) -> Outcome:
        """One attempt. Failures are values; cancellation aborts the connection and is raised.

        ``clock_now`` is the mesh clock's present, against which ``timeouts.deadline`` is read.
        """
        try:
            data = encode_head(method, url_target, headers)
        except InvalidHead as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        loop = self.loop
        began = loop.time()
        connection = self.take(target)
        if connection is None:
            limit = smaller(smaller(target.connect_timeout, timeouts.connect), timeouts.head)
            try:
                connection = await self.connect(target, limit)
            except TimeoutError as error:
                if timeouts.head is not None and limit == timeouts.head:
                    return Outcome(Failure.TIMEOUT, f"no connection to {target} within the {limit:.3g} s left", error)
                return Outcome(Failure.CONNECT_TIMEOUT, f"no connection to {target} within {limit:g} s", error)
            except socket.gaierror as error:
                return Outcome(Failure.CONNECT_FAILED, f"the name {target.host} was not found: {error.strerror}", error)
            except (OSError, ssl.SSLError, PeerNameMismatch) as error:
                return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)
        pending = _Pending(self, connection, loop, timeouts, began - clock_now)
        stream = None
        if body is not None:
            if type(body) is bytes and not _expects_continue(headers):
                data += frame(body, True) + last_frame(True) if is_chunked(headers) else body
            else:
                stream = body
        connection.start(data, method == b"HEAD", pending)
        timer = None
        if timeouts.head is not None:
            timer = loop.call_at(began + timeouts.head, pending.head_timed_out)
        try:
            if stream is not None:
                problem = await pending.send_body(stream, headers)
                if problem is not None:
                    pending.abort()
                    return problem
            return await pending.outcome
        except BaseException:
            pending.abort()  # not drop: an answer that is over has given the connection back, maybe to another call
            raise
        finally:
            if timer is not None:
                timer.cancel()


class _Pending:
    """The handler of one awaited request, and afterwards the body of its answer."""

    __slots__ = (
        "_buffered",
        "_chunks",
        "_clock_offset",
        "_connection",
        "_ended",
        "_failed",
        "_paused",
        "_sending",
        "_timeouts",
        "_upstream",
        "_waiter",
        "_writable",
        "outcome",
    )

    def __init__(
        self,
        upstream: AsyncioUpstream,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        timeouts: Timeouts,
        clock_offset: float,
    ) -> None:
        self._upstream = upstream
        self._connection = connection
        self._timeouts = timeouts
        self._clock_offset = clock_offset
        self.outcome: asyncio.Future[Outcome] = loop.create_future()
        self._waiter: asyncio.Future[bool] | None = None
        self._writable = True
        self._sending = False
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._ended = False
        self._failed: BodyFailed | None = None

    # -- Handler ----------------------------------------------------------------------------------------------------

    def on_head(self, reader: ResponseReader) -> None:
        if self.outcome.done():
            return
        outcome = Outcome(
            status=reader.status, reason=reader.reason, headers=reader.headers, http_version=reader.http_version
        )
        if self._sending:
            reader.poisoned = True  # an answer before the request was over: what is left of it was never sent
        if reader.complete:
            outcome.whole = reader.take()
        else:
            outcome.body = AsyncBody(self)
            self._keep(reader.take())
        self.outcome.set_result(outcome)
        self._wake()

    def on_data(self, reader: ResponseReader) -> None:
        self._keep(reader.take())
        self._wake()

    def on_end(self, reader: ResponseReader) -> None:
        self._keep(reader.take())
        self._ended = True
        self._upstream.release(self._connection)
        self._wake()

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        self._upstream._busy.discard(self._connection)
        if not self.outcome.done():
            self.outcome.set_result(Outcome(failure, detail, error, stale=stale))
        else:
            self._failed = BodyFailed(failure, detail)
        self._ended = True
        self._wake()

    def on_writable(self, writable: bool) -> None:
        self._writable = writable
        if writable:
            self._wake()

    def head_timed_out(self) -> None:
        """The timer of the head."""
        if not self.outcome.done():
            self._upstream.drop(self._connection)
            head = self._timeouts.head or 0.0
            self.outcome.set_result(Outcome(Failure.TIMEOUT, f"no answer within {head:.3g} s"))
            self._ended = True
            self._wake()

    # -- the request's body -----------------------------------------------------------------------------------------

    async def send_body(self, body: bytes | ReplayBody, headers: RawHeaders) -> Outcome | None:
        """Send until the body ends or an answer comes. An Outcome when sending itself failed."""
        chunked = is_chunked(headers)
        self._sending = True
        if _expects_continue(headers):
            self._writable = False
            await self._wait(CONTINUE_SECONDS)
            self._writable = True
        try:
            if isinstance(body, bytes):
                if not self.outcome.done():
                    self._connection.write(frame(body, chunked))
            else:
                async for chunk in body:
                    if self.outcome.done():
                        return None
                    self._connection.write(frame(chunk, chunked))
                    while not self._writable and not self.outcome.done():
                        if not await self._wait(self._timeouts.write):
                            detail = f"the request could not be written within {self._timeouts.write} s"
                            return Outcome(Failure.WRITE_TIMEOUT, detail)
        except SourceFailed as error:
            return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
        if not self.outcome.done():
            end = last_frame(chunked)
            if end:
                self._connection.write(end)
            self._sending = False
        return None

    async def _wait(self, seconds: float | None) -> bool:
        """Until something happens; False when ``seconds`` pass first."""
        if self.outcome.done() and self._ended:
            return True
        waiter = self._waiter = self._upstream.loop.create_future()
        timer = None if seconds is None else self._upstream.loop.call_later(max(0.0, seconds), self._wake_late)
        try:
            happened: bool = await waiter
            return happened
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    def _wake_late(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(False)

    # -- the answer's body ------------------------------------------------------------------------------------------

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self._connection.pause()

    async def next_chunk(self) -> bytes:
        """Some bytes of the body, b"" at its end. Raises ``BodyFailed``."""
        while not self._chunks:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                return b""
            wait = self._timeouts.read
            if self._timeouts.deadline is not None:
                left = self._timeouts.deadline + self._clock_offset - self._upstream.loop.time()
                if left <= 0:
                    raise BodyFailed(Failure.TIMEOUT, "the route's timeout passed in the middle of the answer")
                if wait is None or left < wait:
                    if not await self._wait(left):
                        raise BodyFailed(Failure.TIMEOUT, "the route's timeout passed in the middle of the answer")
                    continue
            if not await self._wait(wait):
                raise BodyFailed(
                    Failure.TIMEOUT, f"the caller's read timeout of {wait} s passed in the middle of the answer"
                )
        data = self._chunks.popleft()
        self._buffered -= len(data)
        if self._paused and self._buffered < LOW_WATER:
            self._paused = False
            self._connection.resume()
        return data

    def abort(self) -> None:
        """Drop the rest of the answer, and the connection unless the answer is over."""
        if not self._ended:
            self._ended = True
            self._upstream.drop(self._connection)
        self._chunks.clear()


class AsyncBody:
    """The rest of an answer's body. Iterate to its end and the connection can be used again; ``aclose`` before and it is
    closed. Raises ``BodyFailed`` when it is cut."""

    __slots__ = ("_pending",)

    def __init__(self, pending: _Pending) -> None:
        self._pending = pending

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pending = self._pending
        try:
            while data := await pending.next_chunk():
                yield data
        except BaseException:
            pending.abort()
            raise

    def abort(self) -> None:
        """Drop the answer and its connection."""
        self._pending.abort()

    async def aclose(self) -> None:
        """Drop what was not read."""
        self._pending.abort()

    def __del__(self) -> None:
        pending = self._pending
        if not pending._ended and not pending._upstream.loop.is_closed():
            # dropped without being read or closed, perhaps by another thread's garbage collector
            pending._upstream.loop.call_soon_threadsafe(pending.abort)


def _worn_out(connection: Connection, now: float) -> bool:
    target = connection.target
    if target.max_requests and connection.requests >= target.max_requests:
        return True
    return target.max_duration is not None and now - connection.opened >= target.max_duration
