"""The HTTP/1.1 connections of one event loop, and one attempt on them.

No task and no timer per request on a kept-alive connection.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.alarms import Alarms, Cancellable
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, NoBody, Sized, framing_of
from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket, encode_head
from meshlib.transport.protocol.sent_head import SentHead
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.forked import this_process
from meshlib.transport.upstream.loop_connection import Connection, connection_to
from meshlib.transport.upstream.loop_deadlines import Deadlines, UntilClosed
from meshlib.transport.upstream.loop_dial import dial, hear_refusal, leads_to
from meshlib.transport.upstream.loop_duplex import is_duplex
from meshlib.transport.upstream.loop_pending import Pending
from meshlib.transport.upstream.loop_turn import Turn
from meshlib.transport.upstream.mutual import WORTHLESS, MutualTls
from meshlib.transport.upstream.mutual_connections import Judge, any_mutual, let_go
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.problems import (
    MESH_CLOSED,
    NO_RESPONSE,
    connect_problem,
    mesh_closed,
    no_connection_to,
    no_http2_package,
    no_slot,
    no_upgrade,
)
from meshlib.transport.upstream.target import Target, smaller, worn_out, worn_out_or_superseded
from meshlib.transport.upstream.tls import HTTP1_ONLY, PeerNameMismatch

if TYPE_CHECKING:
    from meshlib.policy.circuit_limits import Slots
    from meshlib.transport.upstream.http2_loop import AsyncioHttp2
    from meshlib.transport.upstream.mutual_connections import Tunnelled
    from meshlib.transport.upstream.trace import Trace

SMALL_BODY = 65536  # a body up to this size goes out in one write with the head


class AsyncioUpstream:
    """The connections of one event loop. Not thread-safe: it lives on its loop. ``reader``: what reads the responses of
    connections that are made from now on."""

    reader: type[ResponseReader] = ResponseReader

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names, alarms: Alarms | None = None) -> None:
        self.loop = loop
        self._names = names
        self.pid = this_process.pid
        self._idle: dict[Target, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self.alarms = alarms or Alarms()
        self.now = (
            self.alarms.now
        )  # by the mesh's clock: how long connections are kept; the loop's own is for the network
        self._sweeper: Cancellable | None = None
        self._sweep_at = 0.0  # when that rings
        self.deadlines = Deadlines(loop)
        self.turn: Turn | None = None  # requests wait for its end; None: they do not wait
        self._waits: set[UntilClosed] = set()
        self.closed = False
        self.ending = False  # the loop ends: no connection is kept any more
        self._http2: AsyncioHttp2 | None = None
        self.tunnels: set[Tunnelled] = set()
        """Connections over mTLS that are none of HTTP and in no pool."""
        self.own: set[tuple[str, int]] = set()
        """Where this process itself takes requests to be sent on: no connection leads there."""

    # -- connections ------------------------------------------------------------------------------------------------

    def take(self, target: Target) -> Connection | None:
        """An idle connection, None when there is none."""
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            now = self.now()
            if now - connection.idle_since < target.idle_timeout and not (
                target.wears and worn_out_or_superseded(connection, now)
            ):
                self._busy.add(connection)
                return connection
            connection.retire()
        return None

    async def connect(self, target: Target, limit: float | None, trace: Trace | None = None) -> Connection:
        """A new connection, TLS done. Raises OSError, TimeoutError, PeerNameMismatch."""
        async with self.until_closed(limit):
            connection = connection_to(target, self)
            try:
                transport = await self.dial(connection, target, HTTP1_ONLY, trace)
                connection.admitted()
                await hear_refusal(transport)
                if connection.closed:
                    raise connection.lost_by or ConnectionAbortedError(NO_RESPONSE)
            except BaseException:
                connection.unmade()
                raise
        self._busy.add(connection)
        return connection

    def until_closed(self, limit: float | None = None) -> UntilClosed:
        """Bound what is awaited inside by ``limit`` seconds and by the mesh's closing: TimeoutError, either way."""
        return UntilClosed(self._waits, self.deadlines, 0.0 if self.closed else limit)

    async def dial(
        self, protocol: asyncio.Protocol, target: Target, protocols: Sequence[str], trace: Trace | None = None
    ) -> asyncio.Transport:
        """See ``loop_dial.dial``. Raises OSError for a connection to ourselves, on which each request would be sent again, and
        so on, until there are no descriptors."""
        transport = await dial(self.loop, self._names, protocol, target, protocols, trace)
        if self.own and leads_to(self.own, transport):
            transport.abort()
            raise OSError(f"{target} is this proxy itself")
        return transport

    def adopt(self, transport: asyncio.Transport, target: Target) -> None:
        """A connection that was made for HTTP/2 and whose server chose HTTP/1.1: use it for the next call."""
        connection = connection_to(target, self)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.admitted()
        self._keep(connection)

    def release(self, connection: Connection) -> None:
        """The response is over: keep the connection if it is good for another."""
        self._busy.discard(connection)
        if connection.closed:
            return
        target, reader = connection.target, connection.reader
        if (
            reader.complete
            and reader.keep_alive
            and not (reader.poisoned or reader.error or target.wears or target.limits is not None)
        ):
            idle = self._idle.get(target)
            if idle is not None and self._sweeper is not None and not self.closed:
                # nearly always; as below, but for the calls (row "proxy-inprocess")
                connection.idle_since = self.now()
                idle.append(connection)
                return
        if (
            self.closed
            or self.ending
            or not connection.reader.reusable
            or (target.wears and (connection.leaving or (target.wears_by_rule and worn_out(connection, self.now()))))
        ):
            connection.retire()
        elif target.limits is None:
            self._keep(connection)
        else:
            self._keep_within(target.limits, connection)

    def _keep_within(self, limits: ClientLimits, connection: Connection) -> None:
        """Keep it if the client's limits allow."""
        over_http2 = 0 if self._http2 is None else self._http2.idle_of(limits)
        if limits.too_many(len(self._idle_of(limits)) + over_http2 + 1):
            connection.retire()
            return
        self._keep(connection)
        connection.give_slot_back()
        by = connection.idle_since + connection.target.idle_timeout
        if self._sweeper is not None and by < self._sweep_at:  # others are kept for longer
            self._sweeper.cancel()
            self._sweep_then(by)

    async def _admit(self, limits: ClientLimits, attempt: Attempt) -> Outcome | None:
        """Wait until the client's limits allow one more connection in use. None: they do, and its slot is the caller's."""
        slots = limits.slots
        if slots is None or self.takes_slot(slots, limits):
            return None
        return None if await limits.acquire_async(Acquire(slots, attempt.slot_limit)) else no_slot(attempt)

    def takes_slot(self, slots: Slots, limits: ClientLimits) -> bool:
        """Whether a slot of the client's limits was to be had, if need be by closing an idle HTTP/2 connection."""
        if slots.try_acquire():
            return True
        return self._http2 is not None and self._http2.retire_idle(limits) and slots.try_acquire()

    def make_room(self, limits: ClientLimits) -> None:
        """Close idle connections of a client: the oldest ones if a new one would be one too many."""
        kept = self._idle_of(limits)
        for connection in sorted(kept, key=lambda one: one.idle_since)[: max(0, limits.excess(len(kept)))]:
            self.forget(connection)
            connection.retire()

    def idle_of(self, limits: ClientLimits) -> int:
        """How many idle connections of a client are kept."""
        return len(self._idle_of(limits))

    def _idle_of(self, limits: ClientLimits) -> list[Connection]:
        return [one for target, idle in self._idle.items() if target.limits is limits for one in idle if not one.closed]

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = now = self.now()
        target = connection.target
        idle = self._idle.get(target)
        if idle is None:
            idle = self._idle[target] = deque()
        idle.append(connection)
        if self._sweeper is None:
            self._sweep_then(now + target.idle_timeout)

    def drop(self, connection: Connection) -> None:
        """Give up a connection in use."""
        self._busy.discard(connection)
        connection.abort()

    def lost(self, connection: Connection) -> None:
        """A connection in use is no longer one of HTTP/1.1, or none at all."""
        self._busy.discard(connection)

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

    def _sweep_then(self, at: float) -> None:
        self._sweep_at = at
        self._sweeper = self.alarms.on_loop(self.loop, at - self.now(), self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self.now()
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
        if soonest is not None and not self.closed:
            self._sweep_then(soonest)

    def drop_targets(self, targets: Iterable[Target]) -> None:
        """Close the idle connections of retired targets. Call it on the loop."""
        for target in targets:
            for connection in self._idle.pop(target, ()):
                if not connection.closed:
                    connection.retire()
            if self._http2 is not None:
                self._http2.drop_target(target)

    def connections(self) -> Iterator[tuple[Target, bool]]:
        """Where each connection leads, and whether a call is on it. From any thread."""
        for target, idle in list(self._idle.items()):
            yield from [(target, False)] * len(idle)
        for connection in list(self._busy):
            yield connection.target, True
        if self._http2 is not None:
            yield from self._http2.connections()

    def has_mutual(self) -> bool:
        """Whether there are connections over mTLS of the mesh. From any thread."""
        return (
            any_mutual(self._mutual()) or bool(self.tunnels) or (self._http2 is not None and self._http2.has_mutual())
        )

    def _mutual(self) -> list[Connection]:
        idle = [list(idle) for target, idle in list(self._idle.items()) if isinstance(target.tls, MutualTls)]
        return [*itertools.chain.from_iterable(idle), *list(self._busy)]

    def let_go(self, standing: Judge) -> None:
        """Close connections over mTLS whose certificates are not to be used any more: idle ones now, others with their call,
        which is cut when it must be. Call it on the loop."""
        let_go(self._mutual(), standing, self._drain, self._cut)
        let_go(list(self.tunnels), standing, _goes_on, lambda tunnel: tunnel.cut())
        if self._http2 is not None:
            self._http2.let_go(standing)

    def _drain(self, connection: Connection) -> None:
        connection.leave()
        if connection not in self._busy and not connection.closed:
            self.forget(connection)
            connection.retire()

    def _cut(self, connection: Connection) -> None:
        if connection in self._busy and not connection.closed:
            self._busy.discard(connection)
            connection.break_off(Failure.RESET, WORTHLESS)

    def idle_connections(self) -> int:
        """How many connections wait for use."""
        over_http2 = 0 if self._http2 is None else self._http2.idle_connections()
        return sum(len(idle) for idle in self._idle.values()) + over_http2

    def close(self) -> None:
        """Close idle connections politely; calls under way fail at once. Call it on the loop."""
        self.closed = True
        self.close_idle()
        for connection in list(self._busy):
            connection.break_off(Failure.CLOSED, MESH_CLOSED)
        for end in list(self._waits):
            end()
        if self._http2 is not None:
            self._http2.close()
        self.deadlines.close()

    @property
    def in_use(self) -> bool:
        """Whether a call is under way, or begins."""
        return bool(self._busy or self._waits or (self._http2 is not None and self._http2.in_use))

    def leave(self) -> None:
        """Close idle connections now, and those of HTTP/1.1 that are in use when their calls end. Call it on the loop."""
        self.ending = True
        self.close_idle()

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
        if self._http2 is not None:
            self._http2.close_idle()

    # -- one attempt ------------------------------------------------------------------------------------------------

    def send(self, attempt: Attempt) -> Coroutine[object, object, Outcome]:
        """Failures are values; cancellation aborts the connection and is raised. Await it at once: it may have begun."""
        http2 = self._http2
        if (
            http2 is not None
            and attempt.target.http2
            and type(attempt.headers) is SentHead
            and attempt.body is None
            and attempt.trace is None
        ):
            # nearly all calls over HTTP/2: nothing is awaited but the response (row "HTTP/2 at 32 in flight")
            begun = http2.begun(attempt)
            if begun is not None:
                return begun
        return self._send(attempt)

    async def _send(self, attempt: Attempt) -> Outcome:
        if self.closed:
            return mesh_closed()
        target = attempt.target
        try:
            framing = framing_of(attempt.headers, attempt.body)
            if target.http2:
                http2 = self._over_http2(attempt)
                outcome = http2 if http2 is None or isinstance(http2, Outcome) else await http2.send(attempt, framing)
                if outcome is not None:
                    return outcome
            data = encode_head(attempt.method, attempt.request_target, framing.headers)
        except InvalidHead as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        began = self.loop.time()
        connection = self.take(target) if target.limits is None else None
        if connection is None:
            made = await self._connection(attempt, began)
            if isinstance(made, Outcome):
                return made
            connection = made
        pending = Pending(connection, attempt)
        rest: Sized | Chunked | None = None
        if not isinstance(framing, NoBody):
            content = framing.body
            if type(content) is bytes and len(content) <= SMALL_BODY and not framing.expects_continue:
                data += framing.whole(content)
            else:
                rest = framing
        timeout, late = attempt.head_timeout, pending.head_timed_out
        try:
            if attempt.trace is not None:
                attempt.trace.version = "http11"
                await attempt.trace.send_headers(attempt.method, attempt.request_target, framing.headers, target)
            connection.start(data, attempt.method == b"HEAD", pending, attempt.headers)
            if timeout is not None:
                self.deadlines.add(late, began + timeout)
            if is_duplex(rest):
                pending.send_beside(rest)
            elif rest is not None or not pending.writable:
                problem = await self._send_rest(pending, rest)
                if problem is not None:
                    pending.abort()
                    if attempt.trace is not None:
                        await attempt.trace.ended(problem)
                    return problem
            if attempt.trace is None:
                return await pending.outcome
            await attempt.trace.sent()
            outcome = await pending.outcome
            await attempt.trace.ended(outcome)
            return outcome
        except BaseException:
            pending.abort()  # not drop: a response that is over has given the connection back, maybe to another call
            raise
        finally:
            pending.told()
            if timeout is not None:
                self.deadlines.discard(late)

    async def _send_rest(self, pending: Pending, rest: Sized | Chunked | None) -> Outcome | None:
        """The body, which does not go out with the head. An Outcome when it could not be sent."""
        try:
            async with self.until_closed():  # the caller's own iterator may have nothing for us for long
                return await pending.send_body(rest)
        except TimeoutError as error:
            if not self.closed:
                raise
            return mesh_closed(error)

    async def _connection(self, attempt: Attempt, began: float) -> Connection | Outcome:
        """A connection, kept or new, as the client's limits allow: then it holds a slot."""
        target, timeout = attempt.target, attempt.head_timeout
        limits = target.limits
        if limits is None:
            return await self.made(target, attempt.connect_limit, timeout, attempt.trace)
        refused = await self._admit(limits, attempt)
        if refused is not None:
            return refused
        connection = None
        try:
            connection = self.take(target)
            if connection is None:
                limit = attempt.connect_limit
                if timeout is not None:
                    limit = smaller(limit, max(0.0, began + timeout - self.loop.time()))
                self.make_room(limits)
                made = await self.made(target, limit, timeout, attempt.trace)
                if isinstance(made, Outcome):
                    return made
                connection = made
            connection.slot = limits.slots
        finally:
            if connection is None and limits.slots is not None:
                limits.slots.release()
        return connection

    async def made(
        self, target: Target, limit: float | None, head_timeout: float | None, trace: Trace | None = None
    ) -> Connection | Outcome:
        """``connect``, for an attempt with this ``head_timeout``: why there is no connection is an outcome of it."""
        try:
            return await self.connect(target, limit, trace)
        except TimeoutError as error:
            return mesh_closed(error) if self.closed else no_connection_to(target, head_timeout, limit, error)
        except (OSError, PeerNameMismatch) as error:
            return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)

    @property
    def http2(self) -> AsyncioHttp2 | None:
        """Its connections over HTTP/2; None: there were none yet."""
        return None if self.closed else self._http2

    def _over_http2(self, attempt: Attempt) -> AsyncioHttp2 | Outcome | None:
        """The connections over HTTP/2; None when HTTP/1.1 it has to be."""
        target = attempt.target
        if asks_for_websocket(attempt.headers):
            return no_upgrade(target) if target.tls is None else None
        if self._http2 is None:
            try:
                from meshlib.transport.upstream.http2_loop import AsyncioHttp2

                self._http2 = AsyncioHttp2(self)
            except ImportError as error:
                return no_http2_package(target, error)
        return self._http2


def _goes_on(_tunnel: Tunnelled) -> None:
    """One whose certificates were replaced: there are no new calls that it could not take."""
