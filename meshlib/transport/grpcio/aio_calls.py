"""Calls on asyncio: one task drives the exchange; for streams it stays until the last message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from meshlib.engine.drivers import finish, run_async
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.aio_requests import ENDED, AioRequests
from meshlib.transport.grpcio.core_unary import LOCALLY, shown
from meshlib.transport.grpcio.errors import RpcFailed, failed, nothing
from meshlib.transport.grpcio.metadata import from_raw
from meshlib.transport.grpcio.outcome import CANCELLED, MIDDLE, GrpcOutcome, answered, ended
from meshlib.transport.grpcio.told import with_metadata
from meshlib.transport.grpcio.upstreams import CannotConnect
from meshlib.transport.grpcio.worlds import (
    OnLoop,
    end_of_stream,
    outcome_of_end,
    refused,
    total_time,
    upstream_for,
    wants_headers,
)

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Send
    from meshlib.telemetry.observe import Telemetry

TRAILERS_ONLY_GRACE = 0.02
"""See ``stream.py``."""

HEAD_TURNS = 3
"""Turns of the loop in which the head of an answer comes after its status, if it has one."""


class AioRun:
    """What drives a call; the object that the caller holds refers to it, never the other way round. ``result``: the
    outcome it was answered with, or the exception the mesh ended it with; ``under_way`` has it until it is ``over``.

    A call that is awaited at once is driven by the task that awaits it; any other by a task of its own, from the loop's next
    turn on. A task costs a call two of these turns, which `make bench` shows.
    """

    # most calls change none of these
    result: Any = None
    cancelled = False
    over = False
    task: asyncio.Task[Any] | None = None  # one of its own
    driver: asyncio.Task[Any] | None = None  # the one that awaits it
    error: BaseException | None = None  # a mistake of ours
    _beginning: asyncio.Handle | None = None
    _interrupted = False  # whether its driver is made to stop
    _ended: asyncio.Event | None = None
    _callbacks: tuple[Callable[[], None], ...] = ()

    def __init__(
        self,
        call: Call,
        exchange: Exchange,
        world: Any,
        requests: AioRequests | None,
        telemetry: Telemetry | None,
        under_way: set[AioRun],
    ) -> None:
        self.call = call
        self.telemetry = telemetry
        self.exchange = exchange
        self.world = world
        self.requests = requests
        self.under_way = under_way
        under_way.add(self)
        self.loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Drive it in a task of its own."""
        self._beginning = None
        self.task = self.loop.create_task(self.drive())
        self.task.add_done_callback(lambda _: self._end())  # one that is cancelled before its first step runs nothing

    def begin_soon(self) -> None:
        """The same at the loop's next turn, unless somebody awaits it before."""
        self._beginning = self.loop.call_soon(self.begin)

    def joined(self) -> Generator[Any, None, Any]:
        """``yield from`` this to wait for the end; returns ``result``. Who is cancelled here cancels the call."""
        if self._beginning is not None:
            self.driver = asyncio.current_task()
            self._beginning.cancel()
            if self.driver is not None:
                self._beginning = None
                return (yield from self._driven(self.driver))
            self.begin()
        try:
            if self.task is not None:
                return (yield from self.task.__await__())
            yield from self.ended().__await__()  # some other task drives it
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise asyncio.CancelledError
        return self.result

    def _driven(self, driver: asyncio.Task[Any]) -> Generator[Any, None, Any]:
        try:
            return (yield from self.drive().__await__())
        finally:
            if self._interrupted:
                driver.uncancel()  # it is the call that somebody cancelled, not the task

    async def ended(self) -> Any:
        """Wait until the call is over; returns ``result``, None of one that was cancelled."""
        if not self.over:
            if self._ended is None:
                self._ended = asyncio.Event()
            await self._ended.wait()
        return self.result

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call back from the loop when the call is over."""
        if self.over:
            self.loop.call_soon(callback)
        else:
            self._callbacks = (*self._callbacks, callback)

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        self.under_way.discard(self)
        if self._ended is not None:
            self._ended.set()
        for callback in self._callbacks:
            self.loop.call_soon(callback)

    async def drive(self) -> Any:
        """Up to the end; returns ``result``."""
        telemetry = self.telemetry
        assert telemetry is not None
        span = telemetry.began(self.call)
        try:
            delivered = await run_async(self.exchange, self.world)
            return self.settle(delivered.outcome)
        except asyncio.CancelledError:
            self.note_cancelled()
            raise
        except BaseException as error:
            self.error = error
            raise
        finally:
            telemetry.ended(self.call, span)
            if self.requests is not None:
                self.requests.over()
            self._end()

    def settle(self, outcome: Outcome) -> Any:
        """End the exchange with what was delivered."""
        record = self.call.record
        if outcome.grpc_status == 0:
            outcome = nothing(outcome, self.call) or outcome
        if type(outcome) is GrpcOutcome:
            record.status = outcome.status
            record.grpc_status = outcome.code
            error: Any = outcome.error
            if error is not None:
                outcome.error = with_metadata(error, outcome, record)
            self.result = outcome
        else:
            self.result = failed(outcome, self.call)
        finish(self.exchange)
        return self.result

    def cancel(self) -> bool:
        """Break the call off."""
        if self.over or self.cancelled:
            return False
        self.note_cancelled()
        if self.task is not None:
            self.task.cancel()
        elif self.driver is not None:
            self._interrupted = True
            self.driver.cancel()
        else:  # not begun yet
            if self._beginning is not None:
                self._beginning.cancel()
                self._beginning = None
            self.exchange.close()
            if self.requests is not None:
                self.requests.over()
            self._end()
        return True

    def note_cancelled(self) -> None:
        """The caller has gone."""
        if not self.cancelled:
            self.cancelled = True
            self.call.record.grpc_status = CANCELLED
            self.call.record.add_flag("DC")


class MeshCall(aio.Call):
    """What all calls show."""

    def __init__(self, run: AioRun) -> None:
        self.run = run
        read = run.call.timeouts.read
        self._expires = None if read is None else time.monotonic() + read

    def __del__(self) -> None:
        run = getattr(self, "run", None)
        if run is not None and not run.over:
            if run.loop.is_closed():
                run.under_way.discard(run)
            else:
                run.cancel()

    @property
    def exchange(self) -> Any:
        """What the mesh decided and did."""
        return self.run.call.record

    def cancel(self) -> bool:
        return self.run.cancel()

    def cancelled(self) -> bool:
        return self.run.cancelled

    def done(self) -> bool:
        return self.run.over or self.run.cancelled

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.run.when_over(lambda: callback(self))

    def add_callback(self, callback: Callable[[], None]) -> None:
        self.run.when_over(callback)

    def is_active(self) -> bool:
        return not self.done()

    def time_remaining(self) -> Any:
        return None if self._expires is None else max(0.0, self._expires - time.monotonic())

    async def wait_for_connection(self) -> None:
        """Until the call has been answered, or has failed."""
        await self.run.ended()

    async def code(self) -> grpc.StatusCode:
        return await self._of_the_end("code", grpc.StatusCode.CANCELLED)  # type: ignore[no-any-return]

    async def details(self) -> str:
        return await self._of_the_end("details", LOCALLY)  # type: ignore[no-any-return]

    async def debug_error_string(self) -> str:
        return await self._of_the_end("debug_error_string", LOCALLY)  # type: ignore[no-any-return]

    async def trailing_metadata(self) -> aio.Metadata:
        return await self._of_the_end("trailing_metadata", aio.Metadata())  # type: ignore[no-any-return]

    async def initial_metadata(self) -> aio.Metadata:
        await self.run.ended()
        return await self._initial()

    async def _initial(self) -> aio.Metadata:
        result = self.run.result
        if type(result) is GrpcOutcome and result.told_headers and result.grpc_status is None:
            return aio.Metadata(*from_raw(result.headers))
        return await self._of_the_answer("initial_metadata", aio.Metadata())  # type: ignore[no-any-return]

    async def _of_the_end(self, name: str, cancelled: Any) -> Any:
        await self.run.ended()
        return await self._of_the_answer(name, cancelled)

    async def _of_the_answer(self, name: str, cancelled: Any) -> Any:
        run = self.run
        source = run.result
        if type(source) is GrpcOutcome:
            source = source.error or shown(source.call)
        if source is None or (run.cancelled and source is not None and isinstance(source, RpcFailed)):
            return cancelled
        told = getattr(source, name)()
        return await told if hasattr(told, "__await__") else told


class _OneAnswer(MeshCall):
    """Calls with a single answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        result = yield from self.run.joined()
        if type(result) is not GrpcOutcome:
            raise result
        if result.error is not None:
            raise result.error
        return result.message


