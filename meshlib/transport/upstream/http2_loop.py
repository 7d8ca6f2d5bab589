"""HTTP/2 connections of one event loop, driven by callbacks: no task but the one that makes a connection, which belongs
to no call, so that cancelling a call never takes a connection from the others."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any

from meshlib.alarms import wake
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome, RawHeaders
from meshlib.transport.protocol.framing import Framing
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_codec import Head, preferred
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import ReplayBody, SourceFailed
from meshlib.transport.protocol.request_head import InvalidHead
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.beside import LoopBeside
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_call import (
    FLUSH,
    NEXT,
    Step,
    copy_of,
    exchange,
    greeting_problem,
    next_chunk,
    no_streams,
    too_late,
)
from meshlib.transport.upstream.loop_connection import close_politely
from meshlib.transport.upstream.network_stream import AsyncPooledStream
from meshlib.transport.upstream.problems import MESH_CLOSED, connect_problem, mesh_closed, no_slot
from meshlib.transport.upstream.target import Target, worn_out
from meshlib.transport.upstream.tls import HTTP2_OR_1, PeerNameMismatch
from meshlib.transport.upstream.trace import Notes

if TYPE_CHECKING:
    from meshlib.policy.circuit_limits import Slots

BACKLOG_MOST = 4 * 1024 * 1024  # bytes that a server leaves unread before it counts as hostile
UNUSED_SECONDS = (
    1.0  # how long a new connection waits for its first call, whatever the client's limits say of idle ones
)
HTTP1_SECONDS = 300.0  # how long a server that chose HTTP/1.1 is not offered HTTP/2


class Waiter:
    """The task of one call: what it awaits, and whether its stream has changed since it looked."""

    __slots__ = ("_future", "_loop", "changed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] | None = None
        self.changed = False

    def wake(self) -> None:
        """The stream's ``wake``."""
        self.changed = True
        self._end(True)

    def _end(self, changed: bool) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(changed)

    async def wait(self, until: float | None) -> bool:
        """Until the stream changes (True) or the loop's time has come."""
        if not self.changed:
            if until is not None and until <= self._loop.time():
                return False
            self._future = self._loop.create_future()
            timer = None if until is None else self._loop.call_at(until, self._end, False)
            try:
                if not await self._future:
                    return False
            finally:
                self._future = None
                if timer is not None:
                    timer.cancel()
        self.changed = False
        return True


