"""The body of a request over HTTP/2, while it comes: its reader gives the client's window back as it takes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshlib.policy.header_ops import RawHeaders
from meshlib.proxy.grpc import MessageCount
from meshlib.transport.protocol.request_body import DuplexBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.transport.protocol.http2_server_stream import ServerStream


class Source:
    """The pieces. ``took(stream, size)`` is called for each that its one reader takes. A reader may be cancelled while it
    waits: the next one goes on where it was."""

    __slots__ = ("_ended", "_failed", "_parts", "_stream", "_took", "_waiter", "messages", "size", "trailers")

    def __init__(self, took: Callable[[ServerStream, int], None], stream: ServerStream) -> None:
        self._took = took
        self._stream = stream
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._failed: Exception | None = None
        self.size = 0
        """Bytes that have come and were not taken."""
        self.trailers: RawHeaders = []
        self.messages: MessageCount | None = None
        """Those of gRPC that have come; None: it is none."""

    def put(self, data: bytes) -> None:
        """Some more."""
        if self.messages is not None:
            self.messages.feed(data)
        self._parts.append(data)
        self.size += len(data)
        self._wake()

    def end(self) -> None:
        """That was all."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """There will be no more, and that was not all."""
        self._failed = error
        self._wake()

    def all(self) -> bytes:
        """What has come and was not taken."""
        parts, self._parts = self._parts, []
        size, self.size = self.size, 0
        if size:
            self._took(self._stream, size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                raise StopAsyncIteration("the body is over")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.all()


class ClientBody(DuplexBody):
    """A body that is read while the response may come already, and what follows it."""

    __slots__ = ()

    def __init__(self, source: Source) -> None:
        super().__init__(source)

    @property
    def messages(self) -> MessageCount:
        """Those of gRPC that have come by now; of what has come before anybody asked, too."""
        source: Source = self._source
        if source.messages is None:
            source.messages = MessageCount(b"".join(source._parts))
        return source.messages

    @property
    def trailers(self) -> RawHeaders:
        """What follows it, once it has ended."""
        source: Source = self._source
        return source.trailers
