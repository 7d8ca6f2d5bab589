"""Nearly all requests that came over HTTP/2 and go on over it: a plain call (``engine/plain_call.py``) on a stream of a
connection that is there, whose response comes in one piece and goes on in one step, as nearly all of gRPC do. What it needs is
made once and used again, as ``plain_forwarding.py`` has it for HTTP/1.1; as soon as anything else is asked for, before the
attempt or after it, a ``Forwarding`` goes on with the call (row "proxy-grpc-inprocess"). With ``MESHLIB_PLAIN=1`` it has all.
"""

from __future__ import annotations

import logging
from math import trunc
from typing import TYPE_CHECKING

from meshlib.engine import plain_call
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.effects import Send
from meshlib.engine.explanation import Exchange
from meshlib.engine.message_size import FRAME, size_in
from meshlib.engine.outcome import Outcome
from meshlib.proxy import grpc
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.http2_attempt import SMALL_BODY, Http2Attempt, head_for
from meshlib.proxy.plain_forwarding import MOST_SPARES
from meshlib.proxy.sent_headers import untimed
from meshlib.transport.protocol.http2_response import fields, written_head
from meshlib.transport.protocol.received_head import SERVICE_TIME
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.http2_call import HTTP2
from meshlib.transport.upstream.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.live import Live
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.policy.sidecar_headers import ProxyHeaders
    from meshlib.proxy.http2_call import Http2Call
    from meshlib.proxy.means import Means
    from meshlib.proxy.request import ProxyRequest
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.protocol.http2_stream import Stream
    from meshlib.transport.upstream.attempt import Attempt
    from meshlib.transport.upstream.http2_loop_connection import Connection

log = logging.getLogger("meshlib.proxy")

_NO_TRAILERS: RawHeaders = []
_took = {ms: (SERVICE_TIME, b"%d" % ms) for ms in range(1024)}.get
"""How long most responses take, as the client is told."""