class Connection(asyncio.Protocol):
    """One HTTP/2 connection, used by any number of tasks of its loop."""

    def __init__(self, owner: AsyncioHttp2, target: Target) -> None:
        self.loop = owner.loop
        self.target = target
        self.transport: Any = None
        self.stream: AsyncPooledStream | None = None
        self.requests = 0
        self._now = owner.now
        self.opened = self.idle_since = self._now()
        self.closed = False
        self.retiring = False
        self.unneeded = False  # retired by ourselves: a call that was to be its first gets another connection
        self.slot: Slots | None = None  # that the client's limits gave it, as long as it is open
        self.session = Http2Session(self.loop.time(), target.max_concurrent_streams)
        self.greeted: asyncio.Future[None] = self.loop.create_future()
        self._owner = owner
        self._idle_timer: Any = None
        self._behind = False  # there are frames that have not been looked at
        self._flushing = False  # there will be a write at the end of this turn of the loop

    # -- use --------------------------------------------------------------------------------------------------------

    def open(self, head: Head, end: bool, head_request: bool) -> tuple[Stream, Waiter] | None:
        """A stream of this connection; None when it takes no more."""
        if worn_out(self, self._now()):
            self.retiring = True
        if not self.usable:
            self.close_if_over()
            return None
        waiter = Waiter(self.loop)
        stream = self.session.open(head, end, head_request, waiter.wake)
        if stream is None:
            self.close_if_over()
            return None
        self.requests += 1
        return stream, waiter

    async def perform(
        self,
        steps: Generator[Step, Any, Any],
        stream: Stream,
        waiter: Waiter,
        source: AsyncIterator[bytes] | None = None,
    ) -> Any:
        """Run ``exchange`` or ``next_chunk`` to its end. Cancellation resets the stream."""
        try:
            step = next(steps)
            while True:
                if step is NEXT:
                    self.flush()
                    assert source is not None
                    piece, problem = None, None
                    try:
                        piece = await anext(source, None)
                    except SourceFailed as error:
                        problem = error
                    step = steps.send(piece) if problem is None else steps.throw(problem)
                elif step is FLUSH:
                    self.flush()
                    step = steps.send(None)
                else:
                    self._flush_with_others()
                    step = steps.send(await waiter.wait(step))
        except StopIteration as over:
            return over.value
        except BodyFailed:
            raise
        except BaseException:
            steps.close()
            self.session.cancel(stream)
            raise
        finally:
            self._flush_with_others()
            self.close_if_over()

    def cancel(self, stream: Stream) -> None:
        """Nobody wants the rest of an answer."""
        self.session.cancel(stream)
        stream.wake()
        self.flush()
        self.close_if_over()

    @property
    def idle(self) -> bool:
        """No call is on it, and none waits for it to be made."""
        return self.session.ready and not self.session.streams

    @property
    def served(self) -> bool:
        """Whether those it was made for have had the time to use it."""
        return self.requests > 0 or self._now() - self.opened >= UNUSED_SECONDS

    @property
    def usable(self) -> bool:
        """Whether it may still get streams, if not now then later."""
        session = self.session
        if self.closed or self.retiring or session.going_away or session.broken is not None:
            return False
        return self.transport is not None and not self.transport.is_closing()

    # -- ends -------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """No new streams; close when the last one is over."""
        self.retiring = True
        self.close_if_over()

    def abort(self, reason: str) -> None:
        """Give up the connection with all its calls."""
        self.session.lost(ConnectionAbortedError(reason))
        self._shut()

    def mesh_closed(self) -> None:
        """Give up the connection with all its calls, which the mesh's closing ends."""
        self.session.give_up(StreamFailure(Failure.CLOSED, MESH_CLOSED))
        self._shut()

    def close_if_over(self) -> None:
        """Close when nothing is under way and nothing new may begin; else see to it that idleness ends one day."""
        session = self.session
        if session.streams or self.closed:
            return
        now = self.idle_since = self._now()
        if session.broken is None:
            if worn_out(self, now) or self._not_kept():
                self.retiring = True
            if not self.retiring and not session.going_away:
                if self._idle_timer is None:
                    self._idle_timer = self._owner.alarms.on_loop(
                        self.loop, self.target.idle_timeout, self._idle_too_long
                    )
                return
            session.goodbye()
            self.flush()
        self._shut()

    def _not_kept(self) -> bool:
        """Whether the client's limits say so."""
        limits = self.target.limits
        return limits is not None and self.served and (limits.waited_for or self._owner.too_many_idle(limits))

    def _idle_too_long(self) -> None:
        self._idle_timer = None
        if self.session.streams or self.closed:
            return
        until = self.idle_since + self.target.idle_timeout
        left = until - self._now()
        if left > 0:
            self._idle_timer = self._owner.alarms.on_loop(self.loop, left, self._idle_too_long)
        else:
            self.retire()

    def _shut(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self.transport is not None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # it does not read: it shall not hold the socket
            else:
                close_politely(self.transport, self.loop)
        self._greet()
        self._owner.forget(self)
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()

    def _greet(self) -> None:
        if not self.greeted.done():
            self.greeted.set_result(None)

    def flush(self) -> None:
        """Write what the session has to say."""
        out = self.session.outgoing()
        if not out or self.closed or self.transport.is_closing():
            return
        self.transport.write(out)
        if self.transport.get_write_buffer_size() > BACKLOG_MOST:
            self.abort("the server does not read what it is sent")

    def _flush_with_others(self) -> None:
        """One write for all calls that this turn of the loop lets go on: a write of its own for each of them is half of what
        a small call costs (row "HTTP/2 at 32 in flight"). A call that is alone does not wait for others."""
        if len(self.session.streams) < 2:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        self._flushing = False
        self.flush()

    # -- asyncio's callbacks ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.stream = AsyncPooledStream(transport)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        session = self.session
        behind = session.receive_some(data, self.loop.time())
        if behind != self._behind:
            self._behind = behind
            if behind:
                self.transport.pause_reading()
            elif session.broken is None:
                self.transport.resume_reading()
        if behind:
            self.loop.call_soon(self._catch_up)
        self.flush()
        if session.broken is not None:
            self._shut()
            return
        if session.ready:
            self._greet()
        if session.going_away:
            self.close_if_over()

    def _catch_up(self) -> None:
        """The rest of what was received, now that others had their turn."""
        if self._behind:
            self.data_received(b"")

    def eof_received(self) -> bool:
        return False  # close our side too: connection_lost follows

    def connection_lost(self, error: Exception | None) -> None:
        if self._behind:
            self._behind = False
            self.session.receive(b"", self.loop.time())
        self.session.lost(error)
        self._shut()

    def pause_writing(self) -> None:
        self.session.set_writable(False)

    def resume_writing(self) -> None:
        self.session.set_writable(True)


class _Pool:
    """The connections to one target. At most one is being made at a time. ``admission``: waits, for ``in_line`` calls, until
    the client's limits allow another one."""

    __slots__ = ("admission", "connecting", "connections", "in_line")

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.admission: asyncio.Task[None] | None = None
        self.in_line = 0
        self.connecting: asyncio.Task[Connection | Outcome | None] | None = None

    def discard(self, connection: Connection) -> None:
        """It takes no more streams; those under way go on."""
        if connection in self.connections:
            self.connections.remove(connection)


class AsyncioHttp2:
    """The HTTP/2 part of an ``AsyncioUpstream``, which gets those connections that turn out to be HTTP/1.1."""

    def __init__(self, upstream: LoopBeside) -> None:
        """Raises ImportError without a library for HTTP/2."""
        preferred()
        self.loop = upstream.loop
        self.now, self.alarms = upstream.now, upstream.alarms
        self._upstream = upstream
        self._pools: dict[Target, _Pool] = {}
        self._http1: dict[Target, float] = {}
        self._open: set[Connection] = set()

    async def send(
        self,
        attempt: Attempt,
        framing: Framing,
    ) -> Outcome | None:
        """One attempt, as ``AsyncioUpstream.send``; None when the server speaks HTTP/1.1 only."""
        began = self.loop.time()
        target = attempt.target
        until = self._http1.get(target)
        if until is not None:
            if self.now() < until:
                return None
            del self._http1[target]
        try:
            head = request_head(attempt.method, attempt.request_target, framing.headers, target.scheme)
        except InvalidHead as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        found = await self._stream(head, not framing.body, attempt, began)
        if found is None or isinstance(found, Outcome):
            return found
        connection, stream, waiter = found
        timeout = attempt.head_timeout
        steps = exchange(
            connection.session,
            stream,
            framing,
            attempt,
            None if timeout is None else began + timeout,
            attempt.deadline,
            self.loop.time,
        )
        source = aiter(framing.body) if isinstance(framing.body, ReplayBody) else None
        trace = attempt.trace
        if trace is not None:
            try:
                trace.version = "http2"
                await trace.send_headers(attempt.method, attempt.request_target, framing.headers, target)
                await trace.sent()  # so far as it has to be before the response: the rest of a body goes out beside it
            except BaseException:
                connection.cancel(stream)
                raise
        outcome: Outcome
        if source is None:
            outcome = await connection.perform(steps, stream, waiter)
        else:
            try:
                async with self._upstream.until_closed():  # the caller's own iterator may have nothing for us for long
                    outcome = await connection.perform(steps, stream, waiter, source)
            except TimeoutError as error:
                if not self._upstream.closed:
                    raise
                return mesh_closed(error)
        outcome.stream = connection.stream
        if trace is not None:
            await trace.ended(outcome)
        if outcome.failure is None and outcome.whole is None:
            outcome.body = Http2Body(connection, stream, waiter, attempt)
        return outcome

    # -- connections ------------------------------------------------------------------------------------------------

    async def _stream(
        self, head: Head, end: bool, attempt: Attempt, began: float
    ) -> tuple[Connection, Stream, Waiter] | Outcome | None:
        head_request, target, limit = attempt.method == b"HEAD", attempt.target, attempt.connect_limit
        by = None if limit is None else began + limit
        while True:
            if self._upstream.closed:
                return mesh_closed()
            pool = self._pools.get(target)
            if pool is None:
                pool = self._pools[target] = _Pool()
            for connection in list(pool.connections):
                opened = connection.open(head, end, head_request)
                if opened is not None:
                    return connection, *opened
                if not connection.usable:
                    pool.discard(connection)
            pool = self._pools.setdefault(target, pool)  # it went if its last connection did just now
            task = pool.connecting
            limits = target.limits
            slots = None if limits is None else limits.slots
            if task is None and limits and slots and not self._upstream.takes_slot(slots, limits):
                if not await self._in_line(attempt, pool, slots, began):
                    return no_slot(attempt)
                continue
            notes = None
            if task is None:
                notes = None if attempt.trace is None else Notes()
                task = pool.connecting = self.loop.create_task(self._connect(target, pool, notes))
            left = None if by is None else max(0.0, by - self.loop.time())
            done, _ = await asyncio.wait((task,), timeout=left)
            if not done:
                return too_late(attempt, limit)
            if notes is not None and attempt.trace is not None:
                await notes.tell(attempt.trace)
            if task.cancelled():
                return mesh_closed()
            made = task.result()
            if made is None:
                return None
            if isinstance(made, Outcome):
                return copy_of(made)
            if made.unneeded:
                continue
            if not made.requests and (not made.usable or not made.session.room()):
                # not one stream: another connection would be the same
                useless = no_streams(made.session, target)
                made.retire()
                return useless

    async def _in_line(self, attempt: Attempt, pool: _Pool, slots: Slots, began: float) -> bool:
        """Wait until the client's limits allow another connection, which is then being made. False when the time is up."""
        admission = pool.admission
        if admission is None:
            admission = pool.admission = self.loop.create_task(self._admit(attempt.target, pool, slots))
        bound = attempt.slot_limit
        pool.in_line += 1
        try:
            late = alarm = None
            if bound is not None:
                late = self.loop.create_future()
                alarm = self.alarms.on_loop(self.loop, began + bound - self.loop.time(), functools.partial(wake, late))
            await asyncio.wait(filter(None, (admission, late)), return_when=asyncio.FIRST_COMPLETED)
            return admission.done()
        finally:
            if alarm is not None:
                alarm.cancel()
            pool.in_line -= 1
            if not pool.in_line and not admission.done():
                admission.cancel()

    async def _admit(self, target: Target, pool: _Pool, slots: Slots) -> None:
        assert target.limits is not None
        try:
            if await target.limits.acquire(Acquire(slots, None)):
                pool.connecting = self.loop.create_task(self._connect(target, pool))
        finally:
            pool.admission = None

    async def _connect(self, target: Target, pool: _Pool, notes: Notes | None = None) -> Connection | Outcome | None:
        """A connection that has the server's SETTINGS; None when the server chose HTTP/1.1. Its slot has been taken."""
        connection = Connection(self, target)
        if target.limits is not None:
            connection.slot = target.limits.slots
            self._upstream.make_room(target.limits)
        try:
            async with asyncio.timeout(target.connect_timeout):
                transport = await self._upstream.dial(connection, target, HTTP2_OR_1, notes)
                if target.tls is not None and transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                    now = self.now()
                    self._http1 = {other: until for other, until in self._http1.items() if until > now}
                    self._http1[target] = now + HTTP1_SECONDS
                    self._upstream.adopt(transport, target)
                    return None  # the slot is given back below; the next call takes its own
                self._open.add(connection)
                connection.flush()
                if notes is not None:
                    await notes.started("http2.send_connection_init")
                await connection.greeted
                if notes is not None:
                    await notes.complete()
            if connection.session.broken is not None:
                return greeting_problem(connection.session, target)
            pool.connections.append(connection)
            connection.close_if_over()  # it may wait in vain: its callers may have left
            return connection
        except TimeoutError as error:
            connection.abort("no HTTP/2 settings in time")
            detail = f"no connection to {target} within {target.connect_timeout:g} s"
            return Outcome(Failure.CONNECT_TIMEOUT, detail, error)
        except socket.gaierror as error:
            return Outcome(Failure.CONNECT_FAILED, f"the name {target.host} was not found: {error.strerror}", error)
        except (OSError, ssl.SSLError, PeerNameMismatch) as error:
            return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)
        except asyncio.CancelledError:
            connection.mesh_closed()
            raise
        finally:
            pool.connecting = None
            self._tidy(target, pool)
            if connection not in pool.connections and connection.slot is not None:
                slot, connection.slot = connection.slot, None
                slot.release()

    def forget(self, connection: Connection) -> None:
        """A connection that is closed."""
        self._open.discard(connection)
        pool = self._pools.get(connection.target)
        if pool is not None:
            pool.discard(connection)
            self._tidy(connection.target, pool)

    def _tidy(self, target: Target, pool: _Pool) -> None:
        if not pool.connections and pool.connecting is None and pool.admission is None:
            self._pools.pop(target, None)

    def drop_target(self, target: Target) -> None:
        """A target that is no longer in use."""
        self._http1.pop(target, None)
        pool = self._pools.get(target)
        for connection in [] if pool is None else list(pool.connections):
            connection.unneeded = True
            connection.retire()

    def idle_connections(self) -> int:
        """How many connections carry no call."""
        return sum(1 for connection in self._open if connection.idle)

    def idle_of(self, limits: ClientLimits) -> int:
        """How many connections of a client carry no call."""
        return sum(1 for connection in self._open if connection.target.limits is limits and connection.idle)

    def too_many_idle(self, limits: ClientLimits) -> bool:
        """Whether a client keeps more connections without a call than its limits allow."""
        return limits.max_idle is not None and limits.too_many(self.idle_of(limits) + self._upstream.idle_of(limits))

    def retire_idle(self, limits: ClientLimits) -> bool:
        """Close a connection of a client that carries no call. False when there is none."""
        for connection in self._open:
            if connection.target.limits is limits and connection.idle and connection.served:
                connection.retire()
                return True
        return False

    def close_idle(self) -> None:
        """Close the connections that carry no call."""
        for connection in list(self._open):
            if connection.idle:
                connection.unneeded = True
                connection.retire()

    def close(self) -> None:
        """Close all connections, those in use too."""
        for pool in self._pools.values():
            if pool.connecting is not None:
                pool.connecting.cancel()
        for connection in list(self._open):
            if connection.idle:
                connection.retire()
            else:
                connection.mesh_closed()


