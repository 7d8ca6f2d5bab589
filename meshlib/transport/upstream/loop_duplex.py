"""A request over HTTP/1.1 whose response may come while the request is still sent, as Envoy has it: an application that echoes
while it reads waits for what it has not got yet.

The request's body goes out in a task of its own, no faster than the system takes it. It ends with the response: what the server
has not heard by then is not sent, and the connection is not used again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeGuard

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Sized
from meshlib.transport.protocol.request_body import ReplayBody, SourceFailed
from meshlib.transport.upstream.upload_task import UploadTask

if TYPE_CHECKING:
    from meshlib.transport.upstream.loop_connection import Connection


def is_duplex(framing: Sized | Chunked | None) -> TypeGuard[Sized | Chunked]:
    """Whether the body is one that goes on beside its response."""
    return (
        framing is not None
        and isinstance(framing.body, ReplayBody)
        and framing.body.duplex
        and not framing.expects_continue
    )


class Waiting(Protocol):
    """Whom the response goes to."""

    writable: bool

    def upload_failed(self, outcome: Outcome) -> None:
        """The body has no proper end: neither has the request."""
        ...


class Upload(UploadTask):
    """Sends the body of ``framing``. ``over``: the system has taken all of it."""

    __slots__ = ("_connection", "_framing", "_pending", "_waiter", "over")

    def __init__(self, pending: Waiting, connection: Connection, framing: Sized | Chunked) -> None:
        self._pending = pending
        self._connection = connection
        self._framing = framing
        self._waiter: asyncio.Future[None] | None = None
        self.over = False
        super().__init__(connection.lender.loop)

    def wake(self) -> None:
        """The system takes more."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _send(self) -> None:
        connection, framing = self._connection, self._framing
        try:
            assert isinstance(framing.body, ReplayBody)
            await self._taken()  # the head
            async for piece in framing.body:
                connection.write(framing.piece(piece))
                await self._taken()
            connection.write(framing.end())
            await self._taken()
            self.over = True
        except FalseFraming as error:
            self._pending.upload_failed(Outcome(Failure.INVALID_REQUEST, str(error), error))
        except SourceFailed as error:
            self._pending.upload_failed(Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause))

    async def _taken(self) -> None:
        while not self._pending.writable:
            self._waiter = self._connection.lender.loop.create_future()
            await self._waiter
