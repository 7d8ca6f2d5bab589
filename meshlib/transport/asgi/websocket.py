"""One WebSocket at its application. It has the status of its handshake, and is over when either side has closed it; no deadline
binds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT
from meshlib.transport.asgi.messages import changed_head, length_of, size
from meshlib.transport.asgi.refusals import turn_away
from meshlib.transport.asgi.serving import Serving

if TYPE_CHECKING:
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.asgi.messages import Message

SWITCHING = 101
REFUSED = 403
ABNORMAL = 1006
"""The code of a connection that broke without a closing handshake."""


class WebSocketServing(Serving):
    """``receive`` and ``send`` are the application's."""

    async def receive(self) -> Message:
        """What the client says next."""
        message = await self._receive()
        kind = message["type"]
        if kind == "websocket.receive":
            self.call.request_bytes += length_of(message)
        elif kind == "websocket.disconnect":
            sent = self.call.sent
            self.end(Ended(sent) if sent and message.get("code") != ABNORMAL else CUT)
        return message

    async def _respond(self, refusal: Refusal) -> int:
        return await turn_away(refusal, self.call.request, self.scope, self._receive, self._send)

    async def send(self, message: Message) -> None:
        """What the application says next."""
        call, kind = self.call, message["type"]
        ended = None
        if kind in ("websocket.accept", "websocket.http.response.start"):
            if call.request.changes_response:
                message = changed_head(message, call.request)
            call.responding(message.get("status", SWITCHING))
            headers = message.get("headers", ())
            call.response_head = headers
            call.response_bytes += size(headers)
        elif kind == "websocket.close":
            ended = Ended(call.sent or REFUSED)  # closed before it was accepted: servers make a 403 of that
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            ended = Ended(call.sent)
        try:
            await self._send(message)
        except OSError:
            self.end(CUT)
            raise
        if kind == "websocket.send":
            call.response_bytes += length_of(message)
        elif kind == "websocket.http.response.body":
            call.response_bytes += len(message.get("body", b""))
        if ended is not None:
            self.end(ended)

    def returned(self) -> None:
        """The application has nothing more to say: its server closes what it has not."""
        self.end(Ended(self.call.sent or 500))
