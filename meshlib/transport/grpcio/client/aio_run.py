"""What drives calls on asyncio with a single response."""

from __future__ import annotations

import asyncio
from asyncio import current_task, get_running_loop
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from meshlib.engine import plain_call
from meshlib.engine.drivers import finish, run_brief_async
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.exchange import exchange_of
from meshlib.engine.outcome import Outcome
from meshlib.engine.run_call import break_off, go_on_async
from meshlib.transport.grpcio.client.aio_requests import AioRequests
from meshlib.transport.grpcio.client.errors import RpcFailed, error_of, ok_without_message
from meshlib.transport.grpcio.client.outcome import CANCELLED, OK, GrpcOutcome
from meshlib.transport.grpcio.client.shown_call import error_with_metadata

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.telemetry.observe import Telemetry
    from meshlib.transport.grpcio.client.loop_runtime import OnLoop
    from meshlib.transport.grpcio.client.next_turn import NextTurn
    from meshlib.transport.grpcio.client.request import LoopRequest
    from meshlib.transport.grpcio.client.upstream import Upstream


Result = GrpcOutcome | RpcFailed
"""What a call has ended with: its response, or what the mesh ended it with."""


class AioRun:
    """What drives a call; the object that the caller holds refers to it, never the other way round. ``result``: the
    outcome that is its response, or the exception the mesh ended it with; ``under_way`` has it until it is ``over``.
    ``exchange``: None of a call that is to be made as it is (``dialer.AS_IT_IS``), or has nothing to finish any more.

    It is driven by a task of its own (``begin``) or, when it is awaited before the loop's next turn, by the task that awaits
    it (``driver``): a task costs a call two of these turns, which `make bench` shows.
    """

    # most calls change none of these
    result: GrpcOutcome | RpcFailed | None = None
    cancelled = False
    over = False
    task: asyncio.Task[Result] | None = None  # one of its own
    driver: asyncio.Task[object] | None = None  # the one that awaits it
    error: BaseException | None = None  # a mistake of ours
    waiting: NextTurn | None = None  # when it will begin, if nobody awaits it before
    context: Context | None = None  # of the caller, for a task that begins later
    interrupted = False  # whether its driver is made to stop
    _ended: asyncio.Event | None = None
    _callbacks: tuple[Callable[[], None], ...] = ()

    def __init__(
        self,
        call: Call[LoopRequest],
        exchange: Exchange[LoopRequest] | None,
        runtime: OnLoop,
        requests: AioRequests[object] | None,
        telemetry: Telemetry,
        under_way: set[AioRun],
    ) -> None:
        self.call = call
        self.telemetry = telemetry
        self.exchange = exchange
        self.runtime = runtime
        self.requests = requests
        self.loop = get_running_loop()
        self.under_way = under_way
        under_way.add(self)

    def begin(self) -> None:
        """Drive it in a task of its own."""
        self.waiting = None
        create = self.loop.create_task
        self.task = create(self.drive()) if self.context is None else self.context.run(create, self.drive())
        self.task.add_done_callback(self._driven)

    def _driven(self, task: asyncio.Task[Result]) -> None:
        if not task.cancelled():
            task.exception()  # seen: ``error`` has it, for whoever asks
        self._end()  # a task that is cancelled before its first step runs nothing

    async def joined(self) -> Result:
        """Wait for the end of a call that is driven; returns ``result``. Who is cancelled here cancels the call."""
        if self.waiting is not None:
            self.begin()
        try:
            if self.task is not None:
                return await self.task
            await self.ended()  # some other task drives it
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise asyncio.CancelledError
        return self.result

    async def ended(self) -> Result | None:
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

    async def drive(self) -> Result:
        """Up to the end; returns ``result``."""
        await self.steps(None)
        assert self.result is not None
        return self.result

    async def steps(self, awaited: object | None) -> object:
        """What ``drive`` does; or what awaiting the call does, which drives it where nothing else does: returns the message of
        the response, or raises what the call has ended with. ``awaited``: what the caller holds, not dropped meanwhile. One
        function, because each level of coroutines costs, at its beginning and whenever the task goes on."""
        driver: asyncio.Task[Any] | None = None
        if awaited is not None:
            turn = self.waiting
            if turn is not None and self.context == copy_context():
                driver = current_task(self.loop)
            if driver is None or turn is None:
                return given(await self.joined())
            turn.awaited(self)
            self.waiting, self.driver = None, driver
        call, telemetry, exchange = self.call, self.telemetry, self.exchange
        ended = telemetry.ended
        span = telemetry.began(call)
        delivered: Send[LoopRequest] | Deliver | None = None
        upstream: Upstream | None = None  # of the attempt
        try:
            if span is None and exchange is None:
                delivered = plain_call.begun(call)  # nearly always
                if type(delivered) is not Send:
                    delivered, self.exchange = await go_on_async(call, delivered, self.runtime)
                else:
                    try:  # as ``runtime.send`` for a plain rule, without its coroutine
                        upstream, coming = self.runtime.begun(delivered, self.loop)
                        delivered.outcome = await coming
                    except BaseException as error:  # noqa: BLE001 (raised again where it is no end of an attempt)
                        delivered.outcome = self.runtime.broken(delivered, upstream, error)
                    if not plain_call.ended(call, delivered):
                        delivered, self.exchange = await go_on_async(call, delivered, self.runtime)
            else:
                if exchange is None:
                    exchange = exchange_of(call, brief=True)
                if span is not None:
                    exchange = telemetry.spanned(span, exchange)
                self.exchange = exchange
                delivered = await run_brief_async(exchange, self.runtime)
                if type(delivered) is Send:
                    self.exchange = None
            outcome: Any = delivered.outcome  # one of gRPC, where it is usual
            if outcome.usual:  # nearly always: a response with a message
                record = call.record
                record.status = outcome.status
                record.grpc_status = OK
                self.result = outcome
                if self.exchange is not None:
                    finish(self.exchange)
                if self.requests is None:
                    ended = telemetry.ended_with_message
            else:
                self.settle(outcome)
        except Exception as error:
            self.error = error
            break_off(delivered)
            raise
        except BaseException:  # cancelled, or dropped with its loop
            self.note_cancelled()
            break_off(delivered)
            raise
        finally:
            ended(call, span)
            if self.requests is not None:
                self.requests.over()
            if self._ended is None and not self._callbacks:  # nearly always; as ``_end``
                self.over = True
                self.under_way.discard(self)
            else:
                self._end()
            if self.interrupted and driver is not None:
                driver.uncancel()  # it is the call that somebody cancelled, not the task
        return None if awaited is None else given(self.result)

    def settle(self, outcome: Outcome) -> Result:
        """End the exchange with what was delivered."""
        record = self.call.record
        if outcome.grpc_status == 0:
            outcome = ok_without_message(outcome, self.call) or outcome
        if type(outcome) is GrpcOutcome:
            record.status = outcome.status
            record.grpc_status = outcome.code
            error = outcome.error
            if error is not None:
                outcome.error = error_with_metadata(error, outcome, record)
            result: Result = outcome
        else:
            failed = error_of(outcome, self.call)
            if not isinstance(failed, RpcFailed):
                self._finish()
                raise failed
            result = failed
        self.result = result
        self._finish()
        return result

    def _finish(self) -> None:
        if self.exchange is not None:
            finish(self.exchange)

    def cancel(self) -> bool:
        """Break the call off."""
        if self.over or self.cancelled:
            return False
        self.note_cancelled()
        if self.task is not None:
            self.task.cancel()
        elif self.driver is not None:
            self.interrupted = True
            self.driver.cancel()
        else:  # not begun yet
            self.waiting = None
            if self.exchange is not None:
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


def given(result: Result | None) -> object:
    """What the caller gets who awaits a call with this result. Raises what it ended with."""
    if type(result) is not GrpcOutcome:
        assert result is not None
        raise result
    if result.error is not None:
        raise result.error
    return result.message
