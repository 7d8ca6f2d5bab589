"""One connection of a client that speaks HTTP/1.1 to the proxy: its requests, one after another, and their responses.

Callbacks only: a task is there while a request needs one (``forwarding.py``). What a client has sent ahead of its turn waits,
up to ``PIPELINED`` bytes; its turn comes when it has taken enough of the responses before.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.policy.header_ops import Headers, RawHeaders
from meshlib.proxy.client_body import Source
from meshlib.proxy.closing import Leaving
from meshlib.proxy.connect_request import ConnectRequest
from meshlib.proxy.destination import SEEN, destination, with_host
from meshlib.proxy.refusals import BROKEN, NOTHING, SILENT, Asked
from meshlib.proxy.request import UPGRADE, ProxyRequest
from meshlib.proxy.responder import Straight
from meshlib.proxy.slow_clients import Wait, leaves
from meshlib.proxy.tunnel import Leaves, Tunnel
from meshlib.serving.joined_writes import JoinedWrites
from meshlib.transport.protocol.http1_request import Refused, RequestHead, RequestReader
from meshlib.transport.protocol.http1_response import (
    BODILESS,
    CLOSE_AND_END,
    LAST_CHUNK,
    OK,
    OK_LINE,
    ResponseHead,
    chunk,
    closing,
    keeping,
    response_head,
    status_line,
)
from meshlib.transport.protocol.received_head import ReceivedHead
from meshlib.transport.protocol.request_body import DuplexBody
from meshlib.transport.protocol.request_target import KEPT
from meshlib.transport.protocol.special_lines import SpecialLines

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.proxy.connect_tunnel import ConnectTunnel
    from meshlib.proxy.responder import Port, UnderWay
    from meshlib.transport.upstream.switched import AsyncSwitched

log = logging.getLogger("meshlib.proxy")

SMALL_BODY = 65536
"""Bytes of a request's body that are waited for no longer than they have come already: such requests need no task."""

PIPELINED = 64 * 1024
"""Bytes that a client may send ahead of its turn, and of a body that nobody has taken yet, before it is read no longer."""

_CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ID = b"x-request-id:"
_PROTO = b"x-forwarded-proto:"
_LINE_END = b"\r\n"


