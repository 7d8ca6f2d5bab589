"""A request over HTTP/2 whose response may come while the request is still sent: gRPC's streams in both directions.

The request's body goes out in a task of its own, which ends with the stream, whoever ends that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Sized
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import ReplayBody, SourceFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.http2_loop_waiter import Waiter
from meshlib.transport.upstream.upload_task import UploadTask

if TYPE_CHECKING:
    from meshlib.engine.outcome import Outcome
    from meshlib.transport.upstream.http2_loop_connection import Connection


async def respond(
    connection: Connection,
    stream: Stream,
    waiter: Waiter,
    attempt: Attempt,
    framing: Sized | Chunked,
    head_by: float | None,
) -> Outcome:
    """The outcome of a request, on a stream that was just opened, once its head is there. Cancellation resets the stream."""
    upload = _Upload(connection, stream, waiter, framing)
    stream.wake = upload.wake
    try:
        outcome = await connection.respond(stream, waiter, attempt, head_by)
    except BaseException:
        upload.stop()
        raise
    if outcome.failure is not None or outcome.whole is not None:
        upload.stop()
    return outcome


class _Upload(UploadTask):
    """Sends the body."""

    __slots__ = ("_connection", "_framing", "_reader", "_stream", "_waiter")

    def __init__(self, connection: Connection, stream: Stream, reader: Waiter, framing: Sized | Chunked) -> None:
        """``reader``: waits for the response."""
        self._connection = connection
        self._stream = stream
        self._reader = reader
        self._framing = framing
        self._waiter = Waiter(connection.loop, connection.deadlines)
        super().__init__(connection.loop)

    def wake(self) -> None:
        """The stream's."""
        self._reader.wake()
        if self._stream.settled:
            self.stop()
        else:
            self._waiter.wake()

    async def _send(self) -> None:
        connection, stream, framing = self._connection, self._stream, self._framing
        session, body = connection.session, framing.body
        assert isinstance(body, ReplayBody)
        try:
            async for piece in body:
                framing.count(len(piece))
                left = memoryview(piece)
                while left:
                    sent = session.send(stream, left, False)
                    left = left[sent:]
                    connection.flush_with_others()
                    if not sent:
                        await self._waiter.wait(None)
            framing.finish()
            session.end(stream, body.trailers)
            connection.flush_with_others()
        except FalseFraming as error:
            self._fail(StreamFailure(Failure.INVALID_REQUEST, str(error), error=error))
        except SourceFailed as error:
            self._fail(StreamFailure(Failure.REQUEST_BODY_FAILED, str(error), error=error.cause))

    def _fail(self, why: StreamFailure) -> None:
        stream = self._stream  # not settled: with that, this task is cancelled
        stream.failed = why
        self._connection.session.cancel(stream)
        self._connection.flush()
        self._reader.wake()
