"""One HTTP/2 connection of an event loop, driven by callbacks and used by any number of the loop's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Protocol, TypeVar

from meshlib.alarms import Alarms, Cancellable
from meshlib.engine.message import ResponseBody
from meshlib.engine.outcome import Failure, Outcome
from meshlib.identity.servers import Vouched
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import SourceFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.http2_call import FLUSH, NEXT, Sent, Step, failed, response_of
from meshlib.transport.upstream.http2_loop_waiter import Waiter
from meshlib.transport.upstream.loop_connection import close_politely
from meshlib.transport.upstream.loop_deadlines import Deadlines
from meshlib.transport.upstream.mutual import keep_session, vouched_of
from meshlib.transport.upstream.network_stream import AsyncPooledStream
from meshlib.transport.upstream.problems import MESH_CLOSED, no_head
from meshlib.transport.upstream.target import Target, worn_out

BACKLOG_MOST = 4 * 1024 * 1024  # bytes that a server leaves unread before it counts as hostile
# how long a new connection waits for its first call, whatever the client's limits say of idle ones
UNUSED_SECONDS = 1.0

T = TypeVar("T")


class Keeper(Protocol):
    """The pool that a connection belongs to."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    alarms: Alarms
    deadlines: Deadlines
    waiting: int
    """Calls that wait for the heads of their responses."""

    def body(self, connection: Connection, stream: Stream, waiter: Waiter, attempt: Attempt) -> ResponseBody:
        """What reads the rest of a response."""

    def forget(self, connection: Connection) -> None:
        """It is closed."""

    def too_many_idle(self, limits: ClientLimits) -> bool:
        """Whether a client keeps more connections without a call than its limits allow."""


