"""One request that came over HTTP/2 and, as its ``Responder``, the response."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from meshlib.engine import replies
from meshlib.engine.shared_keys import share_keys
from meshlib.proxy import grpc
from meshlib.proxy.client_body import ClientBody, Source
from meshlib.proxy.refusals import BROKEN, SILENT, Asked
from meshlib.proxy.request import is_grpc
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.http2_response import fields, response_head
from meshlib.transport.protocol.http2_server_stream import ServerStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.proxy.responder import UnderWay
    from meshlib.transport.protocol.http2_codec import Head
    from meshlib.transport.protocol.http2_request import RequestHead
    from meshlib.transport.protocol.http2_server import ServerSession
    from meshlib.transport.upstream.switched import AsyncSwitched

log = logging.getLogger("meshlib.proxy")

SMALL_BODY = 65536
"""Bytes of a request's body that are handed on whole when they have come with its head."""

AHEAD = 64 * 1024
"""Bytes of a response that wait for the client until its upstream is no longer read."""

_BODILESS = (204, 304)


class Carries(Protocol):
    """The connection that it came by."""

    loop: asyncio.AbstractEventLoop
    session: ServerSession
    _flushing: bool
    """``flush_soon`` has been said."""

    def forward(self, call: Http2Call, body: bytes | ClientBody | None, /) -> UnderWay | None: ...
    def took(self, source: Source, size: int, /) -> None: ...
    def refused(self, refused: Refused, asked: Asked | None, /) -> None: ...
    def flush_soon(self) -> None: ...


