"""HTTP/2 connections shared by threads: which there are, and who makes the next one. No thread of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from enum import Enum
from threading import RLock
from typing import Final

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Framing
from meshlib.transport.protocol.http2_choice import preferred
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.request_head import InvalidHead
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.beside import ThreadsBeside
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_call import copy_of, exchange, no_streams
from meshlib.transport.upstream.http2_threads_body import Http2Body
from meshlib.transport.upstream.http2_threads_connection import Connection
from meshlib.transport.upstream.http2_threads_waiter import Waiter
from meshlib.transport.upstream.http2_threads_wire import Wire
from meshlib.transport.upstream.mutual import WORTHLESS
from meshlib.transport.upstream.mutual_connections import Judge, any_mutual, let_go
from meshlib.transport.upstream.problems import mesh_closed, no_connection
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import HTTP2_OR_1, chose_http1
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket

SWEEP_SECONDS = 1.0
HTTP1_SECONDS = 300.0  # how long a server that chose HTTP/1.1 is not offered HTTP/2

_TELLING: Final = (Failure.CONNECT_FAILED, Failure.PROTOCOL_ERROR)
"""Failures to connect that another thread would only see again."""


class _Look(Enum):
    """The connections have changed."""

    AGAIN = 1


Opened = tuple[Connection, Stream, Waiter]
Found = Opened | Outcome | AnySocket | None
"""A stream; why there is none; the socket of a server that chose HTTP/1.1, None if that was known before."""


class _Pool:
    """The connections to one target. At most one is being made at a time."""

    __slots__ = ("changed", "connecting", "connections", "failure", "lock", "made", "swept")

    def __init__(self) -> None:
        self.lock = RLock()
        self.changed = threading.Condition(self.lock)
        self.connections: tuple[Connection, ...] = ()
        self.connecting = False
        self.made = 0  # attempts to connect that are over
        self.swept = 0.0
        self.failure: Outcome | None = None  # of the last one, if it says something about the target

    def over(self, made: Connection | None, failure: Outcome | None) -> None:
        """An attempt to connect is over."""
        with self.lock:
            if made is not None:
                self.connections = (*self.connections, made)
            self.failure = failure
            self.connecting = False
            self.made += 1
            self.changed.notify_all()


class SyncHttp2:
    """The HTTP/2 connections of blocking clients, on sockets that the HTTP/1.1 pool lends."""

    def __init__(self, beside: ThreadsBeside, now: Callable[[], float]) -> None:
        """Raises ImportError without a library for HTTP/2."""
        preferred()
        self._beside = beside
        self.now = now
        self._pools: dict[Target, _Pool] = {}
        self._http1: dict[Target, float] = {}
        self._open: set[Wire] = set()

    def send(self, attempt: Attempt, framing: Framing) -> Outcome | AnySocket | None:
        """One attempt, as ``SyncUpstream.send``. When the server speaks HTTP/1.1 only: the new socket to do it on, or None
        if that was known before."""
        began = self.now()
        target = attempt.target
        until = self._http1.get(target)
        if until is not None:
            if began < until:
                return None
            del self._http1[target]
        try:
            head = request_head(attempt.method, attempt.request_target, framing.headers, target.scheme)
        except InvalidHead as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        found = self._stream(head, not framing.body, attempt, began)
        if not isinstance(found, tuple):
            return found
        connection, stream, waiter = found
        try:
            return self._exchange(attempt, framing, began, connection, stream, waiter)
        except BaseException:
            connection.cancel(stream)
            raise

    def _exchange(
        self, attempt: Attempt, framing: Framing, began: float, connection: Connection, stream: Stream, waiter: Waiter
    ) -> Outcome:
        timeout, trace = attempt.head_timeout, attempt.trace
        head_by = None if timeout is None else began + timeout
        steps = exchange(connection.session, stream, framing, attempt, head_by, self.now)
        source = iter(framing.body) if isinstance(framing.body, ReplayBody) else None
        if trace is not None:
            trace.version = "http2"
            trace.send_headers(attempt.method, attempt.request_target, framing.headers, attempt.target)
            trace.sent()  # so far as it has to be before the response: the rest of a body goes out beside it
        outcome = connection.perform(steps, stream, waiter, source)
        outcome.stream = connection.stream
        if trace is not None:
            trace.ended(outcome)
        if outcome.failure is None and outcome.whole is None:
            outcome.body = Http2Body(connection, stream, waiter, attempt)
        if not connection.usable:
            self._forget(connection)
        return outcome

    # -- connections ------------------------------------------------------------------------------------------------

    def _stream(self, head: Head, end: bool, attempt: Attempt, began: float) -> Found:
        pool = self._pools.get(attempt.target)
        if pool is None:
            pool = self._pools.setdefault(attempt.target, _Pool())
        if len(pool.connections) > 1 and began - pool.swept >= SWEEP_SECONDS:
            self._sweep(pool, began)
        found: Found | _Look = _Look.AGAIN
        while found is _Look.AGAIN:
            if self._beside.closed:
                return mesh_closed()
            found = self._opened(pool, head, end, attempt) or self._made(pool, head, end, attempt, began)
        return found

    def _opened(self, pool: _Pool, head: Head, end: bool, attempt: Attempt) -> Opened | None:
        """A stream of a connection that there is; None when none of them takes another."""
        for connection in pool.connections:
            opened = connection.open(head, end, attempt.method == b"HEAD")
            if opened is not None:
                return connection, *opened
            if not connection.usable:
                self._forget(connection)
        return None

    def _made(self, pool: _Pool, head: Head, end: bool, attempt: Attempt, began: float) -> Found | _Look:
        """A stream of a new connection, if no other thread is making one: then wait for that, and look again."""
        limit = attempt.connect_limit
        by = None if limit is None else began + limit
        made: Connection | Outcome | AnySocket | None = None
        opened = useless = None
        mine = False
        try:
            with pool.lock:
                if pool.connecting:
                    return self._made_by_another(pool, attempt, limit, by)
                if any(connection.session.room() > 0 and connection.usable for connection in pool.connections):
                    return _Look.AGAIN  # made while this thread was looking
                pool.connecting = mine = True
                pool.failure = None
            made = self._connect(attempt, limit, by)
            if isinstance(made, Connection):
                opened = made.open(head, end, attempt.method == b"HEAD")
                if opened is None and not made.unneeded:
                    useless = mesh_closed() if self._beside.closed else no_streams(made.session, attempt.target)
                if useless is not None:
                    made.retire()
        finally:
            if mine:
                try:
                    _tell(pool, attempt, limit, made, opened is not None)
                except BaseException:
                    pool.over(None, None)  # interrupted: the others would wait for ever
                    if isinstance(made, Connection):
                        made.retire()
                        if opened is not None:
                            made.cancel(opened[0])
                    raise
        if not isinstance(made, Connection):
            return made
        return _Look.AGAIN if opened is None and useless is None else useless if opened is None else (made, *opened)

    def _made_by_another(
        self, pool: _Pool, attempt: Attempt, limit: float | None, by: float | None
    ) -> Outcome | _Look | None:
        """The pool's lock is held."""
        before = pool.made
        left = None if by is None else by - self.now()
        if not pool.changed.wait_for(lambda: pool.made != before, left):
            return no_connection(attempt, limit)
        if pool.failure is not None:
            return copy_of(pool.failure)
        return None if attempt.target in self._http1 else _Look.AGAIN

    def _connect(self, attempt: Attempt, limit: float | None, by: float | None) -> Connection | Outcome | AnySocket:
        """A connection that has the server's SETTINGS; the socket when the server chose HTTP/1.1."""
        limits = attempt.target.limits
        if limits is None:
            return self._connect_now(attempt, limit, by)
        refused = self._beside.admit(limits, attempt)
        if refused is not None:
            return refused
        self._beside.make_room(limits)
        made: Connection | Outcome | AnySocket | None = None
        try:
            made = self._connect_now(attempt, limit, None if limit is None else self.now() + limit)
            if isinstance(made, Connection):
                made.take_slot(limits.slots)
        finally:
            if (made is None or isinstance(made, Outcome)) and limits.slots is not None:
                limits.slots.release()
        return made

    def _connect_now(self, attempt: Attempt, limit: float | None, by: float | None) -> Connection | Outcome | AnySocket:
        target, trace = attempt.target, attempt.trace
        left = None if by is None else by - self.now()
        if left is not None and left <= 0:
            return no_connection(attempt, limit)
        try:
            sock = self._beside.dial(target, HTTP2_OR_1, left, trace)
        except TimeoutError:
            return no_connection(attempt, limit)
        if isinstance(sock, Outcome):
            return sock
        if isinstance(sock, TlsSocket) and chose_http1(target.tls, sock.ssl_object.selected_alpn_protocol()):
            self._http1[target] = self.now() + HTTP1_SECONDS
            return sock
        connection = Connection(sock, target, self)
        self._open.add(connection)
        try:
            if self._beside.closed:  # looked at after the connection can be found by ``close``
                connection.mesh_closed()
            if trace is not None:
                trace.started("http2.send_connection_init")
            problem = connection.greet(by)
            if trace is not None:
                if problem is None:
                    trace.complete()
                else:
                    trace.ended(problem)
        except BaseException:
            connection.retire()
            raise
        if problem is not None:
            connection.retire()
            return no_connection(attempt, limit) if problem.failure is Failure.CONNECT_TIMEOUT else problem
        return connection

    def _forget(self, connection: Wire) -> None:
        """It takes no more streams; those under way go on."""
        pool = self._pools.get(connection.target)
        if pool is not None:
            with pool.lock:
                pool.connections = tuple(other for other in pool.connections if other is not connection)

    def gone(self, connection: Wire) -> None:
        """It is closed (its lock is held)."""
        self._open.discard(connection)
        if connection.target.retired:
            self._pools.pop(connection.target, None)

    def _sweep(self, pool: _Pool, now: float) -> None:
        """Close what a burst has left behind; the first connection with room gets all calls, so the others fall idle."""
        pool.swept = now
        for connection in pool.connections[1:]:
            if connection.idle and now - connection.idle_since >= connection.target.idle_timeout:
                connection.retire()

    def connections(self) -> Iterator[tuple[Target, bool]]:
        """Where each connection leads, and whether a call is on it. From any thread."""
        for connection in list(self._open):
            if not connection.closed:
                yield connection.target, not connection.idle

    def has_mutual(self) -> bool:
        """Whether there are connections over mTLS of the mesh."""
        return any_mutual(list(self._open))

    def let_go(self, standing: Judge) -> None:
        """See ``SyncUpstream.let_go``."""
        let_go(list(self._open), standing, self._drain, self._cut)

    def _drain(self, connection: Wire) -> None:
        if not connection.retiring:
            connection.unneeded = True
            connection.retire()
            self._forget(connection)

    def _cut(self, connection: Wire) -> None:
        connection.give_up(StreamFailure(Failure.RESET, WORTHLESS))

    def idle_connections(self) -> int:
        """How many connections carry no call."""
        return sum(1 for connection in list(self._open) if connection.idle and not connection.closed)

    def idle_of(self, limits: ClientLimits) -> int:
        """How many connections of a client carry no call."""
        return sum(1 for connection in list(self._open) if connection.target.limits is limits and connection.idle)

    def too_many_idle(self, limits: ClientLimits) -> bool:
        """Whether a client keeps more connections without a call than its limits allow."""
        return limits.max_idle is not None and limits.too_many(self.idle_of(limits) + self._beside.idle_of(limits))

    def retire_idle(self, limits: ClientLimits) -> bool:
        """Close a connection of a client that carries no call. False when there is none."""
        for connection in list(self._open):
            if connection.target.limits is limits and connection.idle and connection.served and not connection.closed:
                connection.retire()
                self._forget(connection)
                return True
        return False

    def drop_target(self, target: Target) -> None:
        """A target that is no longer in use."""
        self._http1.pop(target, None)
        pool = self._pools.pop(target, None)
        for connection in () if pool is None else pool.connections:
            connection.retire()

    def close_idle(self) -> None:
        """Close the connections that carry no call."""
        for connection in list(self._open):
            if connection.idle:
                connection.unneeded = True
                connection.retire()
                self._forget(connection)

    def close(self) -> None:
        """Close all connections, those in use too."""
        for connection in list(self._open):
            connection.mesh_closed()
            self._forget(connection)

    def forget_inherited(self) -> None:
        """In a forked child."""
        inherited, self._open = self._open, set()
        self._pools = {}
        for connection in inherited:
            connection.forget()


def _tell(
    pool: _Pool, attempt: Attempt, limit: float | None, made: Connection | Outcome | AnySocket | None, opened: bool
) -> None:
    """Those that wait for the connection of a call."""
    failure = made if isinstance(made, Outcome) else None
    if failure is not None and failure.failure not in _TELLING and limit != attempt.target.connect_timeout:
        failure = None  # they wait for this connection too, perhaps more patiently
    pool.over(made if isinstance(made, Connection) and opened else None, failure)