class Connection(asyncio.Protocol):
    """One HTTP/2 connection, used by any number of tasks of its loop."""

    def __init__(self, owner: Keeper, target: Target) -> None:
        self.loop = owner.loop
        self.target = target
        self.tls: object = None  # what asyncio calls the "ssl_object"
        self.vouched: Vouched | None = None  # of mTLS of the mesh
        # set when the server has been judged: nothing is written before
        self.transport: asyncio.Transport | None = None
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
        self.deadlines = owner.deadlines
        self._idle_timer: Cancellable | None = None
        self._behind = False  # there are frames that have not been looked at
        self._flushing = False  # there will be a write for all of this turn of the loop
        self.ends = False  # the last stream is over: to be looked at once, when all that was received has been told

    # -- use --------------------------------------------------------------------------------------------------------

    def open(self, head: Head, end: bool, head_request: bool) -> tuple[Stream, Waiter] | None:
        """A stream of this connection, and what waits for it; None when it takes no more."""
        waiter = Waiter(self.loop, self.deadlines)
        stream = self.open_stream(head, end, head_request, waiter.wake)
        return None if stream is None else (stream, waiter)

    def open_stream(
        self, head: Head, end: bool, head_request: bool, wake: Callable[[], None], body: bytes | None = None
    ) -> Stream | None:
        """A stream of this connection that tells ``wake`` of its changes; None when it takes no more. ``body``: see
        ``Http2Session.open``."""
        target = self.target
        if target.wears and worn_out(self, self._now()):
            self.retiring = True
        transport = self.transport
        if self.closed or self.retiring or transport is None or transport.is_closing():
            self.close_if_over()
            return None
        stream = self.session.open(head, end, head_request, wake, body)
        if stream is None:
            self.close_if_over()
            return None
        self.requests += 1
        return stream

    async def perform(
        self,
        steps: Generator[Step, Sent, T],
        stream: Stream,
        waiter: Waiter,
        source: AsyncIterator[bytes] | None = None,
    ) -> T:
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
                    self.flush_with_others()
                    step = steps.send(await waiter.wait(step))
        except StopIteration as over:
            made: T = over.value
            return made
        except BodyFailed:
            raise
        except BaseException:
            steps.close()
            self.session.cancel(stream)
            raise
        finally:
            self.flush_with_others()
            self.close_if_over()

    async def respond(self, stream: Stream, waiter: Waiter, attempt: Attempt, head_by: float | None) -> Outcome:
        """What ``perform`` makes of ``exchange`` for a request that ended with its head, in one coroutine and without a
        generator: nearly all calls (row "HTTP/2 at 32 in flight"). Cancellation resets the stream."""
        session, owner = self.session, self._owner
        try:
            if not self._flushing:
                self.flush_with_others()
            while not stream.head_done:
                if stream.failed is not None:
                    return failed(stream.failed)
                if not waiter.changed:  # as ``wait`` does, in this coroutine
                    future = waiter.begin(head_by)
                    owner.waiting += 1
                    try:
                        if future is None or not await future:
                            session.cancel(stream)
                            return no_head(attempt)
                    finally:
                        owner.waiting -= 1
                waiter.changed = False
            outcome = response_of(stream)
            outcome.stream = self.stream
            if outcome.whole is None and outcome.failure is None:
                outcome.body = self._owner.body(self, stream, waiter, attempt)
            return outcome
        except BaseException:
            session.cancel(stream)
            raise
        finally:
            waiter.over()
            if not self._flushing:
                self.flush_with_others()
            if not session.streams:
                self.close_if_over()

    def cancel(self, stream: Stream) -> None:
        """Nobody wants the rest of a response."""
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
        self.give_up(StreamFailure(Failure.CLOSED, MESH_CLOSED))

    def give_up(self, why: StreamFailure) -> None:
        """Close it, and end all its calls so."""
        self.session.give_up(why)
        self._shut()

    def close_if_over(self) -> None:
        """Close when nothing is under way and nothing new may begin; else see to it that idleness ends one day."""
        session = self.session
        if session.streams or self.closed:
            return
        now = self.idle_since = self._now()
        if session.broken is None:
            target = self.target
            if (target.wears and worn_out(self, now)) or (target.limits is not None and self._not_kept()):
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
            if self.vouched is not None:
                keep_session(self.target.tls, self.tls)
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
        transport = self.transport
        if transport is None:
            return  # later: it keeps what it has to say
        outgoing = self.session.outgoing  # it is no method
        out = outgoing()
        if not out:
            return
        if self.closed or transport.is_closing():
            return
        transport.write(out)
        if transport.get_write_buffer_size() > BACKLOG_MOST:
            self.abort("the server does not read what it is sent")

    def flush_with_others(self) -> None:
        """One write for all calls that this turn of the loop lets go on: a write of its own for each of them is half of what
        a small call costs (row "HTTP/2 at 32 in flight"). A call that is alone does not wait for others: those that wait for
        their responses on other connections of the loop count, as they may go on over this one."""
        if not self._flushing:
            if len(self.session.streams) < 2 and not self._owner.waiting:
                self.flush()
            else:
                self._flush_soon()

    def flush_soon(self) -> None:
        """The same for who has begun several calls at once and not told how many."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush_all)

    def _flush_soon(self) -> None:
        """After all that the loop has to do before."""
        self._flushing = True
        self.loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        self._flushing = False
        self.flush()

    # -- asyncio's callbacks ----------------------------------------------------------------------------------------

    def admitted(self, transport: asyncio.Transport) -> None:
        """The connection is made and its server is one that may be spoken to."""
        self.transport = transport
        self.tls = transport.get_extra_info("ssl_object")
        self.vouched = vouched_of(self.tls)
        if self.closed:
            transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as it is for streams
        self.stream = AsyncPooledStream(transport)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        session, transport = self.session, self.transport
        behind = session.receive_some(data, self.loop.time())
        if behind != self._behind:
            self._behind = behind
            if transport is None:
                pass  # not admitted yet: what comes before is little, or it breaks the session
            elif behind:
                transport.pause_reading()
            elif session.broken is None:
                transport.resume_reading()
        if behind:
            self.loop.call_soon(self._catch_up)
        if self._owner.waiting < 2 or behind or session.broken is not None:
            self.flush()
        elif not self._flushing:
            # their calls go on before, and the next ones of the same callers with them; and so do those of other connections
            # that have received something in this turn, whose callers may go on over this one
            self._flushing = True
            self.loop.call_soon(self._flush_soon)
        if session.broken is not None:
            self._shut()
            return
        if session.ready:
            self._greet()
        if session.going_away or self.ends:
            self.ends = False
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
