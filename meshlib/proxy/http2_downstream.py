"""One connection of a client that speaks HTTP/2 to the proxy: its requests, any number at a time, and their responses.

What a batch of reads brings is begun when all of it has been read, and what is said in one turn of the loop is one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from meshlib.engine import replies
from meshlib.engine.wire_headers import ATTEMPT_COUNT
from meshlib.policy.header_ops import Headers, RawHeaders
from meshlib.policy.request_ids import new_request_id
from meshlib.proxy import grpc
from meshlib.proxy.closing import Leaving
from meshlib.proxy.forwarded_path import forwarded_path
from meshlib.proxy.http1_downstream import BROKEN
from meshlib.proxy.http2_body import ClientBody, Source
from meshlib.proxy.refusals import MALFORMED, SILENT, Asked
from meshlib.proxy.request import ProxyRequest, is_grpc
from meshlib.proxy.slow_clients import Wait, leaves
from meshlib.transport.protocol.http1_request import SPECIAL, Refused
from meshlib.transport.protocol.http2_codec import Code, Head
from meshlib.transport.protocol.http2_response import fields, response_head
from meshlib.transport.protocol.http2_server import ServerSession
from meshlib.transport.protocol.http2_server_stream import ServerStream

if TYPE_CHECKING:
    from meshlib.proxy.responder import Port, UnderWay
    from meshlib.transport.protocol.http2_request import RequestHead
    from meshlib.transport.upstream.switched import AsyncSwitched

log = logging.getLogger("meshlib.proxy")

SMALL_BODY = 65536
"""Bytes of a request's body that are handed on whole when they have come with its head."""

AHEAD = 64 * 1024
"""Bytes of a response that wait for the client until its upstream is no longer read."""

BACKLOG_MOST = 4 * 1024 * 1024
"""Bytes that a client leaves unread before it counts as hostile: no body is written to a socket that is full, so that they are
words of the protocol only."""

ACKNOWLEDGED_IN = 1.0
"""Seconds that a client has to see that the connection is to close; then streams are no longer taken."""