class Http2Body:
    """The rest of an answer's body. ``aclose`` before its end resets the stream; other streams go on. Raises
    ``BodyFailed`` when it is cut."""

    __slots__ = ("_attempt", "_connection", "_over", "_stream", "_waiter")

    def __init__(self, connection: Connection, stream: Stream, waiter: Waiter, attempt: Attempt) -> None:
        self._connection = connection
        self._stream = stream
        self._waiter = waiter
        self._attempt = attempt
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection, stream, attempt = self._connection, self._stream, self._attempt
        try:
            while not self._over:
                steps = next_chunk(connection.session, stream, attempt, attempt.deadline, connection.loop.time)
                data = await connection.perform(steps, stream, self._waiter)
                if not data:
                    self._over = True
                    return
                yield data
        except BaseException:
            self.abort()
            raise

    @property
    def trailers(self) -> RawHeaders:
        """What came after the body; complete at its end."""
        return self._stream.trailers

    def abort(self) -> None:
        """Drop what was not read."""
        if not self._over:
            self._over = True
            self._connection.cancel(self._stream)

    async def aclose(self) -> None:
        """Drop what was not read."""
        self.abort()

    def __del__(self) -> None:
        loop = self._connection.loop
        if not self._over and not loop.is_closed():
            # dropped without being read or closed, perhaps by another thread's garbage collector
            loop.call_soon_threadsafe(self._connection.cancel, self._stream)