class Http1Downstream(asyncio.Protocol, Straight):
    """A connection of ``listener``."""

    __slots__ = (
        "_busy",
        "_close",
        "_drained",
        "_forwarder",
        "_forwarding",
        "_head",
        "_joins",
        "_listener",
        "_makes",
        "_paused",
        "_reader",
        "_source",
        "_to_head",
        "_tunnel",
        "_turn",
        "transport",
        "writable",
    )

    def __init__(self, listener: Port, makes: type[ProxyRequest] = ProxyRequest) -> None:
        """``makes``: what its requests are."""
        self._listener = listener
        self._makes = makes
        self._forwarder = listener.forwarder
        self._reader = RequestReader()
        self.transport: Any = None
        self._joins = False  # what is written in one turn of the loop: else the transport does that itself
        self._busy = False  # with a request
        self._close = False  # after its response
        self._to_head = False  # it is one for the head only
        self._head: ResponseHead | None = None  # of a response whose body is on its way
        self._source: Source | None = None  # of a body that is still coming
        self._forwarding: UnderWay | None = None
        self._paused = False
        self.writable = True
        self._drained: asyncio.Future[None] | None = None
        self._tunnel: Leaves | None = None
        self._turn = 0  # requests and pieces of bodies that have come

    # -- asyncio's callbacks --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if type(transport) is not JoinedWrites:  # over TLS it is
            self._joins = True
            transport = JoinedWrites(transport, self._forwarder.turn)  # type: ignore[arg-type]
        self.transport = transport
        self._listener.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.received(data)
            return
        reader = self._reader
        rest = reader.rest
        reader.rest = rest + data if rest else data  # its ``feed``
        if not self._busy:
            if self.writable:  # else what it has asked for before comes first
                self._next()
        elif self._source is not None:
            self._more()
        if reader.rest and reader.waiting > PIPELINED and (self._busy or not self.writable) and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if type(self.transport) is JoinedWrites:
            self.transport.flush()
        # as in Envoy, a client of HTTP that sends no more wants no more either
        return self._tunnel is not None and self._tunnel.ended()

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.closed(self)
        if type(self.transport) is JoinedWrites:
            self.transport.drop()
        if self._tunnel is not None:
            self._tunnel.lost()
        forwarding, self._forwarding = self._forwarding, None
        self._busy = False
        self._close = True
        if forwarding is not None:
            forwarding.cancel()
        source, self._source = self._source, None  # which refers to this
        if source is not None:
            source.fail(ConnectionResetError("the client has gone"))
        self.writable = True  # nobody need wait for it
        self._wake()
        self._reader.over()

    def pause_writing(self) -> None:
        self.writable = False
        if self._forwarding is not None:
            self._forwarding.client_takes(False)
        if self._tunnel is not None:
            self._tunnel.writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self._forwarding is not None:
            self._forwarding.client_takes(True)
        if self._tunnel is not None:
            self._tunnel.writable(True)
        elif not self._busy and not self.transport.is_closing():
            self._go_further()
        self._wake()

    # -- requests -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The response that is on its way is the last one; without one the connection closes now."""
        self._close = True
        if not self._busy and self._tunnel is None:
            self.transport.close()

    def waits(self) -> tuple[Wait, int] | None:
        """What the client is waited for, and how far it is (``slow_clients.py``)."""
        if self.transport.is_closing():
            return leaves(self.transport)
        if self._tunnel is not None:
            return None
        if not self._busy:
            return (Wait.HEAD if self._reader.waiting and self.writable else Wait.NEXT), self._turn
        if self._source is not None and self._head is None and not self._paused:
            return Wait.BODY, self._turn
        return None

    def give_up(self, wait: Wait) -> None:
        """It has been waited for too long."""
        if wait is Wait.NEXT or wait is Wait.LEAVE:
            (self.transport.close if wait is Wait.NEXT else self.transport.abort)()
            return
        late = Refused(408, f"{wait.value} did not come in time", *(SILENT if wait is Wait.BODY else ()))
        source, self._source = self._source, None
        if source is not None:
            source.fail(late)
        self._refuse(late)

    def _next(self) -> None:
        """The next request, if it has come."""
        head: RequestHead | None = None
        forwarding: UnderWay | None
        try:
            head = self._reader.head()
            if head is None:
                return
            self._busy = True
            if type(head) is RequestHead:  # nearly always: it asks for nothing but its response
                self._turn += 1
                self._to_head = head.method == b"HEAD"
                forwarding = self._forwarder.forward(self._request_of(head), self)
                if self._busy:
                    self._forwarding = forwarding
                return
            connects = self._listener.tunnels if head.method == b"CONNECT" else None
            request = self._request_of(head) if connects is None else ConnectRequest.of(head)
            self._turn += 1
            self._to_head = head.method == b"HEAD"
            if connects is not None and isinstance(request, ConnectRequest):
                self._close = True  # what follows may be no HTTP, even where it has come to nothing
                forwarding = connects.connect(request, self)
            else:
                self._close = self._close or head.close or bool(head.upgrade)  # what follows an upgrade is no HTTP
                forwarding = self._forwarder.forward(request, self)
            if self._busy:  # the response may have been sent already
                self._forwarding = forwarding
        except Refused as refused:
            self._refuse(refused, head)
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            self._broken(head)

    def _request_of(self, head: RequestHead) -> ProxyRequest:
        """Raises ``Refused``."""
        authority, target, lines, lower, special = head.host, head.target, head.lines, head.lower, head.special
        body, grpc = None, None
        if (
            type(head) is RequestHead
            and type(special) is SpecialLines
            and authority in SEEN
            and target[:1] == b"/"
            and not target.translate(None, KEPT)
            and target.find(b"/.") < 0
            and target.find(b"//") < 0
        ):  # nearly always: as ``destination``
            grpc = special.grpc
        else:
            authority, target = destination(head, self._mesh.path_normalization)
            if authority != head.host:
                lines = with_host(lines, lower, authority)
                lower = b"\r\n" + lines.lower()
            if type(head) is not RequestHead:
                if head.upgrade:
                    upgrade = b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade
                    lines += upgrade
                    lower += upgrade
                    special = [*special, UPGRADE]
                if head.length != 0:
                    body = self._body_of(head)
        proto = self._listener.proto
        if proto:  # else whoever serves it says that, and which request it is
            more = b"" if _PROTO in special else proto
            if _ID not in special and self._mesh.proxy_headers.request_id:
                more = b"x-request-id: %b\r\n%b" % (self._listener.ids.take(), more)
            if more:
                lines += more
                lower += more
        return self._makes(head.method, authority, target, lines, lower, body, "http", special, grpc)

    @property
    def _mesh(self) -> MeshSettings:
        live = self._forwarder.core.live
        return DEFAULTS if live is None else live.snapshot.inbound.default.mesh

    def _body_of(self, head: RequestHead) -> bytes | DuplexBody:
        """All of it where it has come with its head. Raises ``Refused``."""
        reader = self._reader
        come = reader.body()
        if reader.ended and len(come) <= SMALL_BODY:
            return come
        self._source = source = Source(self._took, wanted=self._wanted if head.expects_continue and not come else None)
        source.put(come)
        if reader.ended:
            source.end()
            self._source = None
        return DuplexBody(source)

    def _more(self) -> None:
        """More of a body has come."""
        source, reader = self._source, self._reader
        assert source is not None
        self._turn += 1
        try:
            come = reader.body()
        except Refused as refused:
            source.fail(refused)
            self._source = None
            self._refuse(refused)
            return
        source.put(come)
        if reader.ended:
            self._source = None
            source.end()
        elif source.size > PIPELINED and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _wanted(self) -> None:
        """Somebody wants the body that the client holds back until it is told to send it."""
        if self._busy and self._head is None and not self.transport.is_closing():
            self.transport.write(_CONTINUE)

    def _took(self, source: Source, _size: int) -> None:
        """A body's reader has taken some."""
        if self._paused and source.size <= PIPELINED // 2 and self._reader.waiting <= PIPELINED:
            self._paused = False
            self.transport.resume_reading()

    def _broken(self, head: RequestHead | None) -> None:
        """A bug, before the request was anybody's who would say so."""
        log.exception(BROKEN)
        if not self._busy or self.transport.is_closing():  # it has its response
            if type(self.transport) is JoinedWrites:
                self.transport.flush()
            self.transport.abort()
            return
        self._refuse(Refused(500, BROKEN), head)

    def _refuse(self, refused: Refused, head: RequestHead | None = None) -> None:
        """The last that is said on this connection. ``head``: of the request, where it could be read."""
        forwarding, self._forwarding = self._forwarding, None
        asked = NOTHING if head is None else Asked(head.method, head.target, head.host, head.lines, head.lower)
        self._listener.refused(refused, self.transport, asked if forwarding is None else None)
        if forwarding is not None:
            forwarding.cancel(refused)
        if self._head is not None:  # in the middle of a response
            self.transport.abort()
            return
        self._busy = True
        made = response_head(refused.status, b"", [(b"content-length", b"0")], False, 0)
        self.transport.write(closing(made))
        self._close_gently()

    # -- Responder ------------------------------------------------------------------------------------------------------

    def pass_on(self, status: int, reason: bytes, head: ReceivedHead, more: bytes, whole: bytes) -> None:
        """As ``respond``, for nearly all responses: without what is made on the way (row "proxy-inprocess")."""
        reader = self._reader
        if (
            not head.shape.sized
            or self._to_head
            or status in BODILESS
            or self._close
            or not reader.ended
            or self._listener.draining
        ):
            self.respond(status, reason, head.with_lines(more) if more else head, whole, None)
            return
        line = OK_LINE if status == OK and reason == b"OK" else status_line(status, reason)
        self.transport.write(b"".join((line, head._passed or head.passed, more, _LINE_END, whole)))
        self._forwarding = None
        self._busy = False
        if reader.rest or self._paused or not self.writable:
            self._go_further()

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """A response that is all here. (HTTP/1.1's trailers are dropped, as in Envoy.)"""
        if type(headers) is ReceivedHead and headers.sized and status not in BODILESS and not self._to_head:
            # nearly all; as below, but for what is made on the way (rows "proxy-inprocess", "proxy-inbound-inprocess")
            close = CLOSE_AND_END if self._closes() else _LINE_END
            self.transport.write(b"".join((status_line(status, reason), headers.passed, close, whole)))
            self._over()
            return
        head = response_head(status, reason, headers, self._to_head, len(whole))
        start = self._start_of(head)
        if head.bodiless:
            self.transport.write(start)
        elif head.chunked:
            self.transport.write(start + (chunk(whole) if whole else b"") + LAST_CHUNK)
        else:
            self.transport.write(start + whole)
        self._over()

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """The head of a response whose body follows."""
        self._head = head = response_head(status, reason, headers, self._to_head, None)
        self.transport.write(self._start_of(head))

    def write(self, data: bytes) -> None:
        """Some bytes of the body."""
        head = self._head
        assert head is not None
        if not head.bodiless:
            self.transport.write(chunk(data) if head.chunked else data)

    def end(self, trailers: RawHeaders | None) -> None:
        """The body is over."""
        head, self._head = self._head, None
        if head is not None and head.chunked:
            self.transport.write(LAST_CHUNK)
        self._over()

    def cut(self) -> None:
        """The response cannot be finished: without its end the client sees that."""
        self._forwarding = None
        self._busy = False
        self.transport.abort()

    def switch(self, status: int, reason: bytes, headers: Headers, upstream: AsyncSwitched) -> None:
        """101: bytes go both ways from here on."""
        self._forwarding = None
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines))
        self._leave(Tunnel(self._forwarder.loop, self._bare(), upstream))

    def connected(self, tunnel: ConnectTunnel) -> None:
        """200 to CONNECT: bytes go both ways from here on."""
        self._forwarding = None
        self.transport.write(_CONNECTED)
        tunnel.join(self._bare())
        self._leave(tunnel)

    def _bare(self) -> Any:
        """The transport, which has bytes of its own to send from here on: what was joined for HTTP goes out."""
        transport = self.transport
        if self._joins and type(transport) is JoinedWrites:
            self.transport = transport = transport.own()
        return transport

    def _leave(self, tunnel: Leaves) -> None:
        """No HTTP any more: what has come ahead is the first of the rest."""
        self._tunnel = tunnel
        if not self.writable:
            tunnel.writable(False)
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        ahead = self._reader.all()
        if ahead:
            tunnel.received(ahead)

    async def drained(self) -> None:
        """Until the client takes more."""
        while not self.writable:  # also one that sends no more, and whose transport waits to close
            if self._drained is None:
                self._drained = self._forwarder.loop.create_future()
            await asyncio.shield(self._drained)

    def _wake(self) -> None:
        waiting, self._drained = self._drained, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _closes(self) -> bool:
        """Whether the response is the last one."""
        # the client may have more to say of this request, which nobody will hear
        if self._listener.draining or not self._reader.ended:
            self._close = True
        return self._close

    def _start_of(self, head: ResponseHead) -> bytes:
        return closing(head) if self._closes() else keeping(head)

    def _over(self) -> None:
        """The response has been written."""
        self._forwarding = None
        self._busy = False
        reader = self._reader
        if self._close or not reader.ended:
            self._busy = True  # nothing more is read
            if not reader.ended or reader.waiting or self._listener.draining:
                self._close_gently()  # it may be sending
            else:
                self.transport.close()
            return
        self._go_further()

    def _close_gently(self) -> None:
        self.transport = Leaving(self.transport, self, self._forwarder.loop)

    def _go_further(self) -> None:
        """To the next request: not while the client leaves responses unread, which would be kept for it without bound."""
        if not self.writable:
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._reader.waiting:
            # not now: this may be below the callback that has brought the request
            self._forwarder.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._busy and self.writable and self._tunnel is None and not self.transport.is_closing():
            self._next()
