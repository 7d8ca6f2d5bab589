"""HTTP/2 connections shared by threads.

There is no thread of our own. Of the threads that wait on a connection one waits in the kernel, for all of them: it reads
what comes, wakes those it is for, and passes the role on when it leaves. All else, reading and writing included, happens
under the connection's lock on a socket that never blocks (an OpenSSL connection must not be used by two threads at once).
A thread that leaves bytes unwritten tells the one in the kernel, through a pipe, to wait for room as well.

The lock survives Ctrl-C, which comes where a function begins and where a call into C ends: it is taken by ``with`` only, and
where it is given away in between, the ``finally`` that takes it back is entered before. (``with`` on a Condition would not
do: its methods are Python.) It is an RLock because those know whose they are.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import RLock
from typing import TYPE_CHECKING, Any

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
from meshlib.transport.upstream.beside import ThreadsBeside
from meshlib.transport.upstream.environment import waiting_poll
from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.http2_call import (
    FLUSH,
    NEXT,
    Sent,
    Step,
    copy_of,
    exchange,
    greeting_problem,
    next_chunk,
    no_streams,
)
from meshlib.transport.upstream.network_stream import PooledStream
from meshlib.transport.upstream.problems import MESH_CLOSED, mesh_closed, no_connection
from meshlib.transport.upstream.target import LONGEST_WAIT, Target, worn_out
from meshlib.transport.upstream.tls import HTTP2_OR_1

if TYPE_CHECKING:
    from meshlib.policy.circuit_limits import Slots
    from meshlib.transport.upstream.client_limits import ClientLimits

RECEIVE = 65536  # not less than a TLS record, so that no decrypted bytes are left where poll does not see them
READS = 8  # of RECEIVE bytes, before the threads they are for get to run
TLS_RECORD = 16384
BACKLOG_MOST = 4 * 1024 * 1024  # bytes that a server leaves unread before it counts as hostile
SWEEP_SECONDS = 1.0
UNUSED_SECONDS = (
    1.0  # how long a new connection waits for its first call, whatever the client's limits say of idle ones
)
HTTP1_SECONDS = 300.0  # how long a server that chose HTTP/1.1 is not offered HTTP/2

_INTERRUPTED = ConnectionAbortedError("a thread was interrupted while it used the connection")
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Waiter:
    """The thread of one call: what it sleeps on, and whether its stream has changed since it looked."""

    __slots__ = ("changed", "cond", "outside")

    def __init__(self, lock: RLock) -> None:
        self.cond = threading.Condition(lock)
        self.changed = False
        self.outside = True  # not in the middle of what must not be interrupted

    def wake(self) -> None:
        """The stream's ``wake``; the lock is held."""
        self.changed = True
        self.cond.notify()