class _Writes(MeshCall):
    """Calls that the caller writes requests to."""

    async def write(self, request: Any) -> None:
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
        run = self.run
        if run.cancelled:
            raise asyncio.CancelledError
        result = run.result
        if type(result) is GrpcOutcome:
            if result.error is not None:
                raise result.error
            inner = result.call
            code = await inner.code()
            if code is grpc.StatusCode.OK:
                raise asyncio.InvalidStateError("RPC already finished.")
            raise aio.AioRpcError(
                code,
                await inner.initial_metadata(),
                await inner.trailing_metadata(),
                await inner.details(),
                await inner.debug_error_string(),
            )
        if result is not None:
            raise result


class UnaryUnaryCall(_OneAnswer, aio.UnaryUnaryCall):
    """One request, one answer."""


class StreamUnaryCall(_OneAnswer, _Writes, aio.StreamUnaryCall):
    """A stream of requests, one answer."""


class StreamRun(AioRun):
    """A run whose answer goes on after it was delivered. ``inner``: grpcio's call once one has answered; ``first``: its
    first read, under way or done; ``head_wanted``: somebody asks for the initial metadata before any message."""

    world: StreamOnLoop

    def __init__(
        self,
        call: Call,
        exchange: Exchange,
        world: StreamOnLoop,
        requests: AioRequests | None,
        telemetry: None,  # it watches the exchange
        under_way: set[AioRun],
    ) -> None:
        world.run = self
        self.inner: Any = None
        self.first: asyncio.Task[Any] | None = None
        self.head_wanted = asyncio.Event()
        self.delivered = asyncio.Event()
        super().__init__(call, exchange, world, requests, telemetry, under_way)

    async def drive(self) -> Any:
        try:
            delivered = await run_async(self.exchange, self.world)
            outcome = delivered.outcome
            if type(outcome) is not GrpcOutcome or outcome.error is not None or outcome.grpc_status is not None:
                return self.settle(outcome)
            record = self.call.record
            record.status, record.grpc_status = outcome.status, outcome.code
            self.result = outcome
            self.inner = outcome.call
            if self.requests is not None:
                self.requests.commit()
            self.delivered.set()
            await self._to_the_end()
            return self.result
        except asyncio.CancelledError:
            self.note_cancelled()
            self.exchange.close()
            if self.inner is not None:
                self.inner.cancel()
            raise
        except BaseException as error:
            self.error = error
            raise
        finally:
            if self.requests is not None:
                self.requests.over()
            self._end()

    def _end(self) -> None:
        super()._end()
        self.delivered.set()

    async def _to_the_end(self) -> None:
        """Stay until grpcio says that the stream is over."""
        inner = self.inner
        code = (await inner.code()).value[0]
        details = await inner.details() or ""
        failure = end_of_stream(self.call, code, details, inner.time_remaining() is not None)
        finish(self.exchange, failure)
        if failure is Failure.TIMEOUT:
            self.result = failed(Outcome(failure, MIDDLE), self.call)


