"""One HTTP request at its application: what goes by is counted, and how the response ends is told to the exchange, once.

Nothing is kept back: each message goes on as it comes, whichever task sends it. The exchange is over with the last message of
the response; what the application does after that (background tasks) is its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.effects import Ended
from meshlib.transport.asgi.messages import changed_head, declared_length, grpc_status, size
from meshlib.transport.asgi.refusals import respond
from meshlib.transport.asgi.serving import Serving

if TYPE_CHECKING:
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.asgi.messages import Message, Pairs

FROM_FILES = ("http.response.pathsend", "http.response.zerocopysend")
"""Bodies that the server reads by itself: as long as the head says."""
WHOLE = {status: Ended(status) for status in range(100, 600)}
DISCONNECT = "http.disconnect"


class ClientGone(Exception):
    """The client has gone before its request was decided on."""


class HttpServing(Serving):
    """``receive`` and ``send`` are the application's. Checks look at the beginning of the body by ``peek_async``: the
    application reads it from its first byte all the same."""

    _ending = False
    _trailers = False
    _grpc: int | None = None
    _head: Pairs = ()
    _kept: list[Message] | None = None

    # -- the request --------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next piece of the request, or that its client has gone."""
        if self._kept:
            return self._kept.pop(0)
        return await self._next()

    async def peek_async(self, limit: int) -> tuple[bytes, bool]:
        """As ``engine.body_source`` has it. Raises ``ClientGone``."""
        if self._kept is None:
            self._kept = []
        kept = self._kept
        seen = b"".join(message.get("body", b"") for message in kept)
        while len(seen) < limit and (not kept or kept[-1].get("more_body")):
            message = await self._next()
            if message["type"] != "http.request":
                raise ClientGone
            kept.append(message)
            seen += message.get("body", b"")
        return seen, bool(kept) and not kept[-1].get("more_body")

    async def _next(self) -> Message:
        if self.cut:
            return {"type": DISCONNECT}
        message = await self._receive()
        if message["type"] == "http.request":
            body = message.get("body")
            if body:
                refusal = self.call.received(len(body))
                if refusal is not None and not self.over:
                    return await self._cut_off(refusal)
        elif not self._ending:  # servers say so after a whole response, too
            self.gone = True
        return message

    async def _cut_off(self, refusal: Refusal) -> Message:
        """The body is more than may come: the client is told so, the application that its client has gone."""
        self.cut = True
        call = self.call
        if not call.sent:
            self._ending = True
            call.response_bytes = await self._respond(refusal)
            call.refusal = refusal
            self.end(Ended(refusal.status))
        return {"type": DISCONNECT}

    # -- the response -------------------------------------------------------------------------------------------------

    async def _respond(self, refusal: Refusal) -> int:
        return await respond(refusal, self.call.request, self._send)

    async def send(self, message: Message) -> None:
        """The next piece of the response."""
        if self.over:
            if not self.cut:  # more than a response: its server's to refuse
                await self._send(message)
            return  # what the application says to a client that it takes for gone
        kind = message["type"]
        if kind == "http.response.start":
            message, last = self._begun(message), False
        elif kind == "http.response.body" or kind in FROM_FILES:
            last = not message.get("more_body") and not self._trailers
        elif kind == "http.response.trailers":
            last = not message.get("more_trailers")
            self._grpc = grpc_status(message.get("headers", ()), self._grpc)
        else:
            last = False
        self._ending = last
        try:
            await self._send(message)
        except OSError:  # servers of ASGI 2.4 tell so that the client has gone
            self.gone = True
            raise
        call = self.call
        if call.request.method != "HEAD":
            body = message.get("body")
            if body:
                call.response_bytes += len(body)
            elif last and kind in FROM_FILES:
                call.response_bytes += declared_length(self._head)
        if last:
            self.end(self._whole())

    def _begun(self, message: Message) -> Message:
        """The head of the response, with what the caller is to get beside it."""
        call = self.call
        request = call.request
        if request.changes_response:
            message = changed_head(message, request)
        self._head = headers = message.get("headers", ())
        if "trailers" in message:
            self._trailers = bool(message["trailers"])
        call.sent = message["status"]
        call.response_head, call.response_head_bytes = headers, size(headers)
        call.response_bytes += call.response_head_bytes
        if call.tells:
            call.head_at = call.clock.monotonic()
        if request.protocol == "grpc":
            self._grpc = grpc_status(headers, None)
        return message

    def _whole(self) -> Ended:
        call = self.call
        sent = call.sent
        if call.request.protocol != "grpc":
            return WHOLE.get(sent) or Ended(sent)
        return Ended(sent, 2 if self._grpc is None else self._grpc)

    def returned(self) -> None:
        """The application has nothing more to say."""
        if not self.over:
            self.end(self.broken())
