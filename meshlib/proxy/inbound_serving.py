"""One request that comes to the application behind the proxy: its inbound exchange, then the hop to the application, which is
an outbound exchange (``forwarding.py``), and the response on its way back."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.engine.body_source import NO_BODY
from meshlib.engine.drivers import finish, run_async
from meshlib.engine.effects import Ended, Serve
from meshlib.engine.inbound import CUT, SERVE, asked_at_once, inbound
from meshlib.engine.wire_headers import size_of
from meshlib.policy.refusal import Refusal
from meshlib.proxy.grpc import MessageCount
from meshlib.proxy.inbound_body import OnceBody, ServedBody, WholeBody
from meshlib.proxy.refusals import refusal_of
from meshlib.proxy.server_headers import as_server
from meshlib.proxy.straight_call import StraightCall
from meshlib.transport.asgi.messages import grpc_status
from meshlib.transport.asgi.refusals import response_of
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.received_head import ReceivedHead

if TYPE_CHECKING:
    from meshlib.engine.check import Check
    from meshlib.engine.effects import Step
    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.engine.inbound_state import BoundInbound, Noting
    from meshlib.engine.plain_request import PlainRequest
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.policy.sidecar_headers import ProxyHeaders
    from meshlib.proxy.forwarding import Forwarding
    from meshlib.proxy.inbound_hop import Waiting
    from meshlib.proxy.inbound_request import ServedRequest
    from meshlib.proxy.responder import Responder
    from meshlib.telemetry.inbound_records import ServedSpan
    from meshlib.transport.runtimes.serving import Server
    from meshlib.transport.upstream.switched import AsyncSwitched

log = logging.getLogger("meshlib.proxy")

BROKEN = Refusal(500, "Internal Server Error", detail="proxy_failed")
NO_THREADS = "the application's threads are not the proxy's"
ENDED = {status: Ended(status) for status in range(100, 600)}


class Hops(Protocol):
    """Where what is let in goes."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def serve(self, request: Any, waiting: Waiting, http2: bool, /) -> Forwarding | None: ...