class StreamOnLoop(OnLoop):
    """Attempts whose answers are streams."""

    run: StreamRun

    async def send(self, effect: Send) -> Outcome:
        wire = effect.call.wire
        try:
            upstream = upstream_for(self._core, self._settings, effect, asyncio.get_running_loop())
        except CannotConnect as error:
            return refused(error)
        method, request = wire.method, wire.request
        invoke = upstream.calls.get((method.key, wire.target)) or upstream.multicallable(method, wire.target)
        total = total_time(self._core, effect)
        arguments = {
            "timeout": total,
            "metadata": wire.metadata(effect.attempt),
            "credentials": wire.credentials,
            "compression": wire.compression,
        }
        if type(request) is bytes:
            inner = invoke(request, **arguments)
        else:
            inner = invoke(**arguments)
            request.attach(inner)
        mirrored = wire is not self.run.call.wire
        head = effect.timeout
        if head is not None and total is not None and head >= total - 1e-3:
            head = None
        try:
            if mirrored:
                while await inner.read() is not aio.EOF:
                    pass
                return answered(None, inner)
            return await self._first(effect, inner, head, total is not None)
        except grpc.aio.AioRpcError as error:
            initial = error.initial_metadata()
            for _ in range(HEAD_TURNS):
                if initial:
                    break
                await asyncio.sleep(
                    0
                )  # grpcio may tell the status first, and then that there is no head, before it comes
                initial = await inner.initial_metadata()
            return outcome_of_end(effect, error, total is not None, initial, inner)
        except BaseException:
            inner.cancel()
            raise

    async def _first(self, effect: Send, inner: Any, timeout: float | None, timed: bool) -> Outcome:
        """Wait for the first message, or for initial metadata that somebody wants or that tells something."""
        loop = asyncio.get_running_loop()
        read: asyncio.Task[Any] = loop.create_task(inner.read())
        head: asyncio.Task[Any] = loop.create_task(inner.initial_metadata())
        wanted: asyncio.Task[Any] = loop.create_task(self.run.head_wanted.wait())
        waiting: set[asyncio.Task[Any]] = {read, head}
        by = None if timeout is None else loop.time() + timeout
        try:
            while True:
                left = None if by is None else max(0.0, by - loop.time())
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if read in done:
                    if read.result() is aio.EOF:  # an error is raised by result()
                        return ended(0, "", None, inner, None, timed)
                    return self._answered(effect, inner, read, await head)
                if head in waiting and head in done:
                    waiting.discard(head)
                    if head.result():
                        return self._answered(effect, inner, read, head.result())
                    waiting.add(wanted)
                if wanted in waiting and wanted in done:
                    # nothing in the head: either a head without metadata, or the status comes with the same frame
                    await asyncio.wait({read}, timeout=TRAILERS_ONLY_GRACE)
                    if not read.done():
                        return self._answered(effect, inner, read, head.result())
                    waiting.discard(wanted)
                if not done:
                    if head.done():
                        return self._answered(effect, inner, read, head.result())
                    inner.cancel()
                    return Outcome(Failure.TIMEOUT, "no answer within perTryTimeout")
        finally:
            wanted.cancel()
            if self.run.first is not read:
                read.cancel()
                head.cancel()
                if read.done() and not read.cancelled():
                    read.exception()  # seen

    def _answered(self, effect: Send, inner: Any, read: asyncio.Task[Any], initial: Any) -> Outcome:
        self.run.first = read
        outcome = answered(None, inner)
        if wants_headers(effect):
            outcome.tell_headers(tuple(initial), None, "")
        return outcome


