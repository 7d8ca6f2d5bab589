"""One awaited request on a connection, and then the body of its response: the coroutine side of the callbacks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Sized
from meshlib.transport.protocol.http1 import BodyFailed, ResponseReader
from meshlib.transport.protocol.request_body import CONTINUE_SECONDS, SourceFailed
from meshlib.transport.protocol.request_head import asks_for_websocket
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.loop_connection import Connection
from meshlib.transport.upstream.loop_duplex import Upload
from meshlib.transport.upstream.problems import BODY_TOO_LATE, body_silent, no_head, not_written
from meshlib.transport.upstream.switched import AsyncSwitched

HIGH_WATER = 256 * 1024  # unread bytes of a response at which its connection stops reading
LOW_WATER = 64 * 1024
PIECE = 256 * 1024  # bytes of a request that wait in user space for the socket


class _Told:
    """In place of an outcome that was taken."""

    def done(self) -> bool:
        return True


_TOLD = cast("asyncio.Future[Outcome]", _Told())


class Pending:
    """The handler of one awaited request, and afterwards the body of its response. ``writable``: all that was written has gone
    to the system. ``ended``: nothing more will come; ``unread``: but the caller has not read all of it."""

    __slots__ = (
        "_attempt",
        "_buffered",
        "_chunks",
        "_connection",
        "_failed",
        "_lender",
        "_paused",
        "_sending",
        "_upload",
        "_waiter",
        "ended",
        "outcome",
        "unread",
        "writable",
    )

    def __init__(self, connection: Connection, attempt: Attempt) -> None:
        self._connection = connection
        self._lender = lender = connection.lender
        self._attempt = attempt
        self.outcome: asyncio.Future[Outcome] = lender.loop.create_future()
        self._waiter: asyncio.Future[bool] | None = None
        self._upload: Upload | None = None  # of a body that goes on beside the response
        self.writable = True
        self._sending = self._paused = self.ended = self.unread = False
        self._failed: BodyFailed | None = None
        self._chunks: deque[bytes] | None = None  # made for the first
        self._buffered = 0

    def told(self) -> None:
        """Whoever waited has the outcome, or is gone. (Its body refers to this, which would stay for the garbage collector.)"""
        self.outcome = _TOLD

    # -- Handler ----------------------------------------------------------------------------------------------------

    def on_head(self, reader: ResponseReader) -> None:
        if self.outcome.done():
            return
        outcome = Outcome()  # not by names, which cost a call as much as all the rest
        outcome.status = reader.status
        outcome.reason = reader.reason
        outcome.headers = reader.headers
        outcome.http_version = reader.http_version
        if self._upload is None and (self._sending or not self.writable):
            reader.poisoned = True  # a response before the request was over: what is left of it was never sent
        elif type(reader) is not ResponseReader and asks_for_websocket(reader.request_headers):
            # as in Envoy, one that asks for another protocol is not over, even where that is declined
            reader.poisoned = True
        connection = self._connection
        outcome.stream = connection.stream
        if reader.complete and connection.slot is None:
            outcome.size = reader.response_size  # before its body is taken
            outcome.whole = reader.take()
        elif reader.switched is not None:
            connection.leave_http()
            outcome.body = outcome.stream = AsyncSwitched(
                self._lender.loop, connection.transport, reader.switched, connection.left
            )
            self.ended = True  # the connection is no longer ours to give up
        else:
            outcome.size = reader.head_size
            outcome.body = AsyncBody(self)
            self._keep(reader.take())
        self.outcome.set_result(outcome)
        if self._waiter is not None:
            self._wake()

    def on_data(self, reader: ResponseReader) -> None:
        self._keep(reader.take())
        self._wake()

    def on_end(self, reader: ResponseReader) -> None:
        self.ended = True
        if self._upload is not None and not self._end_upload():
            reader.poisoned = True  # the server has said all, and has not heard all
        if reader.chunks:
            self._keep(reader.take())
        if self._paused:
            self._paused = False
            self._connection.resume()  # its next call shall not wait for the reader of this one, who may never come
        if self._connection.slot is None:
            self._lender.release(self._connection)
        else:
            self.unread = True  # whoever holds a slot holds it until the caller has read, as in httpx
        if self._waiter is not None:
            self._wake()

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        self._lender.lost(self._connection)
        if not self.outcome.done():
            self.outcome.set_result(Outcome(failure, detail, error, stale=stale))
        else:
            self._failed = BodyFailed(failure, detail, error)
        self.ended = True
        if self._upload is not None:
            self._end_upload()
        self._wake()

    def on_writable(self, writable: bool) -> None:
        self.writable = writable
        if not writable:
            return
        if self._upload is not None:
            self._upload.wake()
        else:
            self._wake()

    def on_interim(self, reader: ResponseReader) -> None:
        if reader.continue_seen:
            self._wake()

    def head_timed_out(self) -> None:
        """The timer of the head."""
        if not self.outcome.done():
            self._lender.drop(self._connection)
            self.outcome.set_result(no_head(self._attempt))
            self.ended = True
            if self._upload is not None:
                self._end_upload()
            self._wake()

    # -- the request's body -----------------------------------------------------------------------------------------

    def send_beside(self, framing: Sized | Chunked) -> None:
        """Send the body while the response may come (``loop_duplex.py``)."""
        self._upload = Upload(self, self._connection, framing)

    def upload_failed(self, outcome: Outcome) -> None:
        """The upload's."""
        self._upload = None
        if self.ended:
            return
        self._lender.drop(self._connection)
        if not self.outcome.done():
            self.outcome.set_result(outcome)
        else:
            self._failed = BodyFailed(outcome.failure or Failure.REQUEST_BODY_FAILED, outcome.detail, outcome.error)
        self.ended = True
        self._wake()

    def _end_upload(self) -> bool:
        """Whether it was over."""
        upload, self._upload = self._upload, None
        assert upload is not None
        if not upload.over:
            upload.stop()
        return upload.over

    async def send_body(self, framing: Sized | Chunked | None) -> Outcome | None:
        """Send until the body ends or a response comes; None: all is written, but the system has not taken it yet. An
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
        loop, reader = self._lender.loop, self._connection.reader
        until = loop.time() + CONTINUE_SECONDS
        while not reader.continue_seen and not self.outcome.done():
            if not await self._wait(until - loop.time()):
                return

    async def _write(self, data: bytes) -> Outcome | None:
        """Write piece by piece, so that neither the time limit nor a response in the middle is missed."""
        left = memoryview(data)
        while left and not self.outcome.done():
            self._connection.write(left[:PIECE])
            left = left[PIECE:]
            problem = await self._drained()
            if problem is not None:
                return problem
        return None

    async def _drained(self) -> Outcome | None:
        """Until the system has taken all that was written, or a response comes."""
        connection, limit = self._connection, self._attempt.caller.write
        while not self.writable and not self.outcome.done():
            before = connection.unsent()
            if not await self._wait(limit) and connection.unsent() >= before:
                return Outcome(Failure.WRITE_TIMEOUT, not_written(limit))
        return None

    async def _wait(self, seconds: float | None) -> bool:
        """Until something happens; False when ``seconds`` pass first."""
        if self.outcome.done() and self.ended:
            return True
        lender, late = self._lender, self._wake_late
        waiter = self._waiter = lender.loop.create_future()
        if seconds is not None:
            lender.deadlines.add(late, lender.loop.time() + seconds)
        try:
            happened: bool = await waiter
            return happened
        finally:
            self._waiter = None
            if seconds is not None:
                lender.deadlines.discard(late)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    def _wake_late(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(False)

    # -- the response's body ------------------------------------------------------------------------------------------

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        if self._chunks is None:
            self._chunks = deque()
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER and not self._paused and not self.ended:
            self._paused = True
            self._connection.pause()

    async def next_chunk(self) -> bytes:
        """Some bytes of the body, b"" at its end. Raises ``BodyFailed``."""
        while not (chunks := self._chunks):
            failed = self._failed
            if failed is not None:  # another one: the frames that it goes through refer to this
                raise BodyFailed(failed.failure, failed.detail, failed.error)
            if self.ended:
                self._give_back()
                return b""
            wait, deadline = self._attempt.caller.read, self._attempt.deadline
            if deadline is not None:
                left = deadline - self._lender.loop.time()
                if left <= 0:
                    raise BodyFailed(Failure.TIMEOUT, BODY_TOO_LATE)
                if wait is None or left < wait:
                    if not await self._wait(left):
                        raise BodyFailed(Failure.TIMEOUT, BODY_TOO_LATE)
                    continue
            if not await self._wait(wait):
                raise BodyFailed(Failure.TIMEOUT, body_silent(wait))
        data = chunks.popleft()
        self._buffered -= len(data)
        if self._paused and self._buffered < LOW_WATER:
            self._paused = False
            self._connection.resume()
        return data

    def abort(self) -> None:
        """Drop the rest of the response, and the connection unless the response is over."""
        if not self.ended:
            self.ended = True
            self._lender.drop(self._connection)
        if self._upload is not None:
            self._end_upload()
        self._give_back()
        self._chunks = None

    def _give_back(self) -> None:
        """The response is over for the caller, too."""
        if self.unread:
            self.unread = False
            self._lender.release(self._connection)


class AsyncBody:
    """The rest of a response's body. Iterate to its end and the connection can be used again; ``aclose`` before and it is
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
        """Drop the response and its connection."""
        self._pending.abort()

    async def aclose(self) -> None:
        """Drop what was not read."""
        self._pending.abort()

    def __del__(self) -> None:
        pending = self._pending
        if (not pending.ended or pending.unread) and not pending._lender.loop.is_closed():
            # dropped without being read or closed, perhaps by another thread's garbage collector
            pending._lender.loop.call_soon_threadsafe(pending.abort)