@share_keys
class Http2Call(ServerStream):
    """One request and, as its ``Responder``, the response."""

    # No slots: what most calls keep as it is and do not ask for stands here, and costs them nothing (row
    # "proxy-grpc-inprocess"). What each asks for is its own: CPython 3.11 takes ten times as long to find it here.
    _source: Source | None = None
    """Of its body, once that comes in more pieces than one, or later."""
    _forwarding: UnderWay | None = None
    _pending: deque[bytes] | None = None
    """Of the response's body, once some waits."""
    _waiting = 0
    """Bytes of that."""
    _ended = False
    """All of the response's body has been given here."""
    _trailers: Sequence[tuple[bytes, bytes]] = ()
    _over = False
    _drained: asyncio.Future[None] | None = None
    _bodiless = False
    _has_body = True
    """A request that ends with its head is sent on as one, and no other is: a stream of grpc-go's servers that does waits for
    ever for its first message."""

    _first = b""
    """A piece of its body, before there is a source."""

    _whole: bytes | None = None
    """All of its body, where that has come with its head, and waits in no window."""
    _down: Carries

    def __init__(self, number: int, head: RequestHead, request_over: bool, began: float) -> None:
        # as ``ServerStream``, without its function
        self.id = number
        self.head = head
        self.request_over = request_over
        self.began = began
        self.response_begun = self._over = self._bodiless = False
        self.unread = 0
        self._whole = None

    # -- the request ------------------------------------------------------------------------------------------------------

    def begin_request(self) -> None:
        """All that came with the head is here."""
        if self._over:
            return  # the client has reset it already
        down = self._down
        try:
            body: bytes | ClientBody | None = self._whole  # nearly all of gRPC
            if body is not None:
                self._whole = None
            elif self._has_body:
                first = self._first
                if first and self.request_over and len(first) <= SMALL_BODY:
                    body = first
                    self._first = b""
                    down.session.consumed(self, len(first))
                else:
                    source = self.source()
                    if self.request_over and 0 < source.size <= SMALL_BODY and not source.trailers:
                        body = source.all()
                    else:
                        body = ClientBody(source)
            forwarding = down.forward(self, body)
            if not self._over:  # the response may have been given already
                self._forwarding = forwarding
        except Refused as refused:
            self.refuse(refused)
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            self._broken()

    def source(self) -> Source:
        """The pieces of its body."""
        source = self._source
        if source is None:
            source = self._source = Source(self._down.took, self)
            source.put(self._first)
            self._first = b""
            if self.request_over:
                source.end()
        return source

    def body(self, data: bytes) -> None:
        """A piece of it has come."""
        if self._source is not None:
            self._source.put(data)
        elif self._first:
            self.source().put(data)
        else:
            self._first = data

    def no_more(self) -> None:
        """That was all of its body."""
        if self._source is not None:
            self._source.end()

    def gone(self, why: str) -> None:
        """The client does not want it any more."""
        if self._over:
            return
        forwarding, source = self._forwarding, self._source
        self._finish()
        self._pending = None
        if source is not None:
            source.fail(ConnectionResetError(why))
        if forwarding is not None:
            forwarding.cancel()

    @property
    def waits(self) -> bool:
        """Whether it is the client that its response waits for. (A stream of gRPC may be silent for long.)"""
        return not (self._over or self.request_over or self.response_begun or self._is_grpc())

    def _is_grpc(self) -> bool:
        head = self.head  # which makes its lines anew for each who asks
        return is_grpc(head.lower) if head.grpc is None else head.grpc

    def too_late(self) -> None:
        """The client has let its response wait for too long."""
        late = Refused(408, "the rest of the request's body did not come", *SILENT)
        self.source().fail(TimeoutError(late.why))
        self.refuse(late)

    def _broken(self) -> None:
        """A bug, before the request was anybody's who would say so."""
        log.exception(BROKEN)
        if self._over or self._ended:  # it has its response
            return
        if self.response_begun:
            self.cut()
        else:
            self.refuse(Refused(500, BROKEN))

    def refuse(self, refused: Refused) -> None:
        """A request that goes no further."""
        forwarding, self._forwarding = self._forwarding, None
        head = self.head
        asked = Asked(head.method, head.target, head.authority, head.lines, head.lower, "HTTP/2")
        self._down.refused(refused, asked if forwarding is None else None)
        if forwarding is not None:
            forwarding.cancel(refused)
        outcome = replies.reply(refused.status)
        if self._is_grpc():
            outcome = grpc.local_reply(outcome)
        self.respond(outcome.status, b"", outcome.headers, b"", None)

    # -- Responder --------------------------------------------------------------------------------------------------------

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """A response that is all here."""
        if status in _BODILESS:
            self._bodiless = True
        self.respond_written(response_head(status, headers), whole, fields(trailers) if trailers else [])

    def respond_written(self, head: Head, whole: bytes, trailers: RawHeaders) -> None:
        """A response with a body that is all here, as HTTP/2 writes it (``http2_response.py``)."""
        down = self._down
        session = down.session
        if whole and not self._bodiless and session.respond_whole(self, head, whole, trailers):
            # as ``_finish``: nobody waits for what was written at once
            self._over = True
            self._forwarding = self._source = None
            if not down._flushing:
                down.flush_soon()
            return
        self._forwarding = None  # whoever that was is done, and may be forwarding another call by now
        end = self._bodiless or not (whole or trailers)
        session.respond(self, head, end)
        if end:
            self._finish()
            return
        if whole:
            self._pending = deque((whole,))
            self._waiting = len(whole)
        self._last(trailers)

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """The head of a response whose body follows."""
        self._bodiless = self._bodiless or status in _BODILESS
        self._down.session.respond(self, response_head(status, headers), False)
        self._down.flush_soon()

    def write(self, data: bytes) -> None:
        """Some bytes of the body."""
        if self._bodiless or self._over:
            return
        if self._pending is None:
            self._pending = deque()
        self._pending.append(data)
        self._waiting += len(data)
        self.pump()
        if self._waiting > AHEAD and self._forwarding is not None:
            self._forwarding.client_takes(False)
        self._down.flush_soon()

    def end(self, trailers: RawHeaders | None) -> None:
        """The body is over."""
        self._last(fields(trailers) if trailers else [])

    def _last(self, trailers: RawHeaders) -> None:
        self._ended = True
        self._trailers = trailers
        self.pump()
        self._down.flush_soon()

    def pump(self) -> None:
        """Give the session what it takes."""
        session, pending = self._down.session, self._pending
        while pending:
            data = pending[0]
            last = self._ended and len(pending) == 1 and not self._trailers
            sent = session.send(self, data, last)
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
                session.trailers(self, self._trailers)
                self._finish()
            return
        if self._forwarding is not None:
            self._forwarding.client_takes(True)
        self._wake()

    def cut(self) -> None:
        """The response cannot be finished: the client must see that."""
        self._pending = None
        self._down.session.reset(self, Code.INTERNAL_ERROR)
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
        self._forwarding = self._source = None  # they refer to each other
        if self._drained is not None:
            self._wake()
        down = self._down
        if not down._flushing:
            down.flush_soon()
