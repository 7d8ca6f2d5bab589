"""HTTP/2 connections of one event loop, driven by callbacks: no task but the one that makes a connection, which belongs
to no call, so that cancelling a call never takes a connection from the others."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator

from meshlib.alarms import wake
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.framing import Framing
from meshlib.transport.protocol.http2_choice import preferred
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.request_head import InvalidHead
from meshlib.transport.protocol.shortcuts import PLAIN
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.beside import LoopBeside
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_call import copy_of, exchange, greeting_problem, no_streams
from meshlib.transport.upstream.http2_loop_body import Http2Body
from meshlib.transport.upstream.http2_loop_connection import Connection
from meshlib.transport.upstream.http2_loop_duplex import respond
from meshlib.transport.upstream.http2_loop_waiter import Waiter
from meshlib.transport.upstream.loop_dial import hear_refusal
from meshlib.transport.upstream.mutual import WORTHLESS
from meshlib.transport.upstream.mutual_connections import Judge, any_mutual, let_go
from meshlib.transport.upstream.problems import connect_problem, mesh_closed, no_connection, no_slot
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import HTTP2_OR_1, PeerNameMismatch, chose_http1
from meshlib.transport.upstream.trace import Notes

HTTP1_SECONDS = 300.0  # how long a server that chose HTTP/1.1 is not offered HTTP/2

Opened = tuple[Connection, Stream, Waiter]


class _Pool:
    """The connections to one target. At most one is being made at a time. ``admission``: waits, for ``in_line`` calls, until
    the client's limits allow another one."""

    __slots__ = ("admission", "connecting", "connections", "in_line")

    def __init__(self) -> None:
        self.connections: tuple[Connection, ...] = ()
        self.admission: asyncio.Task[None] | None = None
        self.in_line = 0
        self.connecting: asyncio.Task[Connection | Outcome | None] | None = None

    def discard(self, connection: Connection) -> None:
        """It takes no more streams; those under way go on."""
        self.connections = tuple(other for other in self.connections if other is not connection)


async def _known(outcome: Outcome | None) -> Outcome | None:
    """What there is nothing to wait for."""
    return outcome