class Http2Forwarding:
    """One request on its way, and who hears of the stream that it is on. ``begin`` it; once it is over, it may be begun
    again. Not thread-safe: of an event loop."""

    __slots__ = (
        *("_call", "_client", "_debug", "_late", "_means", "_more"),
        *("_monotonic", "_on", "_outcome", "_send", "_spares", "_telemetry", "_upstream", "_wake"),
    )

    def __init__(self, means: Means, spares: list[Http2Forwarding], request: ProxyRequest, live: Live) -> None:
        core = means.core
        self._means = means
        self._spares = spares
        self._telemetry = core.telemetry
        self._call: Call[ProxyRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        self._call.record = Exchange(live.snapshot.passthrough, None, live.snapshot.version)
        # of each request whose outcome is made here: a 200
        self._outcome = outcome = Outcome()
        outcome.status = 200
        outcome.http_version = HTTP2
        outcome.usual = True
        self._send: Send[ProxyRequest] = None  # type: ignore[assignment] # until there is one, which is used again
        self._upstream: Connection = None  # type: ignore[assignment] # while there is no stream
        self._on: Stream | None = None  # of that, as long as nobody else hears of it
        self._client: Http2Call | None = None  # None: it is over
        self._more: Forwarding | None = None  # which goes on with it
        self._debug = False  # whether the client is told how long the upstream has taken
        self._late = False  # whether a deadline is set
        self._monotonic = core.clock.monotonic
        # made once: they refer to each other as long as it may be used again
        self._wake: Callable[[], None] = self._changed

    def begin(
        self,
        request: ProxyRequest,
        live: Live,
        client: Http2Call,
        headers: ProxyHeaders,
    ) -> Http2Forwarding | Forwarding:
        """What this returns cancels it; the response may be on its way already. ``headers``: of the mesh's settings."""
        snapshot, dialled, scheme = live.snapshot, request.dialled, request.scheme
        vhost = snapshot.seen.get((dialled, request.authority, scheme)) or snapshot.virtual_host(
            dialled, scheme, request.authority
        )
        rule = vhost.single
        if rule is None:  # as ``route``
            found = vhost.index.find(request)
            if found >= 0:
                rule = vhost.rules[found]
        call = self._call
        call.request = request
        call.live = live
        record = call.record
        record.virtual_host = vhost
        record.rule_object = rule
        self._client = client
        span, begun = self._telemetry.began(call), None
        try:
            if span is None:
                begun = plain_call.begun(call, self._send)
                if type(begun) is Send and self._sent(begun, request, client, headers.debug):
                    return self._more or self
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            self._send = begun if type(begun) is Send else None  # type: ignore[assignment]
            more = self._handed_over()
            more.broken()
            return more
        self._wake = None  # type: ignore[assignment] # it is not used again
        record.version = snapshot.version
        more = Forwarding(self._means, call, client)
        more.go(span, begun)
        return more

    def _sent(self, send: Send[ProxyRequest], request: ProxyRequest, client: Http2Call, debug: bool) -> bool:
        """Begin the attempt on a stream of a connection that is there. False: nothing has happened, a ``Forwarding`` has to."""
        means, cluster, endpoint = self._means, send.cluster, send.endpoint
        target = cluster.targets.get(endpoint) if cluster.straight and request.scheme == "http" else None
        if type(target) is not Target or target.label != endpoint.key:
            target = find_target(means.core, cluster, endpoint, request, means.settings)
        if not target.http2:
            return False
        body, upstream = request.body, means.upstream
        if not body:
            body = None
        elif type(body) is not bytes or len(body) > SMALL_BODY:
            return False
        http2, scheme = upstream._http2, target.scheme  # as its property, without a call of it
        head = request.http2_head(1, scheme) or head_for(request, 1, scheme)
        if http2 is None or head is None or upstream.closed:
            return False
        # the client's stream knows whether it asks for a head only
        opened = http2.stream(target, head, body, client._bodiless, self._wake)
        if opened is None:
            return False
        self._debug = debug
        self._send = send
        self._upstream, self._on = connection, stream = opened
        stream.compact = True
        timeout = send.timeout
        if body is not None and not stream.sent:
            self._handed_over(body)
        elif timeout is not None:
            self._late = True
            deadlines, at = upstream.deadlines, means.loop.time() + timeout
            deadlines.at[self] = at  # as ``add``, without its function
            if at < deadlines.next:
                deadlines.ring_at(at)
        if not connection._flushing:
            connection.flush_soon()  # a client's reads bring several calls, as a rule
        return True

    def cancel(self, refused: Refused | None = None) -> None:
        """The client has gone, or is refused."""
        if self._more is not None or self._client is not None:
            (self._more or self._handed_over()).cancel(refused)

    def client_takes(self, writable: bool) -> None:
        """The client takes (or for now does not take) what is written to it."""
        if self._more is not None:
            self._more.client_takes(writable)

    def _handed_over(self, body: bytes | None = None) -> Forwarding:
        """A ``Forwarding`` goes on from here, and hears of the stream, on which ``body`` is to be sent."""
        client, self._client = self._client, None
        assert client is not None
        self._wake = None  # type: ignore[assignment] # it is not used again
        call = self._call
        call.record.version = call.live.snapshot.version
        if self._late:
            self._late = False
            self._means.upstream.deadlines.discard(self)
        more = self._more = _Adopting(self._means, call, client)
        more.take_over(self._send, None, False)
        connection, stream, self._on = self._upstream, self._on, None
        if connection is not None and stream is not None:
            more.adopt(connection, stream, body)
        return more

    def __call__(self) -> None:
        """The deadline: no head has come in time. (A method of this would be made, hashed and compared for each request.)"""
        self._late = False
        self._handed_over().no_head()

    def _changed(self) -> None:
        """The stream has."""
        stream = self._on
        if stream is None:
            return
        head = stream.head
        if not stream.complete or head is None or not head.silent or stream.failed is not None:
            self._came_otherwise(stream)
            return
        # a 200 that is all here, to a call that asks for nothing more of it: as ``Forwarding`` has it
        call, send, client = self._call, self._send, self._client  # not four: that takes a tuple
        upstream, whole, few = self._upstream, stream.whole, stream.few
        if not whole:  # of few
            whole, trailers, good = stream.rest(), stream.trailers, False
        elif few is None:
            trailers, good = _NO_TRAILERS, False
        else:
            trailers, good = few.headers, few.good
        self._on = self._upstream = None  # type: ignore[assignment]
        upstream.ends = True
        if self._late:
            self._late = False
            upstream.deadlines.at.pop(self, None)
        send.outcome = self._outcome
        size = len(whole)
        received = head.size + size
        monotonic = self._monotonic  # as a method of this, CPython 3.11 would look for it
        try:
            now = monotonic()
            plain_call.over(send, now)
            record, request, telemetry = call.record, call.request, self._telemetry
            took = (now - record.started) * 1000.0
            written = head.written or written_head(head)
            if self._debug:
                if head.timed:  # by a proxy behind this one
                    written = untimed(written)
                written = [*written, _took(trunc(took)) or (SERVICE_TIME, b"%d" % took)]
            last = trailers if good or not trailers else fields(trailers)
            plain = not telemetry.tells
            is_grpc = request.protocol == "grpc"
            if not is_grpc:
                sent = request.sent_bytes()
            elif (
                plain
                and good
                and type(body := request.body) is bytes
                # both are one message: as ``one_message``, without its functions
                and (sent := len(body)) >= FRAME <= size
                and size_in(body)[0] - sent == size_in(whole)[0] - size == -FRAME
            ):  # nearly all
                sent += request.head_bytes()
            else:
                plain = False
            if plain and telemetry.noted(record, is_grpc, took, sent, received):
                self._client = None
                client.respond_written(written, whole, last)  # type: ignore[union-attr]
                if len(self._spares) < MOST_SPARES:
                    # as ``plain_call.let_go`` of a call of which nothing was noted
                    call.request = call.live = record.destination = None  # type: ignore[assignment]
                    record.virtual_host = record.rule_object = None  # type: ignore[assignment]
                    record.endpoint = ""
                    self._spares.append(self)
                else:
                    self._wake = None  # type: ignore[assignment]
                return
            outcome = self._outcome
            outcome.headers = head.headers
            outcome.trailers = trailers
            outcome.whole = whole
            outcome.size = received
            plain_call.noted(call, send, now)
            self._told(upstream, good)
            self._client = None
            client.respond_written(written, whole, last)  # type: ignore[union-attr]
            self._let_go(is_grpc)
        except Exception:
            if self._client is None:  # it is told, or somebody else has it
                log.exception("a response could not be sent: a fault of meshlib, please report it")
                client.cut()  # type: ignore[union-attr]
                return
            self._handed_over().broken()

    def _told(self, upstream: Connection, good: bool) -> None:
        """Tell of a call that has ended; ``good``: with trailers that say no more than that."""
        call, outcome = self._call, self._outcome
        outcome.stream = upstream.stream if call.live.tells else None
        record, request, whole = call.record, call.request, outcome.whole or b""
        record.status = 200
        record.version = call.live.snapshot.version
        ended = self._telemetry.ended
        if request.protocol == "grpc":
            record.grpc_status = 0 if good else grpc.status_of(outcome, ended=True)
            if grpc.is_one_message(whole):
                call.messages = 1
                if record.grpc_status == 0 and request.one_message:
                    ended = self._telemetry.ended_with_message
            else:
                call.messages = grpc.MessageCount(whole).count
        ended(call, None)

    def _let_go(self, is_grpc: bool) -> None:
        """It is over, and may be begun again unless somebody keeps the call."""
        if not self._telemetry.keeps_calls and len(self._spares) < MOST_SPARES:
            call = self._call
            plain_call.let_go(call, call.record, self._outcome)
            call.record._attempts = None
            if is_grpc:
                del call.messages
            self._spares.append(self)
        else:
            self._wake = None  # type: ignore[assignment]

    def _came_otherwise(self, stream: Stream) -> None:
        """In pieces, or it is none that goes on as it is."""
        if stream.complete or stream.head_done or stream.failed is not None:
            attempt = self._handed_over()._http2
            assert attempt is not None
            attempt.changed()


class _Adopting(Forwarding):
    """Goes on with a call that is on a stream."""

    __slots__ = ()

    def adopt(self, connection: Connection, stream: Stream, body: bytes | None) -> None:
        """Hear of the stream, and send ``body`` on it. Before the head of its response has come, its time goes on."""
        self._http2 = attempt = Http2Attempt(self._http2_ended, self._attempt_of)
        attempt.adopt(connection, stream)
        if body is None:
            return
        attempt.send(body)
        send, means = self._send, self._means
        assert send is not None
        if send.timeout is not None:
            self._head_late = True
            means.upstream.deadlines.add(self.no_head, means.loop.time() + send.timeout)

    def _attempt_of(self) -> Attempt:
        assert self._send is not None
        return self._means.attempt(self._send, self._call.request)
