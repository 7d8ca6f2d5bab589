"""The part of a request on its way (``forwarding.py``) that a task runs: whatever an exchange wants but an attempt on a
connection that is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish, run_async
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.message import is_awaited
from meshlib.proxy import grpc
from meshlib.proxy.sent_headers import sent_headers
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.switched import AsyncSwitched

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Step
    from meshlib.engine.outcome import Failure, Outcome
    from meshlib.proxy.means import Means
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder
    from meshlib.telemetry.attempt_spans import CallSpan


class InTask:
    """What a task does of a ``Forwarding``, which this is one part of."""

    __slots__ = ("_call", "_in_task", "_means", "_over", "_responder", "_span", "_streaming", "_task")

    def __init__(self, means: Means, call: Call[ProxyRequest], responder: Responder) -> None:
        self._means = means
        self._call = call
        self._responder = responder
        self._span: CallSpan | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_task = False  # it has taken its first step: one that is cancelled before never does
        self._streaming = False
        self._over = False

    _sent_headers = staticmethod(sent_headers)
    """Of a response, as its client gets them."""

    def broken(self) -> None:
        """A bug: the client is told that there was one, and the log what."""
        raise NotImplementedError

    def _conclude(self, outcome: Outcome, local: bool) -> None:
        """The exchange is over, and its response is all here: send it on."""
        raise NotImplementedError

    def _tell_cut(self) -> None:
        """Of a call that is broken off."""
        raise NotImplementedError

    async def _long_way(self, exchange: Exchange[ProxyRequest], begun: Step[ProxyRequest] | Deliver) -> None:
        self._in_task = True
        telemetry, call = self._means.telemetry, self._call
        runtime = self._means.runtime
        try:
            delivered: Send[ProxyRequest] | Deliver
            if type(begun) is Send:  # an exchange that is brief may end with it
                delivered = begun
                begun.outcome = await runtime.send(begun)
                after = next(exchange, None)
                if after is not None:
                    delivered = after if type(after) is Deliver else await run_async(exchange, runtime, after)
            else:
                delivered = begun if type(begun) is Deliver else await run_async(exchange, runtime, begun)
            outcome, local = delivered.outcome, type(delivered) is Deliver and delivered.local
            if outcome.body is None:
                finish(exchange)
                self._conclude(outcome, local)
                return
            call.record.status = outcome.status
            call.outcome = outcome
            if isinstance(outcome.body, AsyncSwitched):
                self._over = True
                self._responder.switch(outcome.status, outcome.reason, outcome.headers, outcome.body)
                finish(exchange)
                telemetry.ended(call, self._span)
                return
            await self._pass_on(exchange, outcome, local)
        except asyncio.CancelledError:
            self._over = True
            self._task = None  # whose error, with this frame in it, would stay for the garbage collector
            exchange.close()
            self._tell_cut()
            raise
        except Exception:  # noqa: BLE001 (as in ``start``)
            self.broken()

    async def _pass_on(self, exchange: Exchange[ProxyRequest], outcome: Outcome, local: bool) -> None:
        """A response that comes in pieces."""
        call, responder, body = self._call, self._responder, outcome.body
        assert is_awaited(body)
        call.streamed = 0
        counted = grpc.MessageCount() if call.request.protocol == "grpc" else None
        self._streaming = True
        responder.begin(outcome.status, outcome.reason, self._sent_headers(call, outcome, local))
        cut: Failure | None = None
        try:
            async for part in body:
                call.streamed += len(part)
                if counted is not None:
                    counted.feed(part)
                    call.messages = counted.count
                responder.write(part)
                if not responder.writable:
                    await responder.drained()
        except BodyFailed as error:
            cut = error.failure
        except BaseException:
            body.abort()
            raise
        self._over = True
        if call.request.protocol == "grpc":
            call.record.grpc_status = grpc.status_of(outcome, ended=cut is None)
        finish(exchange, cut)
        self._means.telemetry.ended(call, self._span)
        if cut is None:
            responder.end(outcome.trailers)
        else:
            responder.cut()
