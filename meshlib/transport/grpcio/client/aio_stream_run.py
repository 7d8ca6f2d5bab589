"""What drives calls on asyncio whose responses are streams: the exchange, and what comes after it, up to the last message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from meshlib.engine.drivers import finish, run_async
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.aio_messages import messages_of
from meshlib.transport.grpcio.client.aio_requests import AioRequests, connects
from meshlib.transport.grpcio.client.aio_run import AioRun, Result
from meshlib.transport.grpcio.client.attempt import (
    broken_off,
    end_of_stream,
    invoker,
    keywords,
    not_begun,
    outcome_of_end,
    refused,
    total_time,
    upstream_for,
    wants_headers,
)
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.errors import RpcFailed, error_of
from meshlib.transport.grpcio.client.loop_runtime import OnLoop
from meshlib.transport.grpcio.client.outcome import MIDDLE, GrpcOutcome, ended
from meshlib.transport.grpcio.contracts import ended_call
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Send
    from meshlib.telemetry.observe import Telemetry
    from meshlib.transport.grpcio.client.aio_messages import Messages
    from meshlib.transport.grpcio.client.request import LoopRequest
    from meshlib.transport.grpcio.client.upstream import Upstream
    from meshlib.transport.grpcio.contracts import LoopCall, LoopMultiCallable, Metadata

TRAILERS_ONLY_GRACE = 0.02
"""See ``stream.py``, whose own this is."""

HEAD_TURNS = 3
"""Turns of the loop in which the head of a response comes after its status, if it has one."""


class StreamRun(AioRun):
    """A run whose response goes on after it was delivered. ``inner``: grpcio's call once its response has begun; ``messages``:
    those of the response; ``first``: the first of them, on its way or here; ``head_wanted``: somebody asks for the initial
    metadata before any message."""

    runtime: StreamOnLoop
    exchange: Exchange[LoopRequest]

    def __init__(
        self,
        call: Call[LoopRequest],
        exchange: Exchange[LoopRequest],
        runtime: StreamOnLoop,
        requests: AioRequests[object] | None,
        telemetry: Telemetry,  # it watches the exchange
        under_way: set[AioRun],
    ) -> None:
        runtime.run = self
        self.attempt: LoopCall | None = None  # grpcio's call for the attempt under way
        self._attempted: asyncio.Event | None = None
        self.inner: LoopCall | None = None
        self.messages: Messages | None = None
        self.first: asyncio.Task[object] | None = None
        self.head_wanted = asyncio.Event()
        self.delivered = asyncio.Event()
        super().__init__(call, exchange, runtime, requests, telemetry, under_way)

    async def drive(self) -> Result:
        try:
            delivered = await run_async(self.exchange, self.runtime)
            outcome = delivered.outcome
            if type(outcome) is not GrpcOutcome or outcome.error is not None or outcome.grpc_status is not None:
                self.messages = self.first = None  # of an attempt that the caller never sees
                return self.settle(outcome)
            record = self.call.record
            record.status, record.grpc_status = outcome.status, outcome.code
            self.result = outcome
            self.inner = outcome.call
            if self.requests is not None:
                self.requests.commit()
            self.delivered.set()
            return await self._to_the_end(outcome)
        except Exception as error:
            self.error = error
            raise
        except BaseException:
            self.note_cancelled()
            self.exchange.close()
            if self.inner is not None:
                self.inner.cancel()
            raise
        finally:
            if self.requests is not None:
                self.requests.over()
            self._end()

    def begun(self, attempt: LoopCall) -> None:
        """An attempt is under way."""
        self.attempt = attempt
        if self._attempted is not None:
            self._attempted.set()

    async def connected(self) -> None:
        """Until an attempt has been sent, or the call is over."""
        while not self.over:
            attempt = self.attempt
            if attempt is None:
                self._attempted = asyncio.Event()
                await self._attempted.wait()
            elif await connects(attempt):
                return
            elif attempt is self.attempt:
                self.attempt = None  # its end decides whether there is another

    def _end(self) -> None:
        super()._end()
        self.delivered.set()
        if self._attempted is not None:
            self._attempted.set()

    async def _to_the_end(self, outcome: GrpcOutcome) -> Result:
        """Stay until grpcio says that the stream is over; returns ``result``."""
        inner: LoopCall = outcome.call
        code = (await inner.code()).value[0]
        details = await inner.details() or ""
        failure = end_of_stream(self.call, code, details, inner.time_remaining() is not None)
        finish(self.exchange, failure)
        if failure is Failure.TIMEOUT:
            failed = error_of(Outcome(failure, MIDDLE), self.call)
            assert isinstance(failed, RpcFailed)
            self.result = failed
            return failed
        return outcome


class StreamOnLoop(OnLoop):
    """Attempts whose responses are streams."""

    run: StreamRun

    async def send(self, effect: Send[LoopRequest]) -> Outcome:
        sent = effect.call.request
        messages = sent.messages
        inner: LoopCall | None = None
        upstream: Upstream | None = None
        total: float | None = None
        try:
            upstream = upstream_for(self._core, self._settings, effect, asyncio.get_running_loop())
            called: LoopMultiCallable = invoker(upstream, effect)
            total = total_time(self._core, effect)
            arguments = keywords(sent, total, sent.metadata(effect.attempt))
            if isinstance(messages, bytes):
                inner = called(messages, **arguments)
            else:
                inner = called(**arguments)
                messages.attach(inner)
            mirrored = sent is not self.run.call.request
            if not mirrored:
                self.run.begun(inner)
            head = effect.timeout
            if head is not None and total is not None and head >= total - 1e-3:
                head = None
            if mirrored:
                async for _ in inner:
                    pass
                return GrpcOutcome(None, inner)
            return await self._first(effect, inner, head, total is not None)
        except grpc.aio.AioRpcError as error:
            initial: Metadata = error.initial_metadata()
            for _ in range(HEAD_TURNS):
                if initial or inner is None:
                    break
                # grpcio may tell the status first, and then that there is no head, before it comes
                await asyncio.sleep(0)
                initial = await inner.initial_metadata()
            return outcome_of_end(self._core, upstream, effect, ended_call(error), total is not None, initial, inner)
        except CannotConnect as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 (told to the caller)
            if inner is not None:
                inner.cancel()
            return not_begun(self._core, error)
        except asyncio.CancelledError:
            if inner is not None:
                inner.cancel()
            if broken_off(self._core):
                return mesh_closed()
            raise
        except BaseException:
            if inner is not None:
                inner.cancel()
            raise

    async def _first(self, effect: Send[LoopRequest], inner: LoopCall, timeout: float | None, timed: bool) -> Outcome:
        """Wait for the first message, or for initial metadata that somebody wants or that tells something."""
        loop = asyncio.get_running_loop()
        messages = messages_of(inner)
        read: asyncio.Task[object] = loop.create_task(messages.read())
        head: asyncio.Task[Metadata] = loop.create_task(inner.initial_metadata())
        wanted: asyncio.Task[bool] = loop.create_task(self.run.head_wanted.wait())
        waiting: set[asyncio.Task[object] | asyncio.Task[Metadata] | asyncio.Task[bool]] = {read, head}
        by = None if timeout is None else loop.time() + timeout
        try:
            while True:
                left = None if by is None else max(0.0, by - loop.time())
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if read in done:
                    if read.result() is aio.EOF:  # an error is raised by result()
                        return ended(0, "", None, inner, None, timed)
                    return self._responded(effect, inner, messages, read, await head)
                if head in waiting and head in done:
                    waiting.discard(head)
                    if head.result():
                        return self._responded(effect, inner, messages, read, head.result())
                    waiting.add(wanted)
                if wanted in waiting and wanted in done:
                    # nothing in the head: either a head without metadata, or the status comes with the same frame
                    await asyncio.wait({read}, timeout=TRAILERS_ONLY_GRACE)
                    if not read.done():
                        return self._responded(effect, inner, messages, read, head.result())
                    waiting.discard(wanted)
                if not done:
                    if head.done():
                        return self._responded(effect, inner, messages, read, head.result())
                    inner.cancel()
                    return Outcome(Failure.TIMEOUT, "no response within perTryTimeout")
        finally:
            wanted.cancel()
            if self.run.first is not read:
                for task in (read, head):
                    task.cancel()
                    if task.done() and not task.cancelled():
                        task.exception()  # seen

    def _responded(
        self,
        effect: Send[LoopRequest],
        inner: LoopCall,
        messages: Messages,
        read: asyncio.Task[object],
        initial: Metadata,
    ) -> Outcome:
        self.run.messages, self.run.first = messages, read
        outcome = GrpcOutcome(None, inner)
        if wants_headers(effect):
            outcome.tell_headers(tuple(initial), None, "")
        return outcome
