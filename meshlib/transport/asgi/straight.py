"""An HTTP request of which nothing is asked before its application: the call and what serves it are one object, and there is no
exchange. It records what ``HttpServing`` with its exchange would (``tests/transport/asgi/test_straight.py`` holds the two
against each other), at half of the cost: row asgi-cost of the benchmarks.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from meshlib.engine.inbound import CUT, InboundCall
from meshlib.transport.asgi.http import FROM_FILES
from meshlib.transport.asgi.messages import declared_length
from meshlib.transport.asgi.routes import template_of
from meshlib.transport.asgi.serving import broken

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from meshlib.clock import Clock
    from meshlib.compiler.inbound import Inbound
    from meshlib.engine.check_failures import CheckFailures
    from meshlib.engine.effects import Ended
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.telemetry.inbound_tracing import ServedSpan
    from meshlib.transport.asgi.messages import Message, Pairs, Receive, Scope, Send
    from meshlib.transport.runtimes.serving import Server


class Straight(InboundCall):
    """``receive`` and ``send`` are the application's. ``over``: the response has ended, or will not any more; ``gone``: its
    client has left. The protocol is HTTP's (gRPC has trailers to read)."""

    over = False
    gone = False
    span: ServedSpan | None = None
    _ending = False
    _trailers = False
    _head: Pairs = ()

    def __init__(
        self, request: InboundRequest, inbound: Inbound, server: Server, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.request = request
        self.inbound = inbound
        self._server = server
        self.scope = scope
        self._receive = receive
        self._send = send
        self.started = server.now()

    @property
    def clock(self) -> Clock:  # type: ignore[override]
        """The mesh's."""
        return self._server.clock

    @property
    def rng(self) -> random.Random:  # type: ignore[override]
        """The mesh's."""
        return self._server.rng

    @property
    def failures(self) -> CheckFailures:  # type: ignore[override]
        """The mesh's."""
        return self._server.failures

    async def receive(self) -> Message:
        """The next piece of the request, or that its client has gone."""
        message = await self._receive()
        if message["type"] == "http.request":
            body = message.get("body")
            if body:
                self.request_bytes += len(body)
        elif not self._ending:  # servers say so after a whole response, too
            self.gone = True
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the response."""
        if self.over:  # more than a response: its server's to refuse
            await self._send(message)
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._head = headers = message.get("headers", ())
            if "trailers" in message:
                self._trailers = bool(message["trailers"])
            self.sent = message["status"]
            self.response_bytes += len(b"".join(chain.from_iterable(headers)))
            try:
                await self._send(message)
            except OSError:  # servers of ASGI 2.4 tell so that the client has gone
                self.gone = True
                raise
            return
        if kind == "http.response.body" or kind in FROM_FILES:
            last = not (message.get("more_body") or self._trailers)
        else:
            last = kind == "http.response.trailers" and not message.get("more_trailers")
        self._ending = last
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise
        if self.request.method != "HEAD":
            body = message.get("body")
            if body:
                self.response_bytes += len(body)
            elif last and kind in FROM_FILES:
                self.response_bytes += declared_length(self._head)
        if last and not self.over:
            if self.gone:
                self.end(CUT)
            else:
                self.status = self.sent
            self._over(self._server.telemetry.ended)

    def returned(self) -> None:
        """The application has nothing more to say."""
        if not self.over:
            self._ended(broken(self))

    def raised(self, error: BaseException) -> None:
        """The application has failed, or the task that runs it was cancelled or dropped."""
        if self.over:
            return
        if isinstance(error, GeneratorExit):  # perhaps the garbage collector's doing: see telemetry/observe.py
            self.end(CUT)
            self._over(self._server.telemetry.broken)
            return
        if not isinstance(error, Exception):
            self.gone = True
        self._ended(broken(self))

    def _ended(self, ended: Ended) -> None:
        self.end(CUT if self.gone else ended)
        self._over(self._server.telemetry.ended)

    def _over(self, record: Callable[[InboundCall, ServedSpan | None], None]) -> None:
        self.over = True
        request = self.request
        head = b"".join(chain.from_iterable(self.scope["headers"]))  # the same as messages.size_of
        self.request_bytes += len(request.method) + len(request.path) + len(head)
        if request.query:
            self.request_bytes += len(request.query) + 1
        if self.around is not None:
            self.route = template_of(self.scope)
        record(self, self.span)
