"""Calls on asyncio as their callers see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc import aio

from meshlib.engine.message_size import FRAME
from meshlib.transport.grpcio.client.aio_messages import CoreMessages
from meshlib.transport.grpcio.client.aio_requests import ENDED
from meshlib.transport.grpcio.client.aio_run import AioRun
from meshlib.transport.grpcio.client.aio_stream_run import StreamRun
from meshlib.transport.grpcio.client.attempt import broken_off
from meshlib.transport.grpcio.client.core_unary import LOCALLY_CANCELLED, StatusSource, deserialized, public_call
from meshlib.transport.grpcio.client.errors import RpcFailed, error_of
from meshlib.transport.grpcio.client.loops import soon_on
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.contracts import ended_call
from meshlib.transport.grpcio.metadata import from_raw
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange
    from meshlib.transport.grpcio.client.aio_messages import Messages


T = TypeVar("T")


class MeshCall(aio.Call):
    """What all calls show."""

    def __init__(self, run: AioRun) -> None:
        self.run = run

    def __del__(self) -> None:
        run = self.run
        if not run.over:
            if run.loop.is_closed():
                run.under_way.discard(run)
            else:
                soon_on(run.loop, run.cancel)  # the garbage collector comes in any thread

    @property
    def exchange(self) -> Exchange:
        """What the mesh decided and did."""
        return self.run.call.record

    def cancel(self) -> bool:
        return self.run.cancel()

    def cancelled(self) -> bool:
        return self.run.cancelled

    def done(self) -> bool:
        return self.run.over or self.run.cancelled

    def add_done_callback(self, callback: Callable[[MeshCall], None]) -> None:
        self.run.when_over(lambda: callback(self))

    def add_callback(self, callback: Callable[[], None]) -> None:
        self.run.when_over(callback)

    def is_active(self) -> bool:
        return not self.done()

    def time_remaining(self) -> float | None:
        call = self.run.call
        if call.timeouts.read is None:
            return None
        started = call.record.started
        past = call.clock.monotonic() - started if started else 0.0
        return max(0.0, call.timeouts.read - past)

    async def wait_for_connection(self) -> None:
        """Until a call with one request has been sent and (with one response) has it, or messages can be written. Raises what
        the call ended with when it has failed."""
        try:
            await self._connected()
        except asyncio.CancelledError:
            self.run.cancel()
            raise
        if self.done():
            await self._raise_failure()

    async def _connected(self) -> None:
        await self.run.ended()

    async def _raise_failure(self) -> None:
        """Raise what the call has failed with, if it has."""
        run = self.run
        if run.cancelled:
            raise asyncio.CancelledError
        if run.error is not None:
            raise run.error
        result = run.result
        if type(result) is not GrpcOutcome:
            if result is not None:
                raise result
        elif result.error is not None:
            raise result.error
        elif result.call is not None:
            inner = public_call(result.call)
            code = await soon(inner.code())
            if code is not grpc.StatusCode.OK:
                raise aio.AioRpcError(
                    code,
                    await soon(inner.initial_metadata()),
                    await soon(inner.trailing_metadata()),
                    await soon(inner.details()),
                    await soon(inner.debug_error_string()),
                )

    async def code(self) -> grpc.StatusCode:
        end = await self._end()
        return grpc.StatusCode.CANCELLED if end is None else await soon(end.code())

    async def details(self) -> str:
        end = await self._end()
        return LOCALLY_CANCELLED if end is None else await soon(end.details())

    async def debug_error_string(self) -> str:
        end = await self._end()
        return LOCALLY_CANCELLED if end is None else await soon(end.debug_error_string())

    async def trailing_metadata(self) -> aio.Metadata:
        end = await self._end()
        return aio.Metadata() if end is None else await soon(end.trailing_metadata())

    async def initial_metadata(self) -> aio.Metadata:
        await self.run.ended()
        return await self._initial()

    async def _initial(self) -> aio.Metadata:
        result = self.run.result
        if type(result) is GrpcOutcome and result.told_headers and result.grpc_status is None:
            return aio.Metadata(*from_raw(result.headers))
        source = self._source()
        return aio.Metadata() if source is None else await soon(source.initial_metadata())

    async def _end(self) -> StatusSource | None:
        """``_source`` of a call that is over."""
        await self.run.ended()
        return self._source()

    def _source(self) -> StatusSource | None:
        """The object that has the status: grpcio's, or the mesh's own; None: the call was cancelled."""
        run = self.run
        found: Any = run.result  # grpcio's objects and exceptions, and the mesh's: they all say what is asked of them
        if type(found) is GrpcOutcome:
            found = found.error or public_call(found.call)
        source: StatusSource | None = found
        return None if run.cancelled and isinstance(found, RpcFailed) else source


async def soon(value: Awaitable[T] | T) -> T:
    """The value, awaited if it has to be."""
    return await value if isinstance(value, Awaitable) else value


class _UnaryResponse(MeshCall):
    """Calls with a single response."""

    def __await__(self) -> Generator[object, None, object]:
        return self.run.steps(self).__await__()


class _Writes(MeshCall):
    """Calls that the caller writes requests to."""

    async def write(self, request: object) -> None:
        """Send a message. Raises what the call ended with when it is over."""
        run = self.run
        assert run.requests is not None
        if run.over:
            await self._raise_end()
        try:
            await run.requests.write(request)
        except ENDED:
            if run.requests.whole:  # the caller wrote after done_writing()
                raise
            await run.ended()
        if run.over:
            await self._raise_end()

    async def done_writing(self) -> None:
        """No more messages will be sent."""
        assert self.run.requests is not None
        if not self.run.over:
            await self.run.requests.done_writing()

    async def _raise_end(self) -> None:
        await self._raise_failure()
        raise asyncio.InvalidStateError("RPC already finished.")

    async def _connected(self) -> None:
        assert self.run.requests is not None
        await self.run.requests.connected()


class UnaryUnaryCall(_UnaryResponse, aio.UnaryUnaryCall):
    """One request, one response."""


class StreamUnaryCall(_Writes, _UnaryResponse, aio.StreamUnaryCall):
    """A stream of requests, one response."""


class _Stream(MeshCall):
    """Calls whose response is a stream."""

    run: StreamRun

    def __init__(self, run: StreamRun) -> None:
        super().__init__(run)
        self._run = run
        run.call.messages = run.call.streamed = 0
        self._messages: AsyncIterator[object] | None = None
        self._inner: Messages | None = None  # once the response has begun
        self._error: BaseException | None = None

    def __aiter__(self) -> AsyncIterator[object]:
        if self._messages is None:
            self._messages = self._iterate()
        return self._messages

    async def _iterate(self) -> AsyncIterator[object]:
        message = await self.read()
        if message is aio.EOF:
            return
        yield message
        try:
            call, inner = self._run.call, self._inner
            if type(inner) is not CoreMessages:
                assert inner is not None
                while (message := await inner.read()) is not aio.EOF:
                    call.messages += 1
                    call.streamed += inner.size
                    yield message
            else:  # as ``inner.read``, without its coroutine: nearly all messages come here
                receive, deserialize = inner.receive, inner.deserialize
                while (data := await receive()) is not aio.EOF:
                    call.messages += 1
                    call.streamed += FRAME + len(data)
                    yield data if deserialize is None else deserialized(data, deserialize)
                await inner.end()
        except grpc.aio.AioRpcError as error:
            raise await self._shown(error) from None
        except asyncio.CancelledError:
            self._cut()
            raise
        await self._run.ended()

    async def read(self) -> object:
        """The next message, ``grpc.aio.EOF`` at the end. Raises what the call ended with."""
        run = self._run
        if self._error is not None:
            raise self._error
        try:
            if self._inner is None:
                await run.delivered.wait()
                self._inner = run.messages
                if run.first is not None:
                    message = await run.first
            else:
                message = await self._inner.read()
            if self._inner is not None:
                if message is aio.EOF:
                    # the caller may drop the call now, which must not look as if it had cancelled it
                    await run.ended()
                else:
                    run.call.messages += 1
                    run.call.streamed += self._inner.size
                return message
        except grpc.aio.AioRpcError as error:
            raise await self._shown(error) from None
        except asyncio.CancelledError:
            self._cut()
            raise
        result = await run.ended()
        if run.cancelled:
            raise asyncio.CancelledError
        if run.error is not None:
            raise run.error
        if isinstance(result, RpcFailed):
            raise result
        if result is not None and result.error is not None:
            raise result.error
        return aio.EOF

    def _cut(self) -> None:
        """grpcio's stream was cancelled while it was read: by the reader, or by the mesh's closing, which is raised."""
        run = self._run
        if broken_off(run.runtime._core):
            self._error = error_of(mesh_closed(), run.call)
            raise self._error from None
        run.cancel()

    async def _shown(self, error: grpc.aio.AioRpcError) -> BaseException:
        """What the caller gets for what grpcio's stream ended with: now, and whenever it reads again."""
        result = await self._run.ended()  # what the exchange makes of it
        if isinstance(result, RpcFailed):
            self._error = result
            return result
        shown = ended_call(error)
        shown.exchange = self._run.call.record
        if type(result) is GrpcOutcome and result.told_headers and result.grpc_status is None:
            changed = aio.Metadata(*from_raw(result.headers))
            shown.initial_metadata = lambda: changed
        self._error = error
        return error

    async def initial_metadata(self) -> aio.Metadata:
        self._run.head_wanted.set()
        await self._run.delivered.wait()
        return await self._initial()


class UnaryStreamCall(_Stream, aio.UnaryStreamCall):
    """One request, a stream of responses."""

    async def _connected(self) -> None:
        await self._run.connected()


class StreamStreamCall(_Writes, _Stream, aio.StreamStreamCall):
    """Streams both ways."""
