"""Streams of request messages on asyncio: written by the caller (``write``) or read from its iterator, kept until the call
is committed, and sent to each attempt from the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import Generic, Protocol

import grpc

from meshlib.alarms import wake
from meshlib.transport.grpcio.client.requests import Kept
from meshlib.transport.grpcio.client.serialize import only_bytes
from meshlib.transport.grpcio.contracts import LoopCall, Req, Serializer

log = logging.getLogger("meshlib.grpc")


ENDED = (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)
"""What writing to a call that is over raises."""

FINISHED = "RPC already finished."
"""grpcio's own words."""


class CoreCall(Protocol):
    """The binding's own call."""

    def done(self) -> bool: ...
    async def send_serialized_message(self, message: bytes) -> None: ...


async def _send(call: LoopCall, data: bytes) -> None:
    """Write to grpcio's call. Its own ``write`` turns the status of a call that the server has just ended into INTERNAL,
    for good; so where its inner call is what we know, the message goes there and the status stays the server's."""
    core = core_of(call)
    if core is None:
        await call.write(data)
        return
    ready = call._metadata_sent  # type: ignore[attr-defined]
    if not ready.is_set():
        await ready.wait()
    if call.done():
        raise asyncio.InvalidStateError(FINISHED)
    await core.send_serialized_message(data)


def core_of(call: LoopCall) -> CoreCall | None:
    """What is inside grpcio's call, where that is what we know. It takes messages once the call's metadata have been sent."""
    core: CoreCall | None = getattr(call, "_cython_call", None)
    return core if hasattr(call, "_metadata_sent") else None


