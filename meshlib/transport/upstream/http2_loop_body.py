"""The body of a response over HTTP/2 that a task reads."""

from __future__ import annotations

from collections.abc import AsyncIterator

from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.http2_call import next_chunk
from meshlib.transport.upstream.http2_loop_connection import Connection
from meshlib.transport.upstream.http2_loop_waiter import Waiter


class Http2Body:
    """The rest of a response's body. ``aclose`` before its end resets the stream; other streams go on. Raises
    ``BodyFailed`` when it is cut."""

    __slots__ = ("_attempt", "_connection", "_over", "_stream", "_waiter")

    def __init__(self, connection: Connection, stream: Stream, waiter: Waiter, attempt: Attempt) -> None:
        self._connection = connection
        self._stream = stream
        self._waiter = waiter
        self._attempt = attempt
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection, stream = self._connection, self._stream
        try:
            while not self._over:
                steps = next_chunk(connection.session, stream, self._attempt, connection.loop.time)
                data = await connection.perform(steps, stream, self._waiter)
                if not data:
                    self._over = True
                    return
                yield data
        except BaseException:
            self.abort()
            raise

    @property
    def trailers(self) -> RawHeaders:
        """What came after the body; complete at its end."""
        return self._stream.trailers

    def abort(self) -> None:
        """Drop what was not read."""
        if not self._over:
            self._over = True
            self._connection.cancel(self._stream)

    async def aclose(self) -> None:
        """Drop what was not read."""
        self.abort()

    def __del__(self) -> None:
        loop = self._connection.loop
        if not self._over and not loop.is_closed():
            # dropped without being read or closed, perhaps by another thread's garbage collector
            loop.call_soon_threadsafe(self._connection.cancel, self._stream)