class AsyncioHttp2:
    """The HTTP/2 connections of one event loop, on sockets that its HTTP/1.1 pool lends."""

    def __init__(self, sockets: LoopBeside) -> None:
        """Raises ImportError without a library for HTTP/2."""
        preferred()
        self.loop = sockets.loop
        self.now, self.alarms, self.deadlines = sockets.now, sockets.alarms, sockets.deadlines
        self.waiting = 0
        self._sockets = sockets
        self._pools: dict[Target, _Pool] = {}
        self._http1: dict[Target, float] = {}
        self._open: set[Connection] = set()

    def begun(self, attempt: Attempt) -> Coroutine[object, object, Outcome] | None:
        """The rest of an attempt that ends with its head, on a stream that was to be had at once. None: ``send`` it.
        Await it at once: it has begun."""
        if self._http1 or PLAIN:
            return None
        timeout = attempt.head_timeout
        head_by = None if timeout is None else self.loop.time() + timeout
        try:
            head = request_head(attempt.method, attempt.request_target, attempt.headers, attempt.target.scheme)
        except InvalidHead:
            return None
        found = self._opened(attempt, head, True)
        if found is None:
            return None
        connection, stream, waiter = found
        return connection.respond(stream, waiter, attempt, head_by)

    def stream(
        self, target: Target, head: Head, body: bytes | None, head_request: bool, wake: Callable[[], None]
    ) -> tuple[Connection, Stream] | None:
        """A stream of a connection that there is, which tells ``wake`` of its changes; None: ``send`` the attempt. ``body`` is
        to be sent, unless the stream says that it was (``sent``)."""
        pool = self._pools.get(target)
        if pool is not None and not self._http1:
            for connection in pool.connections:
                transport = connection.transport
                if (
                    connection.closed
                    or connection.retiring
                    or transport is None
                    or transport.is_closing()
                    or target.wears
                ):
                    stream = connection.open_stream(head, body is None, head_request, wake, body)
                else:  # as there, without its function: nearly all
                    stream = connection.session.open(head, body is None, head_request, wake, body)
                    if stream is None:
                        connection.close_if_over()
                    else:
                        connection.requests += 1
                if stream is not None:
                    return connection, stream
                if not connection.usable:
                    pool.discard(connection)
        return None

    def send(self, attempt: Attempt, framing: Framing) -> Coroutine[object, object, Outcome | None]:
        """One attempt, as ``AsyncioUpstream.send``; None when the server speaks HTTP/1.1 only."""
        began = self.loop.time()
        target = attempt.target
        if self._http1:
            until = self._http1.get(target)
            if until is not None:
                if self.now() < until:
                    return _known(None)
                del self._http1[target]
        try:
            head = request_head(attempt.method, attempt.request_target, framing.headers, target.scheme)
        except InvalidHead as error:
            return _known(Outcome(Failure.INVALID_REQUEST, str(error), error))
        return self._send(attempt, framing, head, began)

    async def _send(self, attempt: Attempt, framing: Framing, head: Head, began: float) -> Outcome | None:
        """Whatever there is to wait for."""
        target = attempt.target
        end = not framing.body
        found = self._opened(attempt, head, end) or await self._opened_later(attempt, head, end, began)
        if not isinstance(found, tuple):
            return found
        connection, stream, waiter = found
        timeout, trace = attempt.head_timeout, attempt.trace
        head_by = None if timeout is None else began + timeout
        if end and trace is None and not PLAIN:
            return await connection.respond(stream, waiter, attempt, head_by)
        if isinstance(framing.body, ReplayBody) and framing.body.duplex:
            outcome = await respond(connection, stream, waiter, attempt, framing, head_by)
            outcome.stream = connection.stream
            return outcome
        steps = exchange(connection.session, stream, framing, attempt, head_by, self.loop.time)
        if trace is not None:
            try:
                trace.version = "http2"
                await trace.send_headers(attempt.method, attempt.request_target, framing.headers, target)
                await trace.sent()  # so far as it has to be before the response: the rest of a body goes out beside it
            except BaseException:
                connection.cancel(stream)
                raise
        if isinstance(framing.body, ReplayBody):
            try:
                async with self._sockets.until_closed():  # the caller's own iterator may have nothing for us for long
                    outcome = await connection.perform(steps, stream, waiter, aiter(framing.body))
            except TimeoutError as error:
                if not self._sockets.closed:
                    raise
                return mesh_closed(error)
        else:
            outcome = await connection.perform(steps, stream, waiter)
        outcome.stream = connection.stream
        if trace is not None:
            await trace.ended(outcome)
        if outcome.failure is None and outcome.whole is None:
            outcome.body = Http2Body(connection, stream, waiter, attempt)
        return outcome

    def body(self, connection: Connection, stream: Stream, waiter: Waiter, attempt: Attempt) -> Http2Body:
        """What reads the rest of a response."""
        return Http2Body(connection, stream, waiter, attempt)

    # -- connections ------------------------------------------------------------------------------------------------

    def _opened(self, attempt: Attempt, head: Head, end: bool) -> Opened | None:
        """A stream of a connection that there is; None when none of them takes another."""
        pool = self._pools.get(attempt.target)
        if pool is not None:
            head_request = attempt.method == b"HEAD"
            for connection in pool.connections:
                opened = connection.open(head, end, head_request)
                if opened is not None:
                    return connection, *opened
                if not connection.usable:
                    pool.discard(connection)
        return None

    async def _opened_later(self, attempt: Attempt, head: Head, end: bool, began: float) -> Opened | Outcome | None:
        """A stream of a connection that is being made, or of one that has room again meanwhile."""
        target, limit = attempt.target, attempt.connect_limit
        by = None if limit is None else began + limit
        while not self._sockets.closed:
            opened = self._opened(attempt, head, end)
            if opened is not None:
                return opened
            pool = self._pools.get(target)
            if pool is None:
                pool = self._pools[target] = _Pool()
            slots = None if target.limits is None else target.limits.slots
            if pool.connecting is None and slots is not None and not self._takes_slot(target, slots):
                if not await self._in_line(attempt, pool, slots, began):
                    return no_slot(attempt)
                continue
            made = await self._made(attempt, pool, limit, by)
            if made is None or isinstance(made, Outcome):
                return made
            if not made.unneeded and not made.requests and (not made.usable or not made.session.room()):
                # not one stream: another connection would be the same
                useless = no_streams(made.session, target)
                made.retire()
                return useless
        return mesh_closed()

    def _takes_slot(self, target: Target, slots: Slots) -> bool:
        return target.limits is not None and self._sockets.takes_slot(slots, target.limits)

    async def _made(
        self, attempt: Attempt, pool: _Pool, limit: float | None, by: float | None
    ) -> Connection | Outcome | None:
        """The connection that is being made, by this call if by no other; None when the server speaks HTTP/1.1 only."""
        task, notes = pool.connecting, None
        if task is None:
            notes = None if attempt.trace is None else Notes()
            task = pool.connecting = self.loop.create_task(self._connect(attempt.target, pool, notes))
        left = None if by is None else max(0.0, by - self.loop.time())
        done, _ = await asyncio.wait((task,), timeout=left)
        if not done:
            return no_connection(attempt, limit)
        if notes is not None and attempt.trace is not None:
            await notes.tell(attempt.trace)
        if task.cancelled():
            return mesh_closed()
        made = task.result()
        return copy_of(made) if isinstance(made, Outcome) else made

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
            if await target.limits.acquire_async(Acquire(slots, None)):
                pool.connecting = self.loop.create_task(self._connect(target, pool))
        finally:
            pool.admission = None

    async def _connect(self, target: Target, pool: _Pool, notes: Notes | None = None) -> Connection | Outcome | None:
        """A connection that has the server's SETTINGS; None when the server chose HTTP/1.1. Its slot has been taken."""
        connection = Connection(self, target)
        if target.limits is not None:
            connection.slot = target.limits.slots
            self._sockets.make_room(target.limits)
        try:
            async with asyncio.timeout(target.connect_timeout):
                transport = await self._sockets.dial(connection, target, HTTP2_OR_1, notes)
                connection.admitted(transport)
                chosen = None if target.tls is None else transport.get_extra_info("ssl_object").selected_alpn_protocol()
                if target.tls is not None and chose_http1(target.tls, chosen):
                    now = self.now()
                    self._http1 = {other: until for other, until in self._http1.items() if until > now}
                    self._http1[target] = now + HTTP1_SECONDS
                    self._sockets.adopt(transport, target)
                    return None  # the slot is given back below; the next call takes its own
                self._open.add(connection)
                await hear_refusal(transport)
                connection.flush()
                if notes is not None:
                    await notes.started("http2.send_connection_init")
                await connection.greeted
                if notes is not None:
                    await notes.complete()
            if connection.session.broken is not None:
                return greeting_problem(connection.session, target)
            pool.connections = (*pool.connections, connection)
            connection.close_if_over()  # it may wait in vain: its callers may have left
            return connection
        except TimeoutError as error:
            connection.abort("no HTTP/2 settings in time")
            detail = f"no connection to {target} within {target.connect_timeout:g} s"
            return Outcome(Failure.CONNECT_TIMEOUT, detail, error)
        except (OSError, PeerNameMismatch) as error:
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
        for connection in () if pool is None else pool.connections:
            connection.unneeded = True
            connection.retire()

    def connections(self) -> Iterator[tuple[Target, bool]]:
        """Where each connection leads, and whether a call is on it. From any thread."""
        for connection in list(self._open):
            if not connection.closed:
                yield connection.target, not connection.idle

    def has_mutual(self) -> bool:
        """Whether there are connections over mTLS of the mesh. From any thread."""
        return any_mutual(list(self._open))

    def let_go(self, standing: Judge) -> None:
        """See ``AsyncioUpstream.let_go``."""
        let_go(list(self._open), standing, self._drain, self._cut)

    def _drain(self, connection: Connection) -> None:
        if not connection.retiring:
            connection.unneeded = True
            connection.retire()

    def _cut(self, connection: Connection) -> None:
        connection.give_up(StreamFailure(Failure.RESET, WORTHLESS))

    @property
    def in_use(self) -> bool:
        """Whether a call is under way, or a connection is made for one."""
        return any(not connection.idle for connection in self._open) or any(
            pool.connecting is not None for pool in self._pools.values()
        )

    def idle_connections(self) -> int:
        """How many connections carry no call."""
        return sum(1 for connection in self._open if connection.idle)

    def idle_of(self, limits: ClientLimits) -> int:
        """How many connections of a client carry no call."""
        return sum(1 for connection in self._open if connection.target.limits is limits and connection.idle)

    def too_many_idle(self, limits: ClientLimits) -> bool:
        """Whether a client keeps more connections without a call than its limits allow."""
        return limits.max_idle is not None and limits.too_many(self.idle_of(limits) + self._sockets.idle_of(limits))

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