_ID = b"x-request-id:"
_PROTO = b"x-forwarded-proto:"
_PROTO_VALUE = len("x-forwarded-proto: ")
_SECRETS = frozenset((b"authorization:", b"proxy-authorization:", b"cookie:"))
"""Headers that HTTP/2 keeps out of its tables, or may."""
_METHODS = {name: name.encode() for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_BODILESS = (204, 304)
_CONTINUE = response_head(100, [])


class Http2Request(ProxyRequest):
    """A request that came over HTTP/2."""

    __slots__ = ("fields", "host")

    version = "HTTP/2"
    fields: list[tuple[bytes, bytes]]
    """As they came, but for Host."""
    host: bytes

    def http2_head(self, attempt: int, scheme: bytes) -> Head | None:
        """As HTTP/2 writes it for this attempt, where rules have changed nothing and nothing is secret; else None."""
        method = _METHODS.get(self.method)
        if self._headers is not self._received or self.has_envoy_headers or method is None or not self.counts:
            return None
        if not _SECRETS.isdisjoint(self.special):
            return None
        # as nghttp2 has taken them: tokens in lower case, no blanks around values, and none that is for one connection
        return [
            (b":method", method),
            (b":scheme", scheme),
            (b":authority", self.host),
            (b":path", self.target),
            *self.fields,
            (ATTEMPT_COUNT, b"%d" % attempt),
        ]


class Http2Downstream(asyncio.Protocol):
    """A connection of ``listener``, and the ``Sink`` of its session."""

    __slots__ = (
        "_behind",
        "_calls",
        "_flushing",
        "_listener",
        "_new",
        "_progress",
        "loop",
        "session",
        "transport",
    )

    def __init__(self, listener: Port) -> None:
        self._listener = listener
        self.loop = loop = listener.forwarder.loop
        self.session = ServerSession(self, loop.time())
        self.transport: Any = None
        self._new: list[_Call] = []  # whose heads came in this batch of reads
        self._calls: set[_Call] = set()
        self._behind = False  # there are frames that have not been looked at
        self._flushing = False  # there will be a write for all of this turn of the loop
        self._progress = 0

    # -- asyncio's callbacks --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._listener.opened(self)
        if self._listener.draining:
            self.drain()

    def data_received(self, data: bytes) -> None:
        if self.session.over:
            return
        self._flushing = True
        self._progress += 1
        behind = self.session.receive(data, self.loop.time())
        if behind != self._behind:
            self._behind = behind
            if behind:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if behind:
            self.loop.call_soon(self._catch_up)
        new, self._new = self._new, []
        for call in new:
            call.begin_request()
        self._flush()

    def _catch_up(self) -> None:
        """The rest of what was received, now that others had their turn."""
        if self._behind:
            self.data_received(b"")

    def eof_received(self) -> bool:
        return False  # as in Envoy, a client that sends no more wants no more either

    def connection_lost(self, error: Exception | None) -> None:
        self._behind = False
        self._listener.closed(self)
        self.session.lost(error)

    def pause_writing(self) -> None:
        self.session.set_writable(False)

    def resume_writing(self) -> None:
        self.session.set_writable(True)
        self.flush_soon()

    # -- writing --------------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """One write for all that is said in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        session, transport = self.session, self.transport
        if transport.is_closing():
            return
        more = session.holds_back
        out = session.outgoing()
        if out:
            transport.write(out)
        if more:
            self.loop.call_soon(self._go_on)
        if session.over:
            if session.broken:
                self._listener.broken(session.broken, session.bug, transport)
            self.transport = Leaving(transport, self, self.loop)  # it may be sending
        elif transport.get_write_buffer_size() > BACKLOG_MOST:
            self._listener.broken("the client does not read what it asks for", False, transport)
            transport.abort()

    def _go_on(self) -> None:
        """With what was held back until a write."""
        self.session.go_on()
        self.flush_soon()

    # -- ends -----------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The streams that are on their way are the last ones."""
        self.session.drain()
        self._flush()
        self.loop.call_later(ACKNOWLEDGED_IN, self._drained)

    def _drained(self) -> None:
        self.session.drained()
        self._flush()

    def waits(self) -> tuple[Wait, int] | None:
        """What the client is waited for, and how far it is (``slow_clients.py``)."""
        if self.transport.is_closing():
            return leaves(self.transport)
        if not self._calls:
            return Wait.NEXT, self._progress
        return (Wait.BODY, self._progress) if any(call.waits for call in self._calls) else None

    def give_up(self, wait: Wait) -> None:
        """It is not waited for any longer."""
        if wait is Wait.BODY:
            for call in [call for call in self._calls if call.waits]:
                call.too_late()
            self._flush()
        elif wait is Wait.LEAVE:
            self.transport.abort()
        else:
            self.drain()

    def took(self, stream: ServerStream, size: int) -> None:
        """So much of the body of a stream has been taken."""
        self.session.consumed(stream, size)
        self.flush_soon()

    def over(self, call: _Call) -> None:
        """Its response has been given to the session, or nobody wants it."""
        self._calls.discard(call)
        self.flush_soon()

    # -- Sink -----------------------------------------------------------------------------------------------------------

    def on_request(self, stream: ServerStream) -> None:
        """The session's."""
        head = stream.head
        stream.owner = call = _Call(self, stream)
        if head.refused is not None:
            call.refuse(Refused(head.refused.status, head.refused.detail, head.refused.detail, head.refused.flag))
            return
        self._calls.add(call)
        self._new.append(call)
        if head.expects_continue and not stream.request_over:
            self.session.interim(stream, _CONTINUE)

    def on_malformed(self) -> None:
        """The session's."""
        self._listener.refused(
            Refused(0, "its head is none", "http2.violation.of.messaging.rule", "DPE"), self.transport, MALFORMED
        )

    def on_body(self, stream: ServerStream, data: bytes) -> None:
        """The session's."""
        stream.owner.source.put(data)

    def on_trailers(self, stream: ServerStream, trailers: Head) -> None:
        """The session's."""
        stream.owner.source.trailers = fields(list(trailers))

    def on_end(self, stream: ServerStream) -> None:
        """The session's."""
        stream.owner.source.end()

    def on_reset(self, stream: ServerStream, why: str) -> None:
        """The session's."""
        stream.owner.gone(why)

    def on_room(self, stream: ServerStream) -> None:
        """The session's."""
        stream.owner.pump()
        self.flush_soon()

    # -- requests -------------------------------------------------------------------------------------------------------

    def target(self, head: RequestHead) -> bytes:
        """Path and query, as they are sent on and policy reads them. Raises ``Refused``."""
        if head.target == b"*":
            raise Refused(404, "no route takes OPTIONS *")
        live = self._listener.forwarder.core.live
        return forwarded_path(
            head.target, "BASE" if live is None else live.snapshot.inbound.default.mesh.path_normalization
        )

    def _adds_ids(self) -> bool:
        """Whether requests that have none get an x-request-id."""
        live = self._listener.forwarder.core.live
        return live is None or live.snapshot.inbound.default.mesh.proxy_headers.request_id

    def refused(self, refused: Refused, asked: Asked | None) -> None:
        """A request goes no further."""
        self._listener.refused(refused, self.transport, asked)

    def forward(self, call: _Call, target: bytes, body: bytes | ClientBody | None) -> UnderWay | None:
        """Begin what the client has asked for."""
        head = call.stream.head
        lines, lower, fields, more = head.lines, head.lower, list(head.fields), b""  # more: lines
        special = SPECIAL.findall(lower)
        if _ID not in special and self._adds_ids():
            number = new_request_id(self._listener.rng).encode()
            fields.append((b"x-request-id", number))
            more = b"x-request-id: %b\r\n" % number
        if _PROTO not in special:
            fields.append((b"x-forwarded-proto", self._listener.proto[_PROTO_VALUE:-2]))
            more += self._listener.proto
        if more:
            lines, lower = lines + more, lower + more
        request = Http2Request(head.method, head.authority, target, lines, lower, body, "http", special)
        request.host, request.fields = head.authority, fields
        return self._listener.forwarder.forward(request, call)


class _Call:
    """One request and, as its ``Responder``, the response."""

    __slots__ = (
        "_bodiless",
        "_down",
        "_drained",
        "_ended",
        "_forwarding",
        "_has_body",
        "_over",
        "_pending",
        "_trailers",
        "_waiting",
        "source",
        "stream",
    )

    def __init__(self, down: Http2Downstream, stream: ServerStream) -> None:
        self._down = down
        self.stream = stream
        self.source = Source(down.took, stream)
        self._forwarding: UnderWay | None = None
        # a request that ends with its head is sent on as one, and no other is: a stream of grpc-go's servers that does waits
        # for ever for its first message
        self._has_body = not stream.request_over
        self._bodiless = stream.head.method == b"HEAD"
        self._pending: deque[bytes] = deque()  # of the body
        self._waiting = 0  # bytes of that
        self._ended = False  # all of the body has been given here
        self._trailers: RawHeaders = []
        self._over = False
        self._drained: asyncio.Future[None] | None = None

    # -- the request ------------------------------------------------------------------------------------------------------

    def begin_request(self) -> None:
        """All that came with the head is here."""
        if self._over:
            return  # the client has reset it already
        source, stream = self.source, self.stream
        try:
            target = self._down.target(stream.head)
            body: bytes | ClientBody | None = None
            if self._has_body:
                if stream.request_over and 0 < source.size <= SMALL_BODY and not source.trailers:
                    body = source.all()
                else:
                    body = ClientBody(source)
            forwarding = self._down.forward(self, target, body)
            if not self._over:  # the response may have been given already
                self._forwarding = forwarding
        except Refused as refused:
            self.refuse(refused)
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            self._broken()

    def gone(self, why: str) -> None:
        """The client does not want it any more."""
        if self._over:
            return
        forwarding = self._forwarding
        self._finish()
        self._pending.clear()
        self.source.fail(ConnectionResetError(why))
        if forwarding is not None:
            forwarding.cancel()

    @property
    def waits(self) -> bool:
        """Whether it is the client that its response waits for. (A stream of gRPC may be silent for long.)"""
        stream = self.stream
        return not stream.request_over and not stream.response_begun and not is_grpc(stream.head.lower)

    def too_late(self) -> None:
        """The client has let its response wait for too long."""
        late = Refused(408, "the rest of the request's body did not come", *SILENT)
        self.source.fail(TimeoutError(late.why))
        self.refuse(late)

    def _broken(self) -> None:
        """A bug, before the request was anybody's who would say so."""
        log.exception(BROKEN)
        if self._over or self._ended:  # it has its response
            return
        if self.stream.response_begun:
            self.cut()
        else:
            self.refuse(Refused(500, BROKEN))

    def refuse(self, refused: Refused) -> None:
        """A request that goes no further."""
        forwarding, self._forwarding = self._forwarding, None
        head = self.stream.head
        asked = Asked(head.method, head.target, head.authority, head.lines, head.lower, "HTTP/2")
        self._down.refused(refused, asked if forwarding is None else None)
        if forwarding is not None:
            forwarding.cancel(refused)
        outcome = replies.reply(refused.status)
        if is_grpc(self.stream.head.lower):
            outcome = grpc.local_reply(outcome)
        self.respond(outcome.status, b"", outcome.headers, b"", None)

    # -- Responder --------------------------------------------------------------------------------------------------------

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """A response that is all here."""
        bodiless = self._bodiless or status in _BODILESS
        end = bodiless or not (whole or trailers)
        self._down.session.respond(self.stream, response_head(status, headers), end)
        if end:
            self._finish()
            return
        if whole:
            sent = self._down.session.send(self.stream, whole, False) if trailers else 0
            if trailers and sent == len(whole):  # nearly all of gRPC
                self._down.session.trailers(self.stream, fields(trailers))
                self._finish()
                return
            self._pending.append(whole[sent:])
            self._waiting = len(whole) - sent
        self.end(trailers)

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """The head of a response whose body follows."""
        self._bodiless = self._bodiless or status in _BODILESS
        self._down.session.respond(self.stream, response_head(status, headers), False)
        self._down.flush_soon()

    def write(self, data: bytes) -> None:
        """Some bytes of the body."""
        if self._bodiless or self._over:
            return
        self._pending.append(data)
        self._waiting += len(data)
        self.pump()
        if self._waiting > AHEAD and self._forwarding is not None:
            self._forwarding.writable(False)
        self._down.flush_soon()

    def end(self, trailers: RawHeaders | None) -> None:
        """The body is over."""
        self._ended = True
        self._trailers = fields(trailers) if trailers else []
        self.pump()
        self._down.flush_soon()

    def pump(self) -> None:
        """Give the session what it takes."""
        session, stream, pending = self._down.session, self.stream, self._pending
        while pending:
            data = pending[0]
            last = self._ended and len(pending) == 1 and not self._trailers
            sent = session.send(stream, data, last)
            if not sent:
                return
            self._waiting -= sent
            if sent < len(data):
                pending[0] = data[sent:]
                continue
            pending.popleft()
            if last:
                self._finish()
                return
        if self._ended:
            if not self._over:
                session.trailers(stream, self._trailers)
                self._finish()
            return
        if self._forwarding is not None:
            self._forwarding.writable(True)
        self._wake()

    def cut(self) -> None:
        """The response cannot be finished: the client must see that."""
        self._pending.clear()
        self._down.session.reset(self.stream, Code.INTERNAL_ERROR)
        self._finish()

    def switch(self, status: int, reason: bytes, headers: Headers, upstream: AsyncSwitched) -> None:
        """Of a request that asked for nothing of the kind."""
        upstream.abort()
        self.cut()

    @property
    def writable(self) -> bool:
        """Whether the client takes what is written."""
        return self._waiting <= AHEAD

    async def drained(self) -> None:
        """Until it does."""
        while self._waiting and not self._over:
            if self._drained is None:
                self._drained = self._down.loop.create_future()
            await asyncio.shield(self._drained)

    def _wake(self) -> None:
        waiting, self._drained = self._drained, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _finish(self) -> None:
        self._over = True
        self.stream.owner = None  # they refer to each other, and the session says nothing more of it
        self._forwarding = None
        self._wake()
        self._down.over(self)