async def connects(call: LoopCall) -> bool:
    """Wait as grpcio's call does for its connection; False when it is over before, for which grpcio may wait for ever."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call.add_done_callback(lambda _: wake(over))
    connecting = asyncio.ensure_future(call.wait_for_connection())
    connecting.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whenever it comes
    await asyncio.wait({connecting, over}, return_when=asyncio.FIRST_COMPLETED)
    return connecting.done() and not connecting.cancelled() and connecting.exception() is None


class AioRequests(Generic[Req]):
    """``source``: the caller's iterator, or None when it writes. ``cancel``: breaks the call off (the source raised)."""

    def __init__(
        self,
        source: AsyncIterable[Req] | Iterable[Req] | None,
        serialize: Serializer[Req] | None,
        cancel: Callable[[], object] | None,
    ) -> None:
        self.kept = Kept()
        self.error: BaseException | None = None
        self._source = source
        self._serialize = serialize
        self._cancel = cancel
        self._inner: LoopCall | None = None
        self._sent = 0
        self._lock = asyncio.Lock()  # whose holder sends what is kept
        # what is inside ``_inner``, where messages go straight there: it has taken some, nothing waits or is kept, nobody
        # follows; and whether one is going there now, for which the holder of the lock waits
        self._straight: CoreCall | None = None
        self._going = False
        self._gone: asyncio.Future[None] | None = None
        self._attached = asyncio.Event()
        self._over = False
        self._closed = False  # done_writing was sent to the attempt
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: list[AioRequests[Req]] = []

    @property
    def replayable(self) -> bool:
        return self.kept.replayable

    @property
    def whole(self) -> bool:
        return self.kept.ended

    def seen(self) -> tuple[int, int]:
        """How many messages have come so far, and their bytes."""
        return len(self.kept) + self.kept.past, self.kept.size

    def commit(self) -> None:
        """There will be no other attempt."""
        self.kept.commit(self._sent)

    def copy(self) -> AioRequests[Req]:
        """The same messages, and those to come, for a mirror."""
        made: AioRequests[Req] = AioRequests(None, None, None)
        for position in range(len(self.kept)):
            made.kept.append(self.kept.get(position))
        made.kept.ended = self.kept.ended
        if not made.kept.ended:
            self._followers.append(made)
            self._straight = None
        return made

    def _feed_followers(self, data: bytes | None) -> None:
        for follower in self._followers:
            if data is not None and follower.kept.replayable:
                follower.kept.append(data)
            else:  # the end; or it has fallen behind too far, and a mirror never holds up anything
                follower.kept.ended = True
            if follower._inner is not None:
                follower._start(follower._flush())

    def over(self) -> None:
        """The call has ended: nobody takes messages any more."""
        self._over = True
        self._feed_followers(None)
        self._attached.set()
        for task in self._tasks:
            task.cancel()

    def attach(self, inner: LoopCall) -> None:
        """A new attempt takes the messages."""
        self._inner = inner
        self._straight = None
        self._sent = 0
        self._closed = False
        self._attached.set()
        if self._source is not None:
            source, self._source = self._source, None
            self._start(self._read(source))
        if len(self.kept) or self.kept.ended:
            self._start(self._flush())

    async def send_to(self, call: LoopCall) -> object:
        """Attach, and wait for the single response."""
        self.attach(call)
        return await call

    async def write(self, message: Req) -> None:
        """One more message. Returns when the attempt under way has taken it."""
        kept = self.kept
        if kept.ended:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        # nearly all messages of long streams come here: functions that need not be called show in `make bench`
        serialize = self._serialize
        made = message if serialize is None else serialize(message)
        data = made if type(made) is bytes else only_bytes(made)
        core = self._straight
        if core is not None and not self._going:
            self._going = True
            kept.past += 1
            kept.size += len(data)
            try:
                if core.done():
                    raise asyncio.InvalidStateError(FINISHED)
                await core.send_serialized_message(data)
            finally:
                self._going = False
                if self._gone is not None:
                    wake(self._gone)
            return
        self._straight = None
        if self._followers:
            self._feed_followers(data)
        if kept.replayable or self._sent < len(kept) or self._going or self._lock.locked():
            kept.append(data)
            await self._flush()
            return
        async with self._lock:
            kept.past += 1
            kept.size += len(data)
            inner = self._attempt()
            await _send(inner, data)
            if not self._followers and inner is self._inner and self._sent == len(kept):
                self._straight = core_of(inner)

    async def connected(self) -> None:
        """Until an attempt takes messages, or the call is over."""
        while True:
            await self._attached.wait()
            if self._over:
                return
            inner = self._attempt()
            if await connects(inner):
                return
            self._broke(inner)

    def _attempt(self) -> LoopCall:
        """The one under way: once ``_attached`` is set, or messages have been sent, there is one."""
        assert self._inner is not None
        return self._inner

    async def done_writing(self) -> None:
        """No more messages."""
        self.kept.ended = True
        self._feed_followers(None)
        await self._flush()

    async def _flush(self) -> None:
        """Send what the attempt under way has not got yet; when it breaks, to the next one."""
        while True:
            await self._attached.wait()
            if self._over:
                return
            async with self._lock:
                while self._going:
                    self._gone = asyncio.get_running_loop().create_future()
                    await self._gone
                self._gone = None
                inner = self._attempt()
                try:
                    while self._sent < len(self.kept) and inner is self._inner:
                        await _send(inner, self.kept.get(self._sent))
                        self._sent += 1
                    if inner is not self._inner:
                        continue
                    if self.kept.ended and not self._closed:
                        self._closed = True
                        await inner.done_writing()
                    return
                except ENDED:
                    if inner is self._inner and not self.kept.replayable:
                        return
                    self._broke(inner)

    def _broke(self, inner: LoopCall) -> None:
        """An attempt is over; its end decides whether there is another."""
        if inner is self._inner and not self._over:  # else whoever waits for another would wait for ever
            self._attached.clear()

    async def _read(self, source: AsyncIterable[Req] | Iterable[Req]) -> None:
        """Take messages from the caller's iterator."""
        try:
            if isinstance(source, AsyncIterable):
                async for message in source:
                    try:
                        await self.write(message)
                    except ENDED:  # meanwhile the call has ended, which its status tells of, and not the iterator
                        return
            else:
                for message in source:
                    try:
                        await self.write(message)
                    except ENDED:
                        return
            await self.done_writing()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("the iterator of requests raised: the call is cancelled")
            self.error = error
            if self._cancel is not None:
                self._cancel()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
