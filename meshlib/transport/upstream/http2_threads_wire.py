"""What goes over an HTTP/2 connection that threads share, and how it ends. All under its lock but for what is called from
outside; see ``http2_threads_connection.py``."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Protocol

from meshlib.engine.outcome import Failure
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_threads_socket import RECEIVE, SharedSocket
from meshlib.transport.upstream.http2_threads_waiter import Waiter
from meshlib.transport.upstream.mutual import keep_session, vouched_of
from meshlib.transport.upstream.network_stream import PooledStream
from meshlib.transport.upstream.problems import MESH_CLOSED
from meshlib.transport.upstream.target import Target, worn_out
from meshlib.transport.upstream.tls_socket import AnySocket, ssl_object

READS = 8  # of RECEIVE bytes, before the threads they are for get to run
BACKLOG_MOST = 4 * 1024 * 1024  # bytes that a server leaves unread before it counts as hostile
# how long a new connection waits for its first call, whatever the client's limits say of idle ones
UNUSED_SECONDS = 1.0
INTERRUPTED = ConnectionAbortedError("a thread was interrupted while it used the connection")


class Keeper(Protocol):
    """The pool that a connection belongs to."""

    now: Callable[[], float]

    def gone(self, connection: Wire) -> None:
        """It is closed (its lock is held)."""

    def too_many_idle(self, limits: ClientLimits) -> bool:
        """Whether a client keeps more connections without a call than its limits allow."""
        ...


class Wire:
    """An HTTP/2 session on the socket that threads share, without the threads: ``http2_threads_connection.Connection``."""

    def __init__(self, sock: AnySocket, target: Target, owner: Keeper) -> None:
        self.socket = SharedSocket(sock)
        self.vouched = vouched_of(ssl_object(sock))
        self.stream = PooledStream(sock)
        self.target = target
        self.requests = 0
        self.now = owner.now
        self.opened = self.idle_since = self.now()
        self.closed = False
        self.retiring = False
        self.unneeded = False  # retired by ourselves: a call that was to be its first gets another connection
        self.slot: Slots | None = None  # that the client's limits gave it, as long as it is open
        self.session = Http2Session(self.opened, target.max_concurrent_streams)
        self._owner = owner
        self._pid = os.getpid()
        self._lock = RLock()
        self._reader: Waiter | None = None
        self._dropped: deque[Stream] = deque()  # by the garbage collector, which may run under our own lock

    # -- the socket (the lock is held) ------------------------------------------------------------------------------

    def _pump(self, to_the_end: bool = False) -> None:
        """Read what is there. ``to_the_end``: look again after the last bytes, behind which may be the connection's end, of
        which no poll will tell."""
        if self.closed:
            return
        for _ in range(READS):
            try:
                data = self.socket.receive()
            except OSError as error:
                self._break(error)
                return
            if data is None:
                return
            if not data:
                self._break(None)
                return
            self.session.receive(data, self.now())
            if self.session.broken is not None:
                self._flush()
                self._shut()
                return
            if len(data) < RECEIVE and self.socket.tls is None and not to_the_end:
                return

    def _flush(self) -> None:
        """Write what is to be written, as far as the socket takes it."""
        out, unwritten = self.session.outgoing(), self.socket.unwritten
        if self.closed or not (out or unwritten):
            return
        try:
            self.socket.write(out)
        except OSError as error:
            unwritten.clear()
            if self.session.broken is None:
                self._pump()  # there may be a response or a reason in what the server sent before it closed
                self._break(error)
            return
        self.session.set_writable(not unwritten)
        if not unwritten:
            return
        if len(unwritten) > BACKLOG_MOST:
            self._break(ConnectionAbortedError("the server does not read what it is sent"))
        elif self._reader is not None:
            self.socket.kick()

    def _break(self, error: BaseException | None) -> None:
        """The connection is gone or no longer to be trusted."""
        self.session.lost(error)
        self._shut()

    def _shut(self) -> None:
        """Close the socket, or have the thread that waits on it do that (its number must not go to another file)."""
        if self.closed:
            return
        if self._reader is not None:
            self.socket.kick()
            return
        if self.vouched is not None:
            keep_session(self.target.tls, ssl_object(self.socket.sock))
        self.socket.close()
        self._owner.gone(self)
        self.closed = True
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()

    def _close_if_over(self) -> None:
        session = self.session
        if session.streams or self.closed:
            return
        self.idle_since = self.now()
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
                self._break(INTERRUPTED)
                raise

    # -- from outside -----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """No call is on it, and none waits for it to be made."""
        return self.session.ready and not self.session.streams

    @property
    def served(self) -> bool:
        """Whether the thread that it was made for has had the time to use it."""
        return self.requests > 0 or self.now() - self.opened >= UNUSED_SECONDS

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
        """Nobody wants the rest of a response. Never blocks: the garbage collector may call it under our own lock."""
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
        self.give_up(StreamFailure(Failure.CLOSED, MESH_CLOSED))

    def give_up(self, why: StreamFailure) -> None:
        """Close it, and end all its calls so."""
        with self._lock:
            self.retiring = True
            if self.session.streams or not self.session.ready:
                self.session.give_up(why)
                self._shut()
            self._tidy()

    def forget(self) -> None:
        """In a forked child: close the child's copies. The peer hears nothing."""
        if self.closed:
            return
        self.closed = True
        self.socket.close_copies()
