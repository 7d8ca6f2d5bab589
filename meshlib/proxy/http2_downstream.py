"""One connection of a client that speaks HTTP/2 to the proxy: its requests, any number at a time, and their responses.

What a batch of reads brings is begun when all of it has been read, and what is said in one turn of the loop is one write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from meshlib.engine.exchange import exchange_of
from meshlib.policy.request_ids import LENGTH
from meshlib.proxy.closing import Leaving
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.forwarded_path import KEEP_SLASHES, forwarded_path
from meshlib.proxy.http2_call import Http2Call
from meshlib.proxy.http2_forwarding import Http2Forwarding
from meshlib.proxy.http2_request import Http2Request
from meshlib.proxy.planned_request import planned
from meshlib.proxy.refusals import MALFORMED
from meshlib.proxy.slow_clients import Wait, leaves
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.http2_response import fields, response_head
from meshlib.transport.protocol.http2_server import ServerSession
from meshlib.transport.protocol.http2_server_limits import UNWRITTEN
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.engine.live import Live
    from meshlib.policy.path_spellings import Normalization
    from meshlib.policy.refusal import Refusal
    from meshlib.policy.sidecar_headers import ProxyHeaders
    from meshlib.proxy.client_body import ClientBody, Source
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Port, UnderWay
    from meshlib.transport.protocol.http2_codec import Head

BACKLOG_MOST = 4 * 1024 * 1024
"""Bytes that a client leaves unread before it counts as hostile: no body is written to a socket that is full, so that they are
words of the protocol only."""

ACKNOWLEDGED_IN = 1.0
"""Seconds that a client has to see that the connection is to close; then streams are no longer taken."""

_ID = b"x-request-id:"
_ID_NAME = len(b"x-request-id")
_PROTO = b"x-forwarded-proto:"
_PROTO_VALUE = len("x-forwarded-proto: ")
_CONTINUE = response_head(100, [])


class Http2Downstream(asyncio.Protocol):
    """A connection of ``listener``, and the ``Sink`` of its session."""

    __slots__ = (
        "_behind",
        "_flushing",
        "_forwarder",
        "_headers",
        "_listener",
        "_live",
        "_new",
        "_normalization",
        "_numbers",
        "_progress",
        "_proto",
        "_proto_size",
        "_settings",
        "_slashes",
        "_tells",
        "_usual",
        "_usual_size",
        "loop",
        "session",
        "transport",
    )

    def __init__(self, listener: Port) -> None:
        self._listener = listener
        self._forwarder = forwarder = listener.forwarder
        self.loop = loop = forwarder.loop
        self.session = ServerSession(self, loop.time(), streams=Http2Call)
        self.transport: Any = None
        self._proto = (b"x-forwarded-proto", listener.proto[_PROTO_VALUE:-2])
        self._tells = bool(listener.proto)
        self._proto_size = sum(map(len, self._proto))
        self._usual_size = LENGTH + _ID_NAME + self._proto_size
        self._new: list[Http2Call] = []  # whose heads came in this batch of reads
        # by which the five below are; not the configuration, which an idle connection would keep after a reload
        self._settings: MeshSettings | None = None
        self._normalization: Normalization = "BASE"
        self._slashes = True  # that leaves them as they are
        self._numbers = True  # requests that have none get an x-request-id
        self._headers: ProxyHeaders | None = None
        self._usual: Forwarder | None = None  # where requests need no look at the settings
        self._live: Live | None = None  # by which the requests of this batch are forwarded, where that is so
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
        session = self.session
        # as ``over`` alone, which is a function and cannot be while there are streams
        if (session.broken is not None or not session.streams) and session.over:
            return
        self._flushing = True
        self._progress += 1
        behind = session.receive(data, self.loop.time())
        if behind != self._behind:
            self._behind = behind
            if behind:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if behind:
            self.loop.call_soon(self._catch_up)
        new = self._new
        if new:
            core = self._forwarder.core
            live = core.live
            if live is not None:
                settings = live.snapshot.inbound.default.mesh
                if settings is not self._settings:
                    self._read_settings(settings)
                if self._usual is not None and core.exchange_of is exchange_of:
                    self._live = live
            self._new = []
            for call in new:
                call.begin_request()
            self._live = None
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
        more = session._unwritten >= UNWRITTEN  # as ``holds_back``, without a call of it
        out = session.outgoing()
        if out:
            transport.write(out)
        if more:
            self.loop.call_soon(self._go_on)
        if (session.broken is not None or not session.streams) and session.over:  # as in ``data_received``
            if session.broken:
                self._listener.broken(session.broken, session.bug, transport, session.flood)
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
        if not self.session.streams:
            begun = self.session.begun  # no byte of it is progress before it has come whole
            return (Wait.NEXT, self._progress) if begun is None else (Wait.HEAD, begun)
        return (Wait.BODY, self._progress) if self._waiting() else None

    def _waiting(self) -> list[Http2Call]:
        """The calls whose client is waited for."""
        calls: Any = self.session.streams.values()
        return [call for call in calls if call.waits]

    def give_up(self, wait: Wait) -> None:
        """It is not waited for any longer."""
        if wait is Wait.BODY:
            for call in self._waiting():
                call.too_late()
            self._flush()
        elif wait is Wait.LEAVE:
            self.transport.abort()
        else:
            self.drain()

    def took(self, source: Source, size: int) -> None:
        """So much of the body of a stream has been taken."""
        assert source.stream is not None
        self.session.consumed(source.stream, size)
        self.flush_soon()

    # -- Sink -----------------------------------------------------------------------------------------------------------

    def on_request(self, call: Http2Call) -> None:
        """The session's."""
        call._down = self
        head = call.head
        if call.request_over:
            call._has_body = False
        if head.method == b"HEAD":
            call._bodiless = True
        if head.refused is not None:
            call.refuse(_refused(head.refused))
            return
        self._new.append(call)
        if head.expects_continue and not call.request_over:
            self.session.interim(call, _CONTINUE)

    def on_whole(self, call: Http2Call, data: bytes) -> None:
        """The session's."""
        call._down = self
        call._whole = data
        head = call.head
        if head.method == b"HEAD":
            call._bodiless = True
        if head.refused is not None:
            call.refuse(_refused(head.refused))
        else:
            self._new.append(call)

    def on_malformed(self) -> None:
        """The session's."""
        self._listener.refused(
            Refused(0, "its head is none", "http2.violation.of.messaging.rule", "DPE"), self.transport, MALFORMED
        )

    def on_body(self, call: Http2Call, data: bytes) -> None:
        """The session's."""
        call.body(data)

    def on_trailers(self, call: Http2Call, trailers: Head) -> None:
        """The session's."""
        call.source().trailers = fields(list(trailers))

    def on_end(self, call: Http2Call) -> None:
        """The session's."""
        call.no_more()

    def on_reset(self, call: Http2Call, why: str) -> None:
        """The session's."""
        call.gone(why)

    def on_room(self, call: Http2Call) -> None:
        """The session's."""
        call.pump()
        self.flush_soon()

    # -- requests -------------------------------------------------------------------------------------------------------

    def _read_settings(self, settings: MeshSettings) -> None:
        """They are others than for the requests before. Raises nothing."""
        self._settings = settings
        self._normalization = settings.path_normalization
        self._slashes = self._normalization in KEEP_SLASHES
        self._headers = headers = settings.proxy_headers
        self._numbers = headers.request_id
        forwarder = self._forwarder
        usual = (
            type(forwarder) is Forwarder and self._tells and self._numbers and self._slashes and headers.attempt_count
        )
        self._usual = forwarder if usual and not PLAIN else None  # type: ignore[assignment]

    def refused(self, refused: Refused, asked: Asked | None) -> None:
        """A request goes no further."""
        self._listener.refused(refused, self.transport, asked)

    def forward(self, call: Http2Call, body: bytes | ClientBody | None) -> UnderWay | None:
        """Begin what the client has asked for, with the settings that were read last. Raises ``Refused``."""
        added: tuple[tuple[bytes, bytes], ...]
        head = call.head
        target, plan = head.target, head.plan
        live = self._live
        if live is not None and head.kept and plan.usual:  # type: ignore[union-attr]  # (a target is, where there is a plan)
            # nearly all: as below, and as ``Forwarder.forward``, without a look at what the settings and the plan say
            ids = self._listener.ids
            number = ids.left.pop() if ids.left else ids.take()
            added = (b"x-request-id", number), self._proto
            asked = planned(head, plan, target, added, self._usual_size, body)  # type: ignore[arg-type]
            calls = self._usual.http2_spares  # type: ignore[union-attr]
            forwarding = calls.pop() if calls else Http2Forwarding(self._usual, calls, asked, live)  # type: ignore[arg-type]
            return forwarding.begin(asked, live, call, self._headers)  # type: ignore[arg-type]
        special = head.special
        if target == b"*":
            raise Refused(404, "no route takes OPTIONS *")
        if not (head.kept and self._slashes):
            target = forwarded_path(target, self._normalization)
        added = ()
        size = 0
        if self._tells:  # else whoever serves it says that, and which request it is
            has_proto = _PROTO in special
            if self._numbers and _ID not in special:
                number = self._listener.ids.take()
                size = len(number) + _ID_NAME
                if has_proto:
                    added = ((b"x-request-id", number),)
                else:  # nearly all
                    added = (b"x-request-id", number), self._proto
                    size += self._proto_size
            elif not has_proto:
                added = (self._proto,)
                size = self._proto_size
        request: ProxyRequest
        if plan is not None:
            request = planned(head, plan, target, added, size, body)
        else:
            more = b"".join([b"%b: %b\r\n" % pair for pair in added])
            lines = head.lines + more
            request = Http2Request(
                *(head.method, head.authority, target, [*head.fields, *added], lines),
                *(b"\r\n" + lines.lower(), body, special, head.grpc),
            )
        return self._forwarder.forward(request, call)


def _refused(why: Refusal) -> Refused:
    """Of a head that goes no further."""
    return Refused(why.status, why.detail, why.detail, why.flag)
