"""The body of a request while it comes, by whatever version of HTTP: as its reader takes it, the client may send more."""

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
    """The pieces. ``took(source, size)`` is called for each that its one reader takes: the client may send as much more.
    ``wanted()`` once, when the reader waits for a first one: the client holds it back until it is told to send it. ``stream``
    is for whoever gives them. A reader may be cancelled while it waits: the next one goes on where it was."""

    __slots__ = ("_ended", "_failed", "_parts", "_took", "_waiter", "_wanted", "messages", "size", "stream", "trailers")

    def __init__(
        self,
        took: Callable[[Source, int], None],
        stream: ServerStream | None = None,
        wanted: Callable[[], None] | None = None,
    ) -> None:
        self._took = took
        self._wanted = wanted
        self.stream = stream
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
        if not data:
            return
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
            self._took(self, size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        if self._wanted is not None and not self._parts:
            wanted, self._wanted = self._wanted, None
            wanted()
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