class Connection:
    """One HTTP/2 connection, used by any number of threads."""

    def __init__(
        self,
        sock: socket.socket,
        target: Target,
        owner: SyncHttp2,
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.stream = PooledStream(sock)
        self.target = target
        self.requests = 0
        self._now = owner._now
        self.opened = self.idle_since = self._now()
        self.closed = False
        self.retiring = False
        self.unneeded = False  # retired by ourselves: a call that was to be its first gets another connection
        self.slot: Slots | None = None  # that the client's limits gave it, as long as it is open
        self.session = Http2Session(self.opened, target.max_concurrent_streams)
        self._owner = owner
        self._pid = os.getpid()
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._left = bytearray()  # unwritten
        self._lock = RLock()
        self._reader: Waiter | None = None
        self._waiting: dict[Waiter, None] = {}
        self._dropped: deque[Stream] = deque()  # by the garbage collector, which may run under our own lock
        self._kick_out, self._kick_in = socket.socketpair()
        self._kick_out.setblocking(False)
        self._kick_in.setblocking(False)
        self._poll = waiting_poll(sock)
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._kick_out, select.POLLIN)

    # -- beginning --------------------------------------------------------------------------------------------------

    def greet(self, until: float | None) -> Outcome | None:
        """Wait for the server's SETTINGS, which say how many streams it takes. An Outcome when they do not come."""
        waiter = Waiter(self._lock)
        with self._lock:
            self._flush()
            while not self.session.ready and self.session.broken is None:
                left = None if until is None else max(0.0, until - self._now())
                if not self._read(waiter, left) and not self.session.ready and self.session.broken is None:
                    return Outcome(Failure.CONNECT_TIMEOUT, f"no HTTP/2 settings from {self.target} in time")
        return None if self.session.broken is None else greeting_problem(self.session, self.target)

    def open(self, head: Head, end: bool, head_request: bool) -> tuple[Stream, Waiter] | None:
        """A stream of this connection; None when it takes no more."""
        with self._lock:
            try:
                return self._opened(head, end, head_request)
            except BaseException:
                self._break(_INTERRUPTED)
                raise

    def _opened(self, head: Head, end: bool, head_request: bool) -> tuple[Stream, Waiter] | None:
        self._forget_dropped()
        now = self._now()
        if self.closed or self.retiring:
            return None
        if self._reader is None:
            # nobody reads, be it idle or its callers slow: the server may have gone, or asked for a sign of life
            self._pump(to_the_end=True)
            self._flush()
        if not self.session.streams and now - self.idle_since >= self.target.idle_timeout:
            self.retiring = True
        if worn_out(self, now):
            self.retiring = True
        stream, waiter = None, Waiter(self._lock)
        if not self.retiring:
            stream = self.session.open(head, end, head_request, waiter.wake)
        if stream is None:
            self._close_if_over()
            return None
        self.requests += 1
        return stream, waiter

    # -- one step after the other -----------------------------------------------------------------------------------

    def perform(
        self, steps: Generator[Step, Sent, Any], stream: Stream, waiter: Waiter, source: Iterator[bytes] | None = None
    ) -> Any:
        """Run ``exchange`` or ``next_chunk`` to its end, in this thread."""
        if self._pid != os.getpid():
            raise BodyFailed(Failure.RESET, "the connection belongs to the process that forked this one")
        try:
            with self._lock:
                return self._perform(steps, stream, waiter, source)
        finally:
            if self._dropped:
                self._tidy()

    def _perform(
        self, steps: Generator[Step, Sent, Any], stream: Stream, waiter: Waiter, source: Iterator[bytes] | None
    ) -> Any:
        waiter.outside = False
        try:
            step = next(steps)
            while True:
                self._flush()
                if step is NEXT:
                    piece, problem = self._next(waiter, source)
                    step = steps.send(piece) if problem is None else steps.throw(problem)
                elif step is FLUSH:
                    step = steps.send(None)
                else:
                    step = steps.send(self._wait(waiter, step))
        except StopIteration as over:
            return over.value
        except BodyFailed:
            raise
        except BaseException as error:
            if waiter.outside:
                steps.close()
                self.session.cancel(stream)
            else:
                self._break(error if isinstance(error, Exception) else _INTERRUPTED)  # nobody knows how far it was
            raise
        finally:
            waiter.outside = True
            try:
                self._flush()
                self._forget_dropped()
                self._close_if_over()
            except BaseException:
                self._break(_INTERRUPTED)
                raise
            finally:
                try:
                    self._pass_on()
                except BaseException:
                    self._pass_on()  # interrupted: nobody else would
                    raise

    def _next(self, waiter: Waiter, source: Iterator[bytes] | None) -> tuple[bytes | None, SourceFailed | None]:
        assert source is not None
        piece, problem = None, None
        self._pass_on()
        waiter.outside = True
        try:
            self._lock.release()
            if self._dropped:
                self._tidy()
            piece = next(source, None)
        except SourceFailed as error:
            problem = error
        finally:
            self._lock.acquire()
        waiter.outside = False
        return piece, problem

    def _wait(self, waiter: Waiter, until: float | None) -> bool:
        """Until the stream changes (True) or the time has come. The lock is held before and after, not meanwhile."""
        while not waiter.changed:
            left = None if until is None else until - self._now()
            if left is not None and left <= 0:
                return False
            if self._reader is None:
                if not self._read(waiter, left) and not waiter.changed:
                    return False
            else:
                self._waiting[waiter] = None
                waiter.outside = True
                try:
                    in_time = waiter.cond.wait(left)
                finally:
                    if not self._lock._is_owned():  # type: ignore[attr-defined]
                        self._lock.acquire()  # an interrupt came before ``wait`` had seen to that
                    self._waiting.pop(waiter, None)
                waiter.outside = False
                if not in_time and not waiter.changed:
                    return False
        waiter.changed = False
        return True

    def _read(self, waiter: Waiter, left: float | None) -> bool:
        """Take the reader's role once: wait in the kernel and handle what came. False when nothing did in time."""
        if self.closed:
            return False
        self._poll.modify(self.sock, select.POLLIN | select.POLLOUT if self._left else select.POLLIN)
        ready: list[tuple[int, int]] = []
        waiter.outside = True
        try:
            self._reader = waiter
            self._lock.release()
            if self._dropped:
                self._tidy()
            ready = self._poll.poll(None if left is None else math.ceil(min(left, LONGEST_WAIT) * 1000))
        finally:
            try:
                self._lock.acquire()
            finally:
                self._reader = None
        waiter.outside = False
        if self.session.broken is not None:
            self._shut()
            return True
        for descriptor, _ in ready:
            if descriptor == self._kick_out.fileno():
                self._kick_out.recv(4096)
            else:
                self._pump()
        self._flush()
        return bool(ready)

    def _pass_on(self) -> None:
        """Somebody must wait in the kernel while others wait for what it reads."""
        if self._reader is None and self._waiting:
            next(iter(self._waiting)).cond.notify()

    # -- the socket (the lock is held) ------------------------------------------------------------------------------

    def _pump(self, to_the_end: bool = False) -> None:
        """Read what is there. ``to_the_end``: look again after the last bytes, behind which may be the connection's end, of
        which no poll will tell."""
        if self.closed:
            return
        for _ in range(READS):
            try:
                data = self.sock.recv(RECEIVE)
            except _NOT_NOW:
                return
            except (OSError, ssl.SSLError) as error:
                self._break(error)
                return
            if not data:
                self._break(None)
                return
            self.session.receive(data, self._now())
            if self.session.broken is not None:
                self._flush()
                self._shut()
                return
            if len(data) < RECEIVE and not self._tls and not to_the_end:
                return

    def _flush(self) -> None:
        """Write what is to be written, as far as the socket takes it."""
        left = self._left
        out = self.session.outgoing()
        if self.closed or not (out or left):
            return
        left += out
        sent = 0
        try:
            with memoryview(left) as view:
                while sent < len(left):
                    # a TLS record that had no room must be tried again with the same bytes, so they stay in place
                    with view[sent : sent + TLS_RECORD] if self._tls else view[sent:] as piece:
                        sent += self.sock.send(piece)
        except _NOT_NOW:
            pass
        except (OSError, ssl.SSLError) as error:
            left.clear()
            if self.session.broken is None:
                self._pump()  # there may be an answer or a reason in what the server sent before it closed
                self._break(error)
            return
        del left[:sent]
        self.session.set_writable(not left)
        if not left:
            return
        if len(left) > BACKLOG_MOST:
            self._break(ConnectionAbortedError("the server does not read what it is sent"))
        elif self._reader is not None:
            self._kick()

    def _kick(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then it has been told often enough
            self._kick_in.send(b"k")

    def _break(self, error: BaseException | None) -> None:
        """The connection is gone or no longer to be trusted."""
        self.session.lost(error)
        self._shut()

    def _shut(self) -> None:
        """Close the socket, or have the thread that waits on it do that (its number must not go to another file)."""
        if self.closed:
            return
        if self._reader is not None:
            self._kick()
            return
        self.sock.close()
        self._kick_out.close()
        self._kick_in.close()
        self._owner._gone(self)
        self.closed = True
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()

    def _close_if_over(self) -> None:
        session = self.session
        if session.streams or self.closed:
            return
        self.idle_since = self._now()
        if session.broken is None:
            if worn_out(self, self.idle_since) or self._not_kept():
                self.retiring = True
            if not self.retiring and not session.going_away:
                return
            session.goodbye()
            self._flush()
        self._shut()

    def _not_kept(self) -> bool:
        """Whether the client's limits say so."""
        limits = self.target.limits
        return limits is not None and self.served and (limits.waited_for or self._owner.too_many_idle(limits))

    def _forget_dropped(self) -> None:
        while self._dropped:
            stream = self._dropped.popleft()
            self.session.cancel(stream)
            stream.wake()

    def _tidy(self) -> None:
        """See to what was dropped, perhaps by the garbage collector while the lock was held."""
        with self._lock:
            try:
                self._forget_dropped()
                self._flush()
                self._close_if_over()
            except BaseException:
                self._break(_INTERRUPTED)
                raise

    # -- from outside -----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """No call is on it, and none waits for it to be made."""
        return self.session.ready and not self.session.streams

    @property
    def served(self) -> bool:
        """Whether the thread that it was made for has had the time to use it."""
        return self.requests > 0 or self._now() - self.opened >= UNUSED_SECONDS

    @property
    def usable(self) -> bool:
        """Whether it may still get streams, if not now then later."""
        return not self.closed and not self.retiring and not self.session.going_away and self.session.broken is None

    def take_slot(self, slot: Slots | None) -> None:
        """Hold a slot of the client's limits as long as this is open."""
        with self._lock:
            self.slot = slot
            over = self.closed
        if over and slot is not None:
            slot.release()

    def drop(self, stream: Stream) -> None:
        """Nobody wants the rest of an answer. Never blocks: the garbage collector may call it under our own lock."""
        if self._pid != os.getpid():
            return
        self._dropped.append(stream)
        if not self._lock._is_owned() and self._lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                self._tidy()
            finally:
                self._lock.release()

    def cancel(self, stream: Stream) -> None:
        """As ``drop``, and done when it returns."""
        if self._pid == os.getpid():
            self._dropped.append(stream)
            self._tidy()

    def retire(self) -> None:
        """No new streams; close when the last one is over."""
        self.retiring = True
        self._tidy()

    def mesh_closed(self) -> None:
        """Give up the connection with all its calls, which the mesh's closing ends."""
        with self._lock:
            self.retiring = True
            if self.session.streams or not self.session.ready:
                self.session.give_up(StreamFailure(Failure.CLOSED, MESH_CLOSED))
                self._shut()
            self._tidy()

    def forget(self) -> None:
        """In a forked child: close the child's copies. The peer hears nothing."""
        if self.closed:
            return
        self.closed = True
        for sock in (self.sock, self._kick_in, self._kick_out):
            close_copy(sock)


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
    """The HTTP/2 part of a ``SyncUpstream``, which makes its sockets."""

    def __init__(self, upstream: ThreadsBeside, now: Callable[[], float]) -> None:
        """Raises ImportError without a library for HTTP/2."""
        preferred()
        self._upstream = upstream
        self._now = now
        self._pools: dict[Target, _Pool] = {}
        self._http1: dict[Target, float] = {}
        self._open: set[Connection] = set()

    def send(
        self,
        attempt: Attempt,
        framing: Framing,
    ) -> Outcome | socket.socket | None:
        """One attempt, as ``SyncUpstream.send``. When the server speaks HTTP/1.1 only: the new socket to do it on, or None
        if that was known before."""
        began = self._now()
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
        self,
        attempt: Attempt,
        framing: Framing,
        began: float,
        connection: Connection,
        stream: Stream,
        waiter: Waiter,
    ) -> Outcome:
        timeout = attempt.head_timeout
        head_by = None if timeout is None else began + timeout
        steps = exchange(
            connection.session,
            stream,
            framing,
            attempt,
            head_by,
            self._now,
        )
        source = iter(framing.body) if isinstance(framing.body, ReplayBody) else None
        trace = attempt.trace
        if trace is not None:
            trace.version = "http2"
            trace.send_headers(attempt.method, attempt.request_target, framing.headers, attempt.target)
            trace.sent()  # so far as it has to be before the response: the rest of a body goes out beside it
        outcome: Outcome = connection.perform(steps, stream, waiter, source)
        outcome.stream = connection.stream
        if trace is not None:
            trace.ended(outcome)
        if outcome.failure is None and outcome.whole is None:
            outcome.body = Http2Body(connection, stream, waiter, attempt)
        if not connection.usable:
            self._forget(connection)
        return outcome

    # -- connections ------------------------------------------------------------------------------------------------

    def _stream(
        self, head: Head, end: bool, attempt: Attempt, began: float
    ) -> tuple[Connection, Stream, Waiter] | Outcome | socket.socket | None:
        head_request, target, limit = attempt.method == b"HEAD", attempt.target, attempt.connect_limit
        pool = self._pools.get(target)
        if pool is None:
            pool = self._pools.setdefault(target, _Pool())
        by = None if limit is None else began + limit
        if len(pool.connections) > 1 and began - pool.swept >= SWEEP_SECONDS:
            self._sweep(pool, began)
        while True:
            if self._upstream.closed:
                return mesh_closed()
            for connection in pool.connections:
                opened = connection.open(head, end, head_request)
                if opened is not None:
                    return connection, *opened
                if not connection.usable:
                    self._forget(connection)
            made_now: Connection | Outcome | socket.socket | None = None
            opened = useless = None
            mine = False
            try:
                with pool.lock:
                    if pool.connecting:
                        made = pool.made
                        left = None if by is None else by - self._now()
                        if not pool.changed.wait_for(lambda: pool.made != made, left):  # noqa: B023 (called here only)
                            return no_connection(attempt, limit)
                        if pool.failure is not None:
                            return copy_of(pool.failure)
                        if target in self._http1:
                            return None
                        continue
                    if any(connection.session.room() > 0 and connection.usable for connection in pool.connections):
                        continue  # made while this thread was looking
                    pool.connecting = mine = True
                    pool.failure = None
                made_now = self._connect(attempt, limit, by)
                if isinstance(made_now, Connection):
                    opened = made_now.open(head, end, head_request)
                    if opened is None and not made_now.unneeded:
                        closed = self._upstream.closed
                        useless = mesh_closed() if closed else no_streams(made_now.session, target)
                    if useless is not None:
                        made_now.retire()
            finally:
                if mine:
                    told = made_now if isinstance(made_now, Outcome) else None
                    if told is not None and told.failure not in _TELLING and limit != target.connect_timeout:
                        told = None  # others wait for this connection too, perhaps more patiently
                    try:
                        pool.over(made_now if isinstance(made_now, Connection) and opened is not None else None, told)
                    except BaseException:
                        pool.over(None, None)  # interrupted: the others would wait for ever
                        if isinstance(made_now, Connection):
                            made_now.retire()
                            if opened is not None:
                                made_now.cancel(opened[0])
                        raise
            if not isinstance(made_now, Connection):
                return made_now
            if opened is not None:
                return made_now, *opened
            if useless is not None:
                return useless

    def _connect(self, attempt: Attempt, limit: float | None, by: float | None) -> Connection | Outcome | socket.socket:
        """A connection that has the server's SETTINGS; the socket when the server chose HTTP/1.1."""
        limits = attempt.target.limits
        if limits is None:
            return self._connect_now(attempt, limit, by)
        refused = self._upstream.admit(limits, attempt)
        if refused is not None:
            return refused
        self._upstream.make_room(limits)
        made: Connection | Outcome | socket.socket | None = None
        try:
            made = self._connect_now(attempt, limit, None if limit is None else self._now() + limit)
            if isinstance(made, Connection):
                made.take_slot(limits.slots)
        finally:
            if (made is None or isinstance(made, Outcome)) and limits.slots is not None:
                limits.slots.release()
        return made

    def _connect_now(
        self, attempt: Attempt, limit: float | None, by: float | None
    ) -> Connection | Outcome | socket.socket:
        target, trace = attempt.target, attempt.trace
        left = None if by is None else by - self._now()
        if left is not None and left <= 0:
            return no_connection(attempt, limit)
        try:
            sock = self._upstream.dial(target, HTTP2_OR_1, left, trace)
        except TimeoutError:
            return no_connection(attempt, limit)
        if isinstance(sock, Outcome):
            return sock
        if isinstance(sock, ssl.SSLSocket) and sock.selected_alpn_protocol() != "h2":
            self._http1[target] = self._now() + HTTP1_SECONDS
            return sock
        connection = Connection(sock, target, self)
        self._open.add(connection)
        try:
            if self._upstream.closed:  # looked at after the connection can be found by ``close``
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

    def _forget(self, connection: Connection) -> None:
        """It takes no more streams; those under way go on."""
        pool = self._pools.get(connection.target)
        if pool is not None:
            with pool.lock:
                pool.connections = tuple(other for other in pool.connections if other is not connection)

    def _gone(self, connection: Connection) -> None:
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

    def idle_connections(self) -> int:
        """How many connections carry no call."""
        return sum(1 for connection in list(self._open) if connection.idle and not connection.closed)

    def idle_of(self, limits: ClientLimits) -> int:
        """How many connections of a client carry no call."""
        return sum(1 for connection in list(self._open) if connection.target.limits is limits and connection.idle)

    def too_many_idle(self, limits: ClientLimits) -> bool:
        """Whether a client keeps more connections without a call than its limits allow."""
        return limits.max_idle is not None and limits.too_many(self.idle_of(limits) + self._upstream.idle_of(limits))

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


