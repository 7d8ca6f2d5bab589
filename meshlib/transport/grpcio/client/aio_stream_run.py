"""What drives calls on asyncio whose responses are streams: the exchange, and what comes after it, up to the last message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from meshlib.engine.drivers import finish, run_async
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.aio_requests import AioRequests, connects
from meshlib.transport.grpcio.client.aio_run import AioRun
from meshlib.transport.grpcio.client.attempt import (
    broken_off,
    end_of_stream,
    invoker,
    not_begun,
    outcome_of_end,
    refused,
    total_time,
    wants_headers,
)
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.errors import error_of
from meshlib.transport.grpcio.client.loop_runtime import OnLoop
from meshlib.transport.grpcio.client.outcome import MIDDLE, GrpcOutcome, ended, responded
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Send
    from meshlib.telemetry.observe import Telemetry

TRAILERS_ONLY_GRACE = 0.02
"""See ``stream.py``, whose own this is."""

HEAD_TURNS = 3
"""Turns of the loop in which the head of an answer comes after its status, if it has one."""


class StreamRun(AioRun):
    """A run whose answer goes on after it was delivered. ``inner``: grpcio's call once one has answered; ``messages``: its
    iterator over them; ``first``: the first step of that, under way or done; ``head_wanted``: somebody asks for the initial
    metadata before any message."""

    runtime: StreamOnLoop

    def __init__(
        self,
        call: Call,
        exchange: Exchange,
        runtime: StreamOnLoop,
        requests: AioRequests | None,
        telemetry: Telemetry,  # it watches the exchange
        under_way: set[AioRun],
    ) -> None:
        runtime.run = self
        self.attempt: Any = None  # grpcio's call for the attempt under way
        self._attempted: asyncio.Event | None = None
        self.inner: Any = None
        self.messages: Any = None
        self.first: asyncio.Task[Any] | None = None
        self.head_wanted = asyncio.Event()
        self.delivered = asyncio.Event()
        super().__init__(call, exchange, runtime, requests, telemetry, under_way)

    async def drive(self) -> Any:
        try:
            delivered = await run_async(self.exchange, self.runtime)
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

    def begun(self, attempt: Any) -> None:
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

    async def _to_the_end(self) -> None:
        """Stay until grpcio says that the stream is over."""
        inner = self.inner
        code = (await inner.code()).value[0]
        details = await inner.details() or ""
        failure = end_of_stream(self.call, code, details, inner.time_remaining() is not None)
        finish(self.exchange, failure)
        if failure is Failure.TIMEOUT:
            self.result = error_of(Outcome(failure, MIDDLE), self.call)


class StreamOnLoop(OnLoop):
    """Attempts whose answers are streams."""

    run: StreamRun

    async def send(self, effect: Send) -> Outcome:
        sent = effect.call.request
        request = sent.messages
        inner: Any = None
        try:
            upstream, invoke = invoker(self._core, self._settings, effect, asyncio.get_running_loop())
            total = total_time(self._core, effect)
            arguments = {
                "timeout": total,
                "metadata": sent.metadata(effect.attempt),
                "credentials": sent.credentials,
                "compression": sent.compression,
            }
            if type(request) is bytes:
                inner = invoke(request, **arguments)
            else:
                inner = invoke(**arguments)
                request.attach(inner)
            mirrored = sent is not self.run.call.request
            if not mirrored:
                self.run.begun(inner)
            head = effect.timeout
            if head is not None and total is not None and head >= total - 1e-3:
                head = None
            if mirrored:
                async for _ in inner:
                    pass
                return responded(None, inner)
            return await self._first(effect, inner, head, total is not None)
        except grpc.aio.AioRpcError as error:
            initial = error.initial_metadata()
            for _ in range(HEAD_TURNS):
                if initial:
                    break
                # grpcio may tell the status first, and then that there is no head, before it comes
                await asyncio.sleep(0)
                initial = await inner.initial_metadata()
            return outcome_of_end(self._core, upstream, effect, error, total is not None, initial, inner)
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

    async def _first(self, effect: Send, inner: Any, timeout: float | None, timed: bool) -> Outcome:
        """Wait for the first message, or for initial metadata that somebody wants or that tells something."""
        loop = asyncio.get_running_loop()
        messages = aiter(inner)
        read: asyncio.Task[Any] = loop.create_task(next_message(messages))
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
                    return self._answered(effect, inner, messages, read, await head)
                if head in waiting and head in done:
                    waiting.discard(head)
                    if head.result():
                        return self._answered(effect, inner, messages, read, head.result())
                    waiting.add(wanted)
                if wanted in waiting and wanted in done:
                    # nothing in the head: either a head without metadata, or the status comes with the same frame
                    await asyncio.wait({read}, timeout=TRAILERS_ONLY_GRACE)
                    if not read.done():
                        return self._answered(effect, inner, messages, read, head.result())
                    waiting.discard(wanted)
                if not done:
                    if head.done():
                        return self._answered(effect, inner, messages, read, head.result())
                    inner.cancel()
                    return Outcome(Failure.TIMEOUT, "no answer within perTryTimeout")
        finally:
            wanted.cancel()
            if self.run.first is not read:
                for task in (read, head):
                    task.cancel()
                    if task.done() and not task.cancelled():
                        task.exception()  # seen

    def _answered(self, effect: Send, inner: Any, messages: Any, read: asyncio.Task[Any], initial: Any) -> Outcome:
        self.run.messages, self.run.first = messages, read
        outcome = responded(None, inner)
        if wants_headers(effect):
            outcome.tell_headers(tuple(initial), None, "")
        return outcome


async def next_message(messages: Any) -> Any:
    """The next one of grpcio's iterator, ``grpc.aio.EOF`` at the end. (Its ``read`` skips messages that are here already when
    the status is too.)"""
    async for message in messages:
        return message
    return aio.EOF
