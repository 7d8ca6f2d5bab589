"""One awaited request on a connection, and then the body of its answer: the coroutine side of the callbacks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Sized
from meshlib.transport.protocol.http1 import BodyFailed, ResponseReader
from meshlib.transport.protocol.request_body import CONTINUE_SECONDS, SourceFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.loop_connection import Connection
from meshlib.transport.upstream.switched import AsyncSwitched

if TYPE_CHECKING:
    from meshlib.transport.upstream.loop import AsyncioUpstream

HIGH_WATER = 256 * 1024  # unread bytes of an answer at which its connection stops reading
LOW_WATER = 64 * 1024
PIECE = 256 * 1024  # bytes of a request that wait in user space for the socket


class Pending:
    """The handler of one awaited request, and afterwards the body of its answer."""

    __slots__ = (
        "_attempt",
        "_buffered",
        "_chunks",
        "_connection",
        "_ended",
        "_failed",
        "_paused",
        "_sending",
        "_unread",
        "_upstream",
        "_waiter",
        "outcome",
        "writable",
    )

    def __init__(
        self,
        upstream: AsyncioUpstream,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        attempt: Attempt,
    ) -> None:
        self._upstream = upstream
        self._connection = connection
        self._attempt = attempt
        self.outcome: asyncio.Future[Outcome] = loop.create_future()
        self._waiter: asyncio.Future[bool] | None = None
        self.writable = True  # all that was written has gone to the system
        self._sending = False
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._ended = False
        self._unread = False
        self._failed: BodyFailed | None = None

    # -- Handler ----------------------------------------------------------------------------------------------------

    def on_head(self, reader: ResponseReader) -> None:
        if self.outcome.done():
            return
        outcome = Outcome(
            status=reader.status, reason=reader.reason, headers=reader.headers, http_version=reader.http_version
        )
        if self._sending or not self.writable:
            reader.poisoned = True  # an answer before the request was over: what is left of it was never sent
        outcome.stream = self._connection.stream
        if reader.complete and self._connection.slot is None:
            outcome.whole = reader.take()
        elif reader.switched is not None:
            outcome.body = outcome.stream = AsyncSwitched(self._upstream, self._connection, reader.switched)
            self._ended = True  # the connection is no longer ours to give up
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
        if self._connection.slot is None:
            self._upstream.release(self._connection)
        else:
            self._unread = True  # whoever holds a slot holds it until the caller has read, as in httpx
        self._wake()

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        self._upstream._busy.discard(self._connection)
        if not self.outcome.done():
            self.outcome.set_result(Outcome(failure, detail, error, stale=stale))
        else:
            self._failed = BodyFailed(failure, detail, error)
        self._ended = True
        self._wake()

    def on_writable(self, writable: bool) -> None:
        self.writable = writable
        if writable:
            self._wake()

    def on_interim(self, reader: ResponseReader) -> None:
        if reader.continue_seen:
            self._wake()

    def head_timed_out(self) -> None:
        """The timer of the head."""
        if not self.outcome.done():
            self._upstream.drop(self._connection)
            head = self._attempt.head_timeout or 0.0
            self.outcome.set_result(Outcome(Failure.TIMEOUT, f"no answer within {head:.3g} s"))
            self._ended = True
            self._wake()

    # -- the request's body -----------------------------------------------------------------------------------------

    async def send_body(self, framing: Sized | Chunked | None) -> Outcome | None:
        """Send until the body ends or an answer comes; None: all is written, but the system has not taken it yet. An
        Outcome when sending itself failed."""
        self._sending = True
        try:
            if framing is not None:
                if framing.expects_continue:
                    await self._hear_continue()
                body = framing.body
                if isinstance(body, bytes):
                    problem = await self._write(framing.whole(body))
                    if problem is not None:
                        return problem
                else:
                    async for chunk in body:
                        data = framing.piece(chunk)
                        if self.outcome.done():
                            return None
                        problem = await self._write(data)
                        if problem is not None:
                            return problem
                    self._connection.write(framing.end())
        except FalseFraming as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        except SourceFailed as error:
            return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
        problem = await self._drained()
        if problem is None and not self.outcome.done():
            self._sending = False
        return problem

    async def _hear_continue(self) -> None:
        loop, reader = self._upstream.loop, self._connection.reader
        until = loop.time() + CONTINUE_SECONDS
        while not reader.continue_seen and not self.outcome.done():
            if not await self._wait(until - loop.time()):
                return

    async def _write(self, data: bytes) -> Outcome | None:
        """Write piece by piece, so that neither the time limit nor an answer in the middle is missed."""
        left = memoryview(data)
        while left and not self.outcome.done():
            self._connection.write(left[:PIECE])
            left = left[PIECE:]
            problem = await self._drained()
            if problem is not None:
                return problem
        return None

    async def _drained(self) -> Outcome | None:
        """Until the system has taken all that was written, or an answer comes."""
        connection, limit = self._connection, self._attempt.caller.write
        while not self.writable and not self.outcome.done():
            before = connection.unsent()
            if not await self._wait(limit) and connection.unsent() >= before:
                return Outcome(Failure.WRITE_TIMEOUT, f"the request could not be written within {limit} s")
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
                self._let_go()
                return b""
            wait, deadline = self._attempt.caller.read, self._attempt.deadline
            if deadline is not None:
                left = deadline - self._upstream.loop.time()
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
        self._let_go()
        self._chunks.clear()

    def _let_go(self) -> None:
        """The response is over for the caller, too."""
        if self._unread:
            self._unread = False
            self._upstream.release(self._connection)


class AsyncBody:
    """The rest of an answer's body. Iterate to its end and the connection can be used again; ``aclose`` before and it is
    closed. Raises ``BodyFailed`` when it is cut."""

    __slots__ = ("_pending",)

    def __init__(self, pending: Pending) -> None:
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
        if (not pending._ended or pending._unread) and not pending._upstream.loop.is_closed():
            # dropped without being read or closed, perhaps by another thread's garbage collector
            pending._upstream.loop.call_soon_threadsafe(pending.abort)
