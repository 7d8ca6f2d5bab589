"""The messages of a response that is a stream, on asyncio, as grpcio gives them or straight from the binding of gRPC core.

grpcio reads each message in two coroutines of its own, which look again whether the request has been sent and hand it on;
around them the mesh's own would be a third. So where grpcio's call is what we know (``core_unary.py`` says more of that), the
mesh reads as grpcio does in the innermost of them, and counts the bytes that came.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc import aio

from meshlib.engine.message_size import FRAME, size_of_message
from meshlib.transport.grpcio.client.core_unary import deserialized, known
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from meshlib.transport.grpcio.contracts import Deserializer, LoopCall

NEEDED = "_cython_call", "_preparation", "_raise_for_status", "_response_deserializer"
"""What of grpcio's call must be there to read past it."""


class IteratedMessages:
    """By grpcio's own iterator. (Its ``read`` skips messages that are here already when the status is too.) ``size``: bytes of
    the message that was read last, with its frame."""

    __slots__ = ("_iterator", "size")

    def __init__(self, call: AsyncIterable[object]) -> None:
        self._iterator = aiter(call)
        self.size = 0

    async def read(self) -> object:
        """The next one, ``grpc.aio.EOF`` at the end. Raises ``grpc.aio.AioRpcError`` as grpcio does."""
        async for message in self._iterator:
            self.size = size_of_message(message)
            return message
        return aio.EOF


class CoreMessages:
    """Straight from the binding: as ``IteratedMessages``. Whoever reads in a loop of its own calls ``receive``, once a message
    has been ``read``: the bytes of the next one, ``grpc.aio.EOF`` at the end, of which ``end`` must be told."""

    __slots__ = ("_call", "_over", "_raise_for_status", "_sent", "deserialize", "size")

    def __init__(self, call: Any) -> None:
        self._sent: asyncio.Future[None] | None = call._preparation
        self._over = False
        self._call = call
        self._raise_for_status: Callable[[], Awaitable[None]] = call._raise_for_status
        self.deserialize: Deserializer[object] | None = call._response_deserializer
        self.size = 0

    @property
    def receive(self) -> Callable[[], Awaitable[Any]]:
        """Of the binding's call as it is now: ``meshlib.testing`` puts another in its place once a response has begun."""
        found: Callable[[], Awaitable[Any]] = self._call._cython_call.receive_serialized_message
        return found

    async def read(self) -> object:
        """The next one, ``grpc.aio.EOF`` at the end. Raises ``grpc.aio.AioRpcError`` as grpcio does, once."""
        if self._over:
            return aio.EOF
        if self._sent is not None:
            await self._sent
            self._sent = None
        data = await self.receive()
        if data is aio.EOF:
            await self.end()
            return data
        self.size = FRAME + len(data)
        deserialize = self.deserialize
        return data if deserialize is None else deserialized(data, deserialize)

    async def end(self) -> None:
        """There are no more. Raises ``grpc.aio.AioRpcError`` or CancelledError unless the call has ended well."""
        self._over = True
        await self._raise_for_status()


Messages = IteratedMessages | CoreMessages


def messages_of(call: LoopCall) -> Messages:
    """Those of the response of grpcio's call, which nobody has read yet."""
    if PLAIN or not known() or not all(hasattr(call, name) for name in NEEDED):
        return IteratedMessages(call)
    if not hasattr(call._cython_call, "receive_serialized_message"):  # type: ignore[attr-defined]  # it was there
        return IteratedMessages(call)
    return CoreMessages(call)
