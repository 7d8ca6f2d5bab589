"""One HTTP request at its application: what goes by is counted, and how the response ends is told to the exchange, once.

Nothing is kept back: each message goes on as it comes, whichever task sends it. The exchange is over with the last message of
the response; what the application does after that (background tasks) is its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT
from meshlib.transport.asgi.messages import changed_head, declared_length, grpc_status, size, size_of
from meshlib.transport.asgi.refusals import respond
from meshlib.transport.asgi.routes import template_of

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.asgi.messages import Message, Pairs, Receive, Scope, Send

BROKEN = "UC"
"""Envoy's flag for an application that has begun a response and not ended it."""
FROM_FILES = ("http.response.pathsend", "http.response.zerocopysend")
"""Bodies that the server reads by itself: as long as the head says."""


class ClientGone(Exception):
    """The client has gone before its request was decided on."""


class HttpServing:
    """``receive`` and ``send`` are the application's; ``over``: the response has ended, or will not any more; ``cut``: the
    request was too long, and the application has been told that its client is gone. Checks look at
    the beginning of the body by ``peek_async``: the application reads it from its first byte all the same."""

    __slots__ = (
        "_call",
        "_ending",
        "_exchange",
        "_gone",
        "_grpc",
        "_head",
        "_kept",
        "_receive",
        "_send",
        "_trailers",
        "cut",
        "over",
        "scope",
    )

    def __init__(
        self, call: InboundCall, exchange: InboundExchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._call = call
        self._exchange = exchange
        self.scope = scope
        self._receive = receive
        self._send = send
        self._trailers = False
        self._ending = False
        self._gone = False
        self._grpc: int | None = None
        self._head: Pairs = ()
        self._kept: list[Message] = []
        self.over = False
        self.cut = False

    async def receive(self) -> Message:
        """The next piece of the request, or that its client has gone."""
        if self._kept:
            return self._kept.pop(0)
        return await self._next()

    async def peek_async(self, limit: int) -> tuple[bytes, bool]:
        """As ``engine.body_source`` has it. Raises ``ClientGone``."""
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
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            body = message.get("body")
            if body:
                refusal = self._call.received(len(body))
                if refusal is not None and not self.over:
                    return await self._cut_off(refusal)
        elif not self._ending:  # servers say so after a whole response, too
            self._gone = True
        return message

    async def _cut_off(self, refusal: Refusal) -> Message:
        """The body is more than may come: the client is told so, the application that its client has gone."""
        self.cut = True
        call = self._call
        if not call.sent:
            self._ending = True
            call.response_bytes = await respond(refusal, call.request, self._send)
            call.refusal = refusal
            self._end(Ended(refusal.status))
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The next piece of the response."""
        if self.cut and self.over:  # what the application says to a client that it takes for gone
            return
        if self.over:  # more than a response: its server's to refuse
            await self._send(message)
            return
        kind = message["type"]
        last = False
        if kind == "http.response.body":
            last = not message.get("more_body") and not self._trailers
        elif kind == "http.response.start":
            message = self._begun(message)
        elif kind == "http.response.trailers":
            last = not message.get("more_trailers")
            self._grpc = grpc_status(message.get("headers", ()), self._grpc)
        elif kind in FROM_FILES:
            last = not message.get("more_body") and not self._trailers
        if last:
            self._ending = True
        try:
            await self._send(message)
        except OSError:  # servers of ASGI 2.4 tell so that the client has gone
            self._gone = True
            raise
        if self._call.request.method != "HEAD":
            body = message.get("body")
            if body:
                self._call.response_bytes += len(body)
            elif last and kind in FROM_FILES:
                self._call.response_bytes += declared_length(self._head)
        if last:
            self._end(self._whole())

    def _begun(self, message: Message) -> Message:
        """The head of the response, with what the caller is to get beside it."""
        call = self._call
        request = call.request
        if request.changes_response:
            message = changed_head(message, request)
        self._head = headers = message.get("headers", ())
        self._trailers = bool(message.get("trailers"))
        call.responding(message["status"])
        call.response_bytes += size(headers)
        if request.protocol == "grpc":
            self._grpc = grpc_status(headers, None)
        return message

    def _whole(self) -> Ended:
        call = self._call
        if call.request.protocol != "grpc":
            return Ended(call.sent)
        return Ended(call.sent, 2 if self._grpc is None else self._grpc)

    def _end(self, ended: Ended) -> None:
        if self.over:
            return
        self.over = True
        call = self._call
        call.request_bytes += size_of(call.request, self.scope)
        if call.around is not None:
            call.route = template_of(self.scope)
        finish(self._exchange, CUT if self._gone else ended)

    def returned(self) -> None:
        """The application has nothing more to say. Of one that has not said it all, its server makes a 500 or breaks off."""
        if not self.over:
            self._end(self._broken())

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
            return
        if not isinstance(error, Exception):
            self._gone = True
        self._end(self._broken())

    def _broken(self) -> Ended:
        sent = self._call.sent
        if not sent:
            return Ended(500, 2 if self._call.request.protocol == "grpc" else None)
        return Ended(sent, 2 if self._call.request.protocol == "grpc" else None, BROKEN)