class Serving:
    """``responder`` is the client's; ``bound`` is what ``Server.straight`` says of the port, of those without a ``deadline``.
    As one itself it hears what the application responds; to who has brought the request it is what cancels that."""

    __slots__ = (
        "_body",
        "_counted",
        "_exchange",
        "_forwarder",
        "_forwarding",
        "_grpc",
        "_in_task",
        "_noting",
        "_responder",
        "_server",
        "_settings",
        "_span",
        "_straight",
        "_task",
        "call",
        "over",
        "request",
    )

    def __init__(
        self,
        server: Server,
        forwarder: Hops,
        settings: ProxyHeaders,
        request: ServedRequest,
        responder: Responder,
        deadline: float | None,
        lasts: bool,
        bound: BoundInbound | None,
        begun: StraightCall | None = None,
    ) -> None:
        self._server = server
        self._forwarder = forwarder
        self._settings = settings
        self.request = request
        self._responder = responder
        self._span: ServedSpan | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_task = False  # it has taken its first step
        self._forwarding: Forwarding | None = None
        self._body: ServedBody | None = None
        self._grpc: int | None = None
        self._counted = MessageCount() if request.protocol == "grpc" else None  # of the response
        self.over = False
        self._exchange: InboundExchange | None = None  # None: there is nothing that it would be for
        self._straight = bound is not None
        self.call: InboundCall
        self._noting: dict[int, Noting] | None = None
        if bound is not None:
            self.call = StraightCall(request, bound, server) if begun is None else begun
            if server.telemetry.notes and request.protocol != "grpc":
                self._noting = bound.noting(request.principal, True) if request.mutual else bound.of_nobody
            return
        self.call = call = server.call(request, deadline, lasts=lasts)
        if call.admission is not None and call.admission.looks_at_queue:
            server.queue_unknown(
                call, NO_THREADS, "maxLag looks at the proxy's event loop, maxConcurrent at the application"
            )

    @classmethod
    def of(
        cls,
        server: Server,
        forwarder: Hops,
        settings: ProxyHeaders,
        call: StraightCall,
        span: ServedSpan | None,
        bound: BoundInbound,
        responder: Responder,
    ) -> Serving:
        """Go on with a call that has begun, of a request whose body is all here. ``decide`` it; or it is ``forwarded_by``
        somebody already."""
        made = cls(server, forwarder, settings, call.request, responder, None, False, bound, call)
        made._span = span
        return made

    def forwarded_by(self, forwarding: Forwarding) -> None:
        """It was let in, and is on its way to the application."""
        self._forwarding = forwarding

    def start(self) -> None:
        """Ask the checks; the response may be on its way before this returns."""
        request, call = self.request, self.call
        body = request.sent_on.body
        if body is not None and not isinstance(body, bytes):
            self._body = ServedBody(aiter(body), call.received)
        self._span = self._server.telemetry.began(call)
        try:
            if self._straight:
                self._let_in(asked_at_once(request, call.checks))  # as the exchange would go
            else:
                self._ask_all()
        except Exception:  # noqa: BLE001 (a bug: nobody comes in, the client gets a response and we the traceback)
            self.broken()

    def decide(self, left: tuple[Check, ...] | None) -> None:
        """Ask the checks that are ``left``. None: it is let in."""
        try:
            self._let_in(left)
        except Exception:  # noqa: BLE001 (as in ``start``)
            self.broken()

    def _let_in(self, left: tuple[Check, ...] | None) -> None:
        if left is None:
            self._decided(SERVE)
        else:
            self.call.checks = left
            self._ask_all()

    def _ask_all(self) -> None:
        request, body = self.request, self.request.sent_on.body
        request.body_source = self._body or (WholeBody(body) if isinstance(body, bytes) else NO_BODY)
        self._exchange = exchange = inbound(self.call)
        effect = next(exchange)
        if type(effect) is Serve:
            self._decided(effect)
        else:
            self._task = self._forwarder.loop.create_task(self._ask(exchange, effect))

    async def _ask(self, exchange: InboundExchange, begun: Step[PlainRequest]) -> None:
        """In a task: a check waits for something."""
        self._in_task = True
        try:
            effect = await run_async(exchange, self._server.awaited, begun)
            self._task = None
            self._decided(effect)
        except asyncio.CancelledError:  # the client has gone; the exchange is closed
            self._task = None  # whose error, with this frame in it, would stay for the garbage collector
            self._drop()
            raise
        except (ConnectionError, Refused):  # it has gone, or sent nonsense, while its body was looked at
            self._drop()
        except Exception:  # noqa: BLE001 (as in ``start``)
            self.broken()

    def _decided(self, serve: Serve) -> None:
        request = self.request
        if self._exchange is not None:
            request.body_source = None  # they refer to each other
        if serve.refusal is not None:
            self._refuse(serve.refusal)
            return
        sent = request.for_the_application()
        body = sent.body
        if isinstance(body, bytes):
            too_long = self.call.received(len(body))
            if too_long is not None:
                self._cut_off(too_long)
                return
        elif body is not None and self._body is not None:
            sent.body = OnceBody(self._body, body)
        self._forwarding = self._forwarder.serve(sent, self, request.http2)
        if self.over:
            self._forwarding = None

    # -- what whoever brought the request tells of its client -----------------------------------------------------------

    def cancel(self, refused: Refused | None = None) -> None:
        """It has gone, or is refused."""
        if self.over:
            return
        if refused is not None and not self.call.sent:
            self.call.refuse(refusal_of(refused))
        if self._task is not None:
            self._task.cancel()
            if not self._in_task:  # nor will it ever be
                self._task = None
                self._close_exchange()
                self._drop()
            return
        forwarding, self._forwarding = self._forwarding, None
        if forwarding is not None:
            forwarding.cancel()
        if refused is None:
            self._end(CUT)
        elif self.call.sent:
            self._end(Ended(self.call.sent, None, refused.flag))
        else:
            self._end(Ended(self.call.status, self.call.grpc_status))

    def client_takes(self, writable: bool) -> None:
        """It takes (or for now does not take) what is written to it."""
        if self._forwarding is not None:
            self._forwarding.client_takes(writable)

    # -- Responder: what the application says ---------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether the client takes what is written."""
        return self._responder.writable

    async def drained(self) -> None:
        """Until it does."""
        await self._responder.drained()

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """A response that is all here."""
        if self.over:
            return
        body = self._body
        if body is not None and body.too_long is not None:
            self._cut_off(body.too_long)
            return
        headers = self._head(status, headers)
        if self.request.method != "HEAD":
            self.call.response_bytes += len(whole)
        if self._counted is not None:
            self._counted.feed(whole)
        if trailers:
            self._grpc = grpc_status(trailers, self._grpc)
        self._end(self._whole(status))
        self._responder.respond(status, reason, headers, whole, trailers)

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """The head of a response whose body follows."""
        self._responder.begin(status, reason, self._head(status, headers))

    def write(self, data: bytes) -> None:
        """Some bytes of it."""
        if not self.over:
            self.call.response_bytes += len(data)
            if self._counted is not None:
                self._counted.feed(data)
            self._responder.write(data)

    def end(self, trailers: RawHeaders | None) -> None:
        """It is over."""
        if self.over:
            return
        if trailers:
            self._grpc = grpc_status(trailers, self._grpc)
        self._end(self._whole(self.call.sent))
        self._responder.end(trailers)

    def cut(self) -> None:
        """The application has not ended what it began."""
        if self.over:
            return
        if self._body is not None and self._body.too_long is not None:
            self._cut_off(self._body.too_long)
            return
        grpc = 2 if self.request.protocol == "grpc" else None
        self._end(Ended(self.call.sent, grpc, self._flags() or "UC"))
        self._responder.cut()

    def switch(self, status: int, reason: bytes, headers: Headers, upstream: AsyncSwitched) -> None:
        """101: another protocol from here on; the request is served until that ends."""
        headers = self._head(status, headers, False)
        self._forwarding = None
        self._responder.switch(status, reason, headers, SwitchedServing(upstream, self))  # type: ignore[arg-type]

    def left(self) -> None:
        """What was spoken after 101 has ended."""
        self._end(Ended(self.call.sent))

    # -- ends -----------------------------------------------------------------------------------------------------------

    def _head(self, status: int, headers: Headers, comes: bool = True) -> RawHeaders | ReceivedHead:
        """The headers of a response as the client gets them, noted. ``comes``: it is one that says how long it took."""
        call, request = self.call, self.request
        took: float | None = None
        if comes and type(headers) is ReceivedHead and call.hop is not None:  # else that is said already
            took = call.hop.record.upstream_ms or 0.0
        made = as_server(headers, self._settings, call.clock, took)
        if request.changes_response:
            made = request.response_headers(made)
        call.sent = status
        call.response_head = made
        call.response_head_bytes = size = made.size if type(made) is ReceivedHead else size_of(made)
        call.response_bytes += size
        if call.tells:
            call.head_at = call.clock.monotonic()
        if request.protocol == "grpc":
            self._grpc = grpc_status(made, None)
        return made

    def _local_headers(self, headers: RawHeaders) -> RawHeaders:
        """Of a response that is made here."""
        return list(as_server(headers, self._settings, self.call.clock))

    def _whole(self, status: int) -> Ended:
        hop = self.call.hop
        flags = "" if hop is None else hop.record.flags  # as ``_flags``
        if self.request.protocol != "grpc":
            return Ended(status, None, flags) if flags else ENDED.get(status) or Ended(status)
        return Ended(status, 2 if self._grpc is None else self._grpc, flags)

    def _flags(self) -> str:
        """What went wrong on the way to the application."""
        hop = self.call.hop
        return "" if hop is None else hop.record.flags

    def _refuse(self, refusal: Refusal) -> None:
        """Respond in place of the application, which is not asked."""
        status, headers, body = response_of(refusal, self.request)
        made = self._local_headers(headers)
        self.call.response_head = made
        self.call.response_head_bytes = size_of(made)
        self.call.response_bytes += self.call.response_head_bytes + len(body)
        self._end(CUT)
        self._responder.respond(status, b"", made, body, None)

    def _cut_off(self, refusal: Refusal) -> None:
        """The body is more than may come: in place of what the application would have said, or amid that."""
        call = self.call
        call.refusal = refusal
        if call.sent:
            self._end(Ended(call.sent))
            self._responder.cut()
            return
        status, headers, body = response_of(refusal, self.request)
        made = self._local_headers(headers)
        call.response_head_bytes = size_of(made)
        call.response_bytes += call.response_head_bytes + len(body)
        self._end(Ended(refusal.status, refusal.grpc if self.request.protocol == "grpc" else None, refusal.flag))
        self._responder.respond(status, b"", made, body, None)

    def _end(self, ended: Ended) -> None:
        """The first time counts."""
        if self.over:
            return
        self.over = True
        self._forwarding = None
        call = self.call
        call.request_head_bytes = self.request.header_bytes()
        call.request_bytes += call.request_head_bytes
        if self._counted is not None:
            call.request_messages = self.request.sent_on.messages.count
            call.response_messages = self._counted.count
        if self._exchange is None:
            call.end(ended)
        else:
            finish(self._exchange, ended)
        noting = self._noting
        if noting is None or call.flags or self.request.peer_metadata is not None:
            self._server.telemetry.ended(call, self._span)
            return
        # it has ended like nearly all do: where the last one like it was noted is known
        server, series = self._server, noting.get(call.status)
        if series is None:
            self._learn(noting)
            return
        now = server.now()
        series.note((now - call.started) * 1000.0, call.request_bytes, call.response_bytes)
        telemetry = server.telemetry
        if self._span is not None or telemetry.tells:
            telemetry.told(call, self._span, now, series)

    def _learn(self, noting: dict[int, Noting]) -> None:
        """Record it, and where the next one like it is to be noted."""
        telemetry, call = self._server.telemetry, self.call
        telemetry.ended(call, self._span)
        found = telemetry.series_of(call)
        if found is not None:
            noting[call.status] = found

    def _close_exchange(self) -> None:
        """It is broken off; nothing, where it is over."""
        if self._exchange is not None:
            self._exchange.close()
        elif self.call.refusal is None:
            self.call.end(CUT)

    def _drop(self) -> None:
        """The exchange was closed with the request undecided."""
        self._task = None
        if not self.over:
            self.over = True
            self._server.telemetry.broken(self.call, self._span)

    def broken(self) -> None:
        """A bug of ours."""
        log.exception(
            "a request to %s could not be served: a fault of meshlib, please report it", self.request.authority
        )
        self._task = None
        if self.over:
            return
        self.over = True
        if self.call.sent:
            self._close_exchange()
            self._server.telemetry.broken(self.call, self._span)
            self._responder.cut()
            return
        self.call.refuse(BROKEN)
        self._close_exchange()
        self._server.telemetry.ended(self.call, self._span)
        self._responder.respond(BROKEN.status, b"", self._local_headers(BROKEN.http_headers()), BROKEN.content, None)


class SwitchedServing:
    """A connection after 101: ``serving`` is told of its end, once."""

    __slots__ = ("_serving", "_upstream")

    def __init__(self, upstream: AsyncSwitched, serving: Serving) -> None:
        self._upstream = upstream
        self._serving = serving

    async def read(self, most: int, timeout: float | None) -> bytes:
        """As ``AsyncSwitched``'s."""
        data = await self._upstream.read(most, timeout)
        self._serving.call.response_bytes += len(data)
        return data

    async def write(self, data: bytes, timeout: float | None) -> None:
        """As ``AsyncSwitched``'s."""
        self._serving.call.request_bytes += len(data)
        await self._upstream.write(data, timeout)

    async def aclose(self) -> None:
        """As ``AsyncSwitched``'s."""
        try:
            await self._upstream.aclose()
        finally:
            self._serving.left()