class Http2Body:
    """The rest of an answer's body. ``close`` before its end resets the stream; other streams go on. Raises
    ``BodyFailed`` when it is cut."""

    __slots__ = ("_attempt", "_connection", "_over", "_stream", "_waiter")

    def __init__(self, connection: Connection, stream: Stream, waiter: Waiter, attempt: Attempt) -> None:
        self._connection = connection
        self._stream = stream
        self._waiter = waiter
        self._attempt = attempt
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        connection, stream, attempt = self._connection, self._stream, self._attempt
        try:
            while not self._over:
                steps = next_chunk(connection.session, stream, attempt, connection._now)
                data = connection.perform(steps, stream, self._waiter)
                if not data:
                    self._over = True
                    return
                yield data
        except GeneratorExit:
            self._leave()  # not close: it may be the garbage collector that ends this iteration
            raise
        except BaseException:
            self.close()
            raise

    @property
    def trailers(self) -> RawHeaders:
        """What came after the body; complete at its end."""
        return self._stream.trailers

    def close(self) -> None:
        """Drop what was not read."""
        if not self._over:
            self._over = True
            self._connection.cancel(self._stream)

    abort = close

    def _leave(self) -> None:
        if not self._over:
            self._over = True
            self._connection.drop(self._stream)

    __del__ = _leave


_TELLING = (Failure.CONNECT_FAILED, Failure.PROTOCOL_ERROR)
"""Failures to connect that another thread would only see again."""
