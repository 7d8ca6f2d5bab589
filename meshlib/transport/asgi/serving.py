"""What serving an HTTP request and serving a WebSocket have in common: each ends once, and is recorded then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT
from meshlib.transport.asgi.messages import size_of
from meshlib.transport.asgi.routes import template_of

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.policy.refusal import Refusal
    from meshlib.telemetry.inbound_records import ServedSpan
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.asgi.messages import Receive, Scope, Send

BROKEN = "UC"
"""Envoy's flag for an application that has begun a response and not ended it."""


class Serving:
    """``over``: the response has ended, or will not any more; ``gone``: its client has left; ``cut``: the request was too long,
    and the application has been told that its client is gone. ``scope`` is the application's."""

    # no slots: what most requests keep as it is stands here and costs them nothing (row asgi-cost of the benchmarks)
    over = False
    gone = False
    cut = False

    def __init__(
        self,
        call: InboundCall,
        exchange: InboundExchange,
        telemetry: InboundTelemetry,
        span: ServedSpan | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.call = call
        self._exchange = exchange
        self._telemetry = telemetry
        self._span = span
        self.scope = scope
        self._receive = receive
        self._send = send

    async def refuse(self, refusal: Refusal) -> None:
        """Respond in place of the application, which is not asked."""
        try:
            self.call.response_bytes = await self._respond(refusal)
        except GeneratorExit:
            self.drop()
            raise
        finally:
            self.end(CUT)

    async def _respond(self, refusal: Refusal) -> int:
        """Send it; returns its bytes."""
        raise NotImplementedError

    def end(self, ended: Ended) -> None:
        """It has ended like this, or, of a client that is ``gone``, with that. The first time counts."""
        if self.over:
            return
        self.over = True
        call = self.call
        call.request_head_bytes = size_of(call.request, self.scope)
        call.request_bytes += call.request_head_bytes
        if call.around is not None:
            call.route = template_of(self.scope)
        if self.gone:
            ended = CUT
        finish(self._exchange, ended)
        self._telemetry.ended(call, self._span)

    def drop(self) -> None:
        """Nobody runs it any more: perhaps the garbage collector's doing, so it is only noted (see telemetry/watcher.py)."""
        if not self.over:
            self.over = True
            self.call.request_head_bytes = size_of(self.call.request, self.scope)
            self.call.request_bytes += self.call.request_head_bytes
            self._exchange.close()
            self._telemetry.broken(self.call, self._span)

    def raised(self, error: BaseException) -> None:
        """The application has failed, or the task that runs it was cancelled."""
        if self.over:
            return
        if isinstance(error, GeneratorExit):
            self.drop()
            return
        if not isinstance(error, Exception):
            self.gone = True
        self.end(self.broken())

    def broken(self) -> Ended:
        """How a response that the application has not ended does."""
        return broken(self.call)


def broken(call: InboundCall) -> Ended:
    """How a response that the application has not ended does: its server makes a 500 of none, or breaks off."""
    grpc = 2 if call.request.protocol == "grpc" else None
    return Ended(call.sent, grpc, BROKEN) if call.sent else Ended(500, grpc)
