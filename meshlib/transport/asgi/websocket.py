"""One WebSocket at its application. It has the status of its handshake, and is over when either side has closed it; no deadline
binds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT
from meshlib.transport.asgi.http import BROKEN
from meshlib.transport.asgi.messages import changed_head, length_of, size, size_of
from meshlib.transport.asgi.routes import template_of

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.transport.asgi.messages import Message, Receive, Scope, Send

SWITCHING = 101
REFUSED = 403
ABNORMAL = 1006
"""The code of a connection that broke without a closing handshake."""


class WebSocketServing:
    """``receive`` and ``send`` are the application's; ``over``: the WebSocket has ended."""

    __slots__ = ("_call", "_exchange", "_receive", "_send", "over", "scope")

    cut = False
    """No request of a WebSocket is too long."""

    def __init__(
        self, call: InboundCall, exchange: InboundExchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._call = call
        self._exchange = exchange
        self.scope = scope
        self._receive = receive
        self._send = send
        self.over = False

    async def receive(self) -> Message:
        """What the client says next."""
        message = await self._receive()
        kind = message["type"]
        if kind == "websocket.receive":
            self._call.request_bytes += length_of(message)
        elif kind == "websocket.disconnect":
            sent = self._call.sent
            self._end(Ended(sent) if sent and message.get("code") != ABNORMAL else CUT)
        return message

    async def send(self, message: Message) -> None:
        """What the application says next."""
        call, kind = self._call, message["type"]
        ended = None
        if kind == "websocket.accept":
            if call.request.changes_response:
                message = changed_head(message, call.request)
            self._begun(SWITCHING, message)
        elif kind == "websocket.close":
            ended = Ended(call.sent or REFUSED)  # closed before it was accepted: servers make a 403 of that
        elif kind == "websocket.http.response.start":
            if call.request.changes_response:
                message = changed_head(message, call.request)
            self._begun(message["status"], message)
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            ended = Ended(call.sent)
        try:
            await self._send(message)
        except OSError:
            self._end(CUT)
            raise
        if kind == "websocket.send":
            call.response_bytes += length_of(message)
        elif kind == "websocket.http.response.body":
            call.response_bytes += len(message.get("body", b""))
        if ended is not None:
            self._end(ended)

    def _begun(self, status: int, message: Message) -> None:
        self._call.responding(status)
        self._call.response_bytes += size(message.get("headers", ()))

    def _end(self, ended: Ended) -> None:
        if self.over:
            return
        self.over = True
        call = self._call
        call.request_bytes += size_of(call.request, self.scope)
        if call.around is not None:
            call.route = template_of(self.scope)
        finish(self._exchange, ended)

    def returned(self) -> None:
        """The application has nothing more to say: its server closes what it has not."""
        sent = self._call.sent
        self._end(Ended(sent or 500))

    def raised(self, error: BaseException) -> None:
        """The application has failed, or the task that runs it was cancelled."""
        if self.over:
            return
        if isinstance(
            error, GeneratorExit
        ):  # perhaps the garbage collector's doing: only noted, see telemetry/observe.py
            self.over = True
            self._call.request_bytes += size_of(self._call.request, self.scope)
            self._exchange.close()
        elif not isinstance(error, Exception):
            self._end(CUT)
        else:
            sent = self._call.sent
            self._end(Ended(sent, None, BROKEN) if sent else Ended(500))
