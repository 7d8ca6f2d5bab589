"""The upstream connections of one event loop, and one attempt on them.

No task and at most one timer per request on a kept-alive connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from meshlib.alarms import Alarms
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Framing, NoBody, framing_of
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket, encode_head
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits, no_slot
from meshlib.transport.upstream.loop_connection import Connection
from meshlib.transport.upstream.loop_pending import Pending
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.network_stream import AsyncPooledStream, PooledStream
from meshlib.transport.upstream.problems import MESH_CLOSED, connect_problem, mesh_closed, no_http2_package, no_upgrade
from meshlib.transport.upstream.target import Target, keep_alive, smaller, worn_out
from meshlib.transport.upstream.tls import HTTP1_ONLY, UNREADABLE, Offering, PeerNameMismatch, check_peer, context_of

if TYPE_CHECKING:
    from meshlib.policy.circuit_limits import Slots
    from meshlib.transport.upstream.http2_loop import AsyncioHttp2
    from meshlib.transport.upstream.trace import Trace


SMALL_BODY = 65536  # a body up to this size goes out in one write with the head


class AsyncioUpstream:
    """The connections of one event loop. Not thread-safe: it lives on its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names, alarms: Alarms | None = None) -> None:
        self.loop = loop
        self._names = names
        self.pid = os.getpid()
        self._idle: dict[Target, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self.alarms = alarms or Alarms()
        self.now = (
            self.alarms.now
        )  # by the mesh's clock: how long connections are kept; the loop's own is for the network
        self._sweeper: Any = None  # an alarm,
        self._sweep_at = 0.0  # and when it rings
        self._waits: set[asyncio.Timeout] = set()
        self.closed = False
        self._http2: AsyncioHttp2 | None = None

    # -- connections ------------------------------------------------------------------------------------------------

    def take(self, target: Target) -> Connection | None:
        """An idle connection, None when there is none."""
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            now = self.now()
            if now - connection.idle_since < target.idle_timeout and not worn_out(connection, now):
                self._busy.add(connection)
                return connection
            connection.retire()
        return None

    async def connect(self, target: Target, limit: float | None, trace: Trace | None = None) -> Connection:
        """A new connection, TLS done. Raises OSError, TimeoutError, PeerNameMismatch."""
        async with self.until_closed(limit):
            connection = Connection(self, target)
            try:
                await self.dial(connection, target, HTTP1_ONLY, trace)
            except BaseException:
                connection.abort()
                raise
        self._busy.add(connection)
        return connection

    @contextlib.asynccontextmanager
    async def until_closed(self, limit: float | None = None) -> AsyncIterator[None]:
        """Bound what is awaited inside by ``limit`` seconds and by the mesh's closing: TimeoutError, either way."""
        async with asyncio.timeout(limit) as bound:
            self._waits.add(bound)
            try:
                if self.closed:
                    bound.reschedule(self.loop.time())
                yield
            finally:
                self._waits.discard(bound)

    async def dial(
        self, protocol: asyncio.Protocol, target: Target, protocols: Sequence[str], trace: Trace | None = None
    ) -> Any:
        """The transport of a new connection for ``protocol``, TLS done and ``protocols`` offered in it. Raises OSError,
        PeerNameMismatch."""
        options: dict[str, Any] = {}
        if target.tls is not None:
            options = {
                "ssl": Offering(context_of(target.tls), protocols),
                "server_hostname": target.server_hostname or target.host,
            }
        transport: Any
        try:
            if trace is not None:
                transport = await self._dial_traced(protocol, target, options, trace)
            elif target.host.startswith("unix://"):
                path = target.host.removeprefix("unix://")
                transport, _ = await self.loop.create_unix_connection(lambda: protocol, path, **options)
            else:
                transport = await self._connect_to(target, protocol, options)
        except UnicodeDecodeError as error:  # asyncio reads the certificate before anybody asks for it
            raise PeerNameMismatch(UNREADABLE) from error
        try:
            check_peer(transport.get_extra_info("peercert") or {}, target.subject_alt_names)
        except PeerNameMismatch:
            transport.abort()
            raise
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.keepalive is not None:
                keep_alive(sock, target.keepalive)
        return transport

    async def _dial_traced(
        self, protocol: asyncio.Protocol, target: Target, options: dict[str, Any], trace: Trace
    ) -> Any:
        """In two steps, so that the trace can tell them apart."""
        sock: socket.socket | None = None
        try:
            await trace.connecting(target, target.connect_timeout)
            if target.host.startswith("unix://"):
                sock = await self._reach(socket.AF_UNIX, target.host.removeprefix("unix://"))
            else:
                addresses = await self._names.resolve_async(target.host) if target.is_name else [target.host]
                sock = await self._reach_one(addresses, target)
            await trace.complete(PooledStream(sock))
            if target.tls is not None:
                await trace.starting_tls(target, context_of(target.tls), target.connect_timeout)
            transport, _ = await self.loop.create_connection(lambda: protocol, sock=sock, **options)
            sock = None
            if target.tls is not None:
                await trace.complete(AsyncPooledStream(transport))
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, asyncio.CancelledError):
                await trace.failed(error)
            raise
        return transport

    async def _reach_one(self, addresses: Sequence[str], target: Target) -> socket.socket:
        failed: OSError | None = None
        for address in addresses:
            try:
                return await self._reach(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, target.port))
            except OSError as error:
                failed = error
        raise failed or OSError(f"the name {target.host} has no address")

    async def _reach(self, family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await self.loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_to(self, target: Target, protocol: asyncio.Protocol, options: dict[str, Any]) -> Any:
        """To the address, or to the first address of the name that answers."""
        if not target.is_name:
            transport, _ = await self.loop.create_connection(lambda: protocol, target.host, target.port, **options)
            return transport
        failed: OSError | None = None
        for address in await self._names.resolve_async(target.host):
            try:
                transport, _ = await self.loop.create_connection(lambda: protocol, address, target.port, **options)
            except ssl.SSLError:
                raise  # the address answered; another one would not be more trustworthy
            except OSError as error:
                failed = error
            else:
                return transport
        raise failed or OSError(f"the name {target.host} has no address")

    def adopt(self, transport: Any, target: Target) -> None:
        """A connection that was made for HTTP/2 and whose server chose HTTP/1.1: use it for the next call."""
        connection = Connection(self, target)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        self._keep(connection)

    def release(self, connection: Connection) -> None:
        """The answer is over: keep the connection if it is good for another."""
        self._busy.discard(connection)
        now = self.now()
        if connection.closed:
            return
        if self.closed or not connection.reader.reusable or worn_out(connection, now):
            connection.retire()
            return
        limits = connection.target.limits
        if limits is None:
            self._keep(connection)
        else:
            self._keep_within(limits, connection)

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
        return None if await limits.acquire(Acquire(slots, attempt.slot_limit)) else no_slot(attempt)

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
        for bound in self._waits:
            if not bound.expired():
                bound.reschedule(self.loop.time())
        if self._http2 is not None:
            self._http2.close()

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

    # -- one exchange -----------------------------------------------------------------------------------------------

    async def send(self, attempt: Attempt) -> Outcome:
        """One attempt. Failures are values; cancellation aborts the connection and is raised."""
        if self.closed:
            return mesh_closed()
        try:
            headers, target = attempt.headers, attempt.target
            framing = framing_of(headers, attempt.body)
            if target.http2 and asks_for_websocket(headers):
                if target.tls is None:
                    return no_upgrade(target)
            elif target.http2:
                outcome = await self._send_http2(attempt, framing)
                if outcome is not None:
                    return outcome
            data = encode_head(attempt.method, attempt.request_target, framing.headers)
        except InvalidHead as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        loop = self.loop
        began = loop.time()
        timeout = attempt.head_timeout
        limits = target.limits
        if limits is not None:
            refused = await self._admit(limits, attempt)
            if refused is not None:
                return refused
        connection = self.take(target)
        if connection is None:
            limit = attempt.connect_limit
            try:
                if limits is not None:
                    if timeout is not None:
                        limit = smaller(limit, max(0.0, began + timeout - loop.time()))
                    self.make_room(limits)
                connection = await self.connect(target, limit, attempt.trace)
            except TimeoutError as error:
                if self.closed:
                    return mesh_closed(error)
                if limit == timeout:
                    return Outcome(Failure.TIMEOUT, f"no connection to {target} within the {limit:.3g} s left", error)
                return Outcome(Failure.CONNECT_TIMEOUT, f"no connection to {target} within {limit:g} s", error)
            except socket.gaierror as error:
                return Outcome(Failure.CONNECT_FAILED, f"the name {target.host} was not found: {error.strerror}", error)
            except (OSError, ssl.SSLError, PeerNameMismatch) as error:
                return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)
            finally:
                if connection is None and limits is not None and limits.slots is not None:
                    limits.slots.release()
        if limits is not None:
            connection.slot = limits.slots
        pending = Pending(self, connection, loop, attempt)
        rest = None
        if not isinstance(framing, NoBody):
            content = framing.body
            if type(content) is bytes and len(content) <= SMALL_BODY and not framing.expects_continue:
                data += framing.whole(content)
            else:
                rest = framing
        timer, trace = None, attempt.trace
        try:
            if trace is not None:
                trace.version = "http11"
                await trace.send_headers(attempt, framing.headers)
            connection.start(data, attempt.method == b"HEAD", pending, headers)
            if timeout is not None:
                timer = loop.call_at(began + timeout, pending.head_timed_out)
            if rest is not None or not pending.writable:
                problem = None
                try:
                    async with self.until_closed():  # the caller's own iterator may have nothing for us for long
                        problem = await pending.send_body(rest)
                except TimeoutError as error:
                    if not self.closed:
                        raise
                    problem = mesh_closed(error)
                if problem is not None:
                    pending.abort()
                    if trace is not None:
                        await trace.ended(problem)
                    return problem
            if trace is None:
                return await pending.outcome
            await trace.sent()
            outcome = await pending.outcome
            await trace.ended(outcome)
            return outcome
        except BaseException:
            pending.abort()  # not drop: an answer that is over has given the connection back, maybe to another call
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def _send_http2(self, attempt: Attempt, framing: Framing) -> Outcome | None:
        """None when the server speaks HTTP/1.1 only."""
        if self._http2 is None:
            try:
                from meshlib.transport.upstream.http2_loop import AsyncioHttp2

                self._http2 = AsyncioHttp2(self)
            except ImportError as error:
                return no_http2_package(attempt.target, error)
        return await self._http2.send(attempt, framing)
