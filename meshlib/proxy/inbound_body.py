"""The body of a request that comes in pieces: counted as it goes to the application, and looked at by checks before."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TYPE_CHECKING

from meshlib.policy.header_ops import RawHeaders
from meshlib.proxy.grpc import MessageCount
from meshlib.transport.protocol.request_body import ReplayBody

if TYPE_CHECKING:
    from meshlib.policy.refusal import Refusal


class TooLong(Exception):
    """More has come than may: ``refusal`` says so to the client."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class ServedBody:
    """``received`` is told of the size of each piece, and says whether that is too much. Checks look at the beginning by
    ``peek_async``; the application reads it from its first byte all the same."""

    __slots__ = ("_ended", "_kept", "_pieces", "_received", "too_long")

    def __init__(self, source: AsyncIterable[bytes], received: Callable[[int], Refusal | None]) -> None:
        self._pieces = aiter(source)
        self._received = received
        self._kept: deque[bytes] = deque()
        self._ended = False
        self.too_long: Refusal | None = None

    async def peek_async(self, limit: int) -> tuple[bytes, bool]:
        """As ``engine.body_source`` has it. Raises what the client's end brings about."""
        seen = bytearray().join(self._kept)
        while len(seen) < limit and not self._ended:
            piece = await anext(self._pieces, None)
            if piece is None:
                self._ended = True
            else:
                self._kept.append(piece)
                seen += piece
        return bytes(seen), self._ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if self._kept:
                piece: bytes | None = self._kept.popleft()
            else:
                piece = None if self._ended else await anext(self._pieces, None)
            if piece is None:
                self._ended = True
                return
            self.too_long = self._received(len(piece))
            if self.too_long is not None:
                raise TooLong(self.too_long)
            yield piece


class OnceBody(ReplayBody):
    """``body`` on its way to the application: what has gone is not kept, as nothing that the application may have seen is sent
    again. ``came``: as the client's connection has it."""

    __slots__ = ("_came", "duplex")

    def __init__(self, body: ServedBody, came: ReplayBody) -> None:
        super().__init__(aiter(body), 0)
        self._came = came
        self.duplex = came.duplex

    @property
    def trailers(self) -> RawHeaders:
        """What follows it, once it has ended."""
        return self._came.trailers

    @property
    def messages(self) -> MessageCount | None:
        """As ``ClientBody``'s; None: nobody counts them (gRPC is HTTP/2's)."""
        found: MessageCount | None = getattr(self._came, "messages", None)
        return found


class WholeBody:
    """One that is all here."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def peek_async(self, _limit: int) -> tuple[bytes, bool]:
        """All of it."""
        return self._body, True