class _Stream(MeshCall):
    """Calls whose answer is a stream."""

    run: StreamRun

    def __init__(self, run: StreamRun) -> None:
        super().__init__(run)
        self._run = run
        self._messages: AsyncIterator[Any] | None = None
        self._inner: Any = None

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._messages is None:
            self._messages = self._iterate()
        return self._messages

    async def _iterate(self) -> AsyncIterator[Any]:
        message = await self.read()
        while message is not aio.EOF:
            yield message
            message = await self.read()

    async def read(self) -> Any:
        """The next message, ``grpc.aio.EOF`` at the end. Raises what the call ended with."""
        run = self._run
        inner = self._inner
        try:
            if inner is None:
                await run.delivered.wait()
                inner = self._inner = run.inner
                if inner is not None:
                    assert run.first is not None
                    message = await run.first
            else:
                message = await inner.read()
            if inner is not None:
                if message is aio.EOF:
                    # the caller may drop the call now, which must not look as if it had cancelled it
                    await run.ended()
                return message
        except grpc.aio.AioRpcError as error:
            await run.ended()  # what the exchange makes of it
            result = run.result
            if result is not None and type(result) is not GrpcOutcome:
                raise result from None
            told: Any = error
            told.exchange = run.call.record
            if type(result) is GrpcOutcome and result.told_headers and result.grpc_status is None:
                changed = aio.Metadata(*from_raw(result.headers))
                told.initial_metadata = lambda: changed
            raise
        except asyncio.CancelledError:
            run.cancel()
            raise
        result = await run.ended()
        if run.cancelled:
            raise asyncio.CancelledError
        if run.error is not None:
            raise run.error
        if type(result) is not GrpcOutcome:
            raise result
        if result.error is not None:
            raise result.error
        return aio.EOF

    async def initial_metadata(self) -> aio.Metadata:
        self._run.head_wanted.set()
        await self._run.delivered.wait()
        return await self._initial()


class UnaryStreamCall(_Stream, aio.UnaryStreamCall):
    """One request, a stream of answers."""


class StreamStreamCall(_Stream, _Writes, aio.StreamStreamCall):
    """Streams both ways."""
