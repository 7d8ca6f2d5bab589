"""Nearly all requests to the application behind the proxy, from end to end without a task: checks that say at once what they
have to say, one attempt on an HTTP/1.1 connection to the application that is there, a response that comes whole.

It does and tells what ``Serving`` and the hop below it do of such a request, with what it needs made once and used again, as
``PlainForwarding`` has it of the outbound side. As soon as anything else is asked for, before the attempt or after it, a
``Serving`` goes on with the call (row "proxy-inbound-inprocess"). With ``MESHLIB_PLAIN=1`` it has all of them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshlib.engine import plain_call
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.explanation import Exchange
from meshlib.engine.inbound import asked_at_once
from meshlib.engine.outcome import Outcome
from meshlib.proxy.inbound_hop import HopForwarding
from meshlib.proxy.inbound_serving import Serving
from meshlib.proxy.plain_forwarding import MOST_SPARES
from meshlib.proxy.sent_headers import TOOK, took_line
from meshlib.proxy.server_headers import as_server, in_bytes
from meshlib.proxy.straight_call import StraightCall
from meshlib.telemetry.inbound_records import Recorded
from meshlib.transport.protocol.received_head import SERVICE_TIME, ReceivedHead
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.target import Target

if TYPE_CHECKING:
    from meshlib.engine.outcome import Failure
    from meshlib.policy.header_ops import Headers
    from meshlib.proxy.inbound_hop import Lane
    from meshlib.proxy.inbound_request import ServedRequest
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import StraightResponder
    from meshlib.telemetry.inbound_records import ServedSpan
    from meshlib.transport.protocol.http1 import ResponseReader
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.runtimes.serving import Server
    from meshlib.transport.upstream.loop_connection import Connection

log = logging.getLogger("meshlib.proxy")

_NO_HEADERS: Headers = []


class PlainServing:
    """One request that is served, and the handler of the connection that it is on. ``begin`` it; once it is over, it may be
    begun again, for any connection of ``lane``. Not thread-safe: of an event loop."""

    __slots__ = (
        *("_call", "_connection", "_hop", "_lane", "_more", "_outcome", "_responder"),
        *("_send", "_server", "_span", "_unsent", "_upstream"),
    )

    def __init__(self, lane: Lane, server: Server, request: ServedRequest) -> None:
        core, live = server.core, lane.live
        self._server = server
        self._lane = lane
        self._upstream = lane.hop.forwarder.upstream
        self._call = StraightCall(request, lane.bound, server)
        self._hop: Call[ProxyRequest] = Call(request.sent_on, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        self._hop.record = Exchange(lane.path, lane.path.single, live.snapshot.version)
        self._call.hop = self._hop
        self._span: ServedSpan | None = None
        self._outcome = Outcome()
        self._send: Send[ProxyRequest] | None = None  # of the last request, to be used again
        self._connection: Connection | None = None  # that it is on
        self._responder: StraightResponder | None = None  # None: it is over
        self._more: Serving | None = None  # which goes on with it
        self._unsent = False  # the system has not taken all of the request

    def begin(self, request: ServedRequest, responder: StraightResponder) -> PlainServing | Serving:
        """What this returns cancels it; the response may be on its way already."""
        call, hop, server = self._call, self._hop, self._server
        call.request = request
        self._responder = responder
        call.started = server.now()
        self._span = span = server.telemetry.began(call)
        begun = None
        try:
            lane = self._lane
            checks = lane.bound.checks
            left = asked_at_once(request, checks) if checks else None
            if (
                left is not None
                or request.for_application is not None
                or (span is not None and type(span) is not Recorded)
            ):
                call.hop = None
                serving = self._serving()
                serving.decide(left)
                return serving
            hop.request = sent = request.sent_on
            hop.record._attempts = None  # which an access log may have asked for
            begun = plain_call.begun(hop, self._send)
            if type(begun) is Send and begun.timeout is None and self._begin(begun, sent):
                return self
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            if type(begun) is Send:
                self._send = begun
                self._handed_over().broken()
                assert self._more is not None
                return self._more
            call.hop = None
            serving = self._serving()
            serving.broken()
            return serving
        record = hop.record
        local = record.answered if type(begun) is Deliver and hop.live.tells else None
        serving = self._serving()
        if local is not None:
            record.answered = local  # what was responded here; all else there was of the request before
        if type(begun) is not Send:
            record.endpoint = ""  # likewise
        forwarding = HopForwarding(lane.hop.forwarder, hop, serving)
        serving.forwarded_by(forwarding)
        forwarding.go(None, begun)
        return serving

    def _begin(self, send: Send[ProxyRequest], sent: ProxyRequest) -> bool:
        """Begin the attempt on a connection that is there. False: it is not that simple, and nothing has happened."""
        cluster, endpoint, upstream = send.cluster, send.endpoint, self._upstream
        target = cluster.targets.get(endpoint) if cluster.straight else None
        if type(target) is not Target or target.label != endpoint.key:
            means = self._lane.hop.forwarder
            target = find_target(means.core, cluster, endpoint, sent, means.settings)
        if target.http2 or upstream.closed:
            return False
        data = sent.encoded(1)
        if data is None:
            return False
        connection = upstream.take(target)
        if connection is None:
            return False
        self._send = send
        self._connection = connection
        self._unsent = False
        connection.start(data, sent.method == "HEAD", self, sent._headers)  # as ``sent_head``
        return True

    # -- what whoever brought the request tells of its client -----------------------------------------------------------

    def cancel(self, refused: Refused | None = None) -> None:
        """It has gone, or is refused."""
        if self._more is None and self._responder is not None:
            self._handed_over()
        if self._more is not None:
            self._more.cancel(refused)

    def client_takes(self, writable: bool) -> None:
        """It takes (or for now does not take) what is written to it."""
        if self._more is not None:
            self._more.client_takes(writable)

    def _serving(self) -> Serving:
        """A ``Serving`` goes on from here."""
        responder, self._responder = self._responder, None
        assert responder is not None
        call, hop = self._call, self._hop
        # of the request that this was used for before
        record = hop.record
        hop.outcome = record.attempted = record.upstream_ms = record._attempts = None
        record.status = 0
        if hasattr(record, "answered"):
            del record.answered
        call.sent = call.status = call.request_head_bytes = call.response_head_bytes = call.response_bytes = 0
        call.response_head = ()
        call.answered = None
        call.head_at = 0.0
        body = call.request.sent_on.body
        call.request_bytes = len(body) if call.hop is not None and type(body) is bytes else 0
        lane = self._lane
        call.checks = lane.bound.checks
        self._more = serving = Serving.of(
            self._server, lane.hop, lane.settings, call, self._span, lane.bound, responder
        )
        return serving

    def _handed_over(self) -> HopForwarding:
        """The same of an attempt that may be on a connection, of which a ``Forwarding`` hears what that has to say."""
        serving = self._serving()
        forwarding = HopForwarding(self._lane.hop.forwarder, self._hop, serving)
        serving.forwarded_by(forwarding)
        forwarding.take_over(self._send, self._connection, self._unsent)
        self._connection = None
        return forwarding

    # -- Handler ------------------------------------------------------------------------------------------------------

    def on_head(self, reader: ResponseReader) -> None:
        """The connection's."""
        send, connection, call = self._send, self._connection, self._call
        head: Headers = reader.headers
        request = call.request
        if (
            not reader.complete
            or send is None
            or connection is None
            or type(head) is not ReceivedHead
            or request._told is not None  # as ``changes_response``, without a call of it
            or request._for_caller
        ):
            self._handed_over().on_head(reader)
            return
        outcome, hop, lane = self._outcome, self._hop, self._lane
        # as ``outcome_of``, whose function is 18 steps (row "proxy-inbound-inprocess")
        outcome.status = status = reader.status
        outcome.usual = lane.usual and status == 200
        outcome.reason = reason = reader.reason
        outcome.headers = head
        outcome.http_version = reader.http_version
        outcome.size = reader.response_size
        chunks = reader.chunks
        outcome.whole = whole = chunks.pop() if len(chunks) == 1 else reader.take()
        outcome.stream = connection.stream if hop.live.tells else None  # whose address an access log may want
        if self._unsent:
            reader.poisoned = True  # a response before the request was over: what is left of it was never sent
        # the connection is free before anything else is done: what is done may want one
        self._connection = None
        self._upstream.release(connection)
        send.outcome = outcome
        responder: StraightResponder = self._responder  # type: ignore[assignment]  # it is not over
        try:
            if not plain_call.ended(hop, send):
                self._handed_over().ended(outcome)
                return
            record, settings = hop.record, lane.settings
            record.status = call.sent = call.status = status
            if head.shape.timed:  # as ``PlainForwarding`` has it
                head = head.without(SERVICE_TIME)
            made: ReceivedHead
            again = head.told
            if again is None:  # as ``as_server``, here and below
                made = in_bytes(head, settings, call.clock)
            elif again[0] is settings and again[1] is not None:
                made = again[1]
            else:
                made = as_server(head, settings, call.clock)  # type: ignore[assignment]  # as is ``head``
            lines = made.lines
            size = len(lines) - 4 * (made._count or lines.count(b"\n"))  # as its ``size``
            more = b""
            if settings.debug:
                took = int(record.upstream_ms or 0)
                more = TOOK.get(took) or took_line(took)
                size += len(more) - 4
            self._responder = None
            call.response_head_bytes = size
            call.response_bytes = size if request.method == "HEAD" else size + len(whole)
            call.came = made
            call.added = more
            self._tell(call, request, record.attempted[3])  # type: ignore[index]  # when its response came: it has
            responder.pass_on(status, reason, made, more, whole)
        except Exception:
            if self._responder is None:  # it is told, or somebody else has it
                log.exception("a response could not be sent: a fault of meshlib, please report it")
                responder.cut()
                return
            self._handed_over().broken()
            return
        spares = lane.spares
        if lane.hop.lane is lane and len(spares) < MOST_SPARES and self._server.telemetry._remember is None:
            # which may be long, as may be the response
            hop.request = call.request = outcome.whole = outcome.stream = self._span = None  # type: ignore[assignment]
            outcome.headers = _NO_HEADERS
            call.came = ()
            spares.append(self)

    def _tell(self, call: StraightCall, request: ServedRequest, now: float) -> None:
        """The request is over since ``now``: what became of it."""
        telemetry, bound, span, sent, status = (
            self._server.telemetry,
            self._lane.bound,
            self._span,
            request.sent_on,
            call.status,
        )
        head = sent.head_bytes()
        call.request_head_bytes = call.request_bytes = head
        if sent.body is not None:
            call.request_bytes = head + sent.body_bytes()
        noting = bound.noting(request.principal, True) if request.mutual else bound.of_nobody
        series = noting.get(status) if request.peer_metadata is None else None
        if call.tells:
            call.head_at = now
        call.answered = self._outcome
        if series is not None:  # it has ended like nearly all do
            series.note((now - call.started) * 1000.0, call.request_bytes, call.response_bytes)
            if span is not None or telemetry.tells:
                telemetry.told(call, span, now, series)
            return
        telemetry.ended(call, span)
        if request.peer_metadata is None:
            found = telemetry.series_of(call)
            if found is not None:
                noting[status] = found

    def on_data(self, reader: ResponseReader) -> None:
        """The connection's."""
        self._handed_over().on_data(reader)

    def on_end(self, reader: ResponseReader) -> None:
        """The connection's. (Of a response that did not come whole, the connection has another handler.)"""

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        """The connection's."""
        self._handed_over().on_failure(failure, detail, error, stale)

    def on_writable(self, writable: bool) -> None:
        """The connection's."""
        self._unsent = not writable

    def on_interim(self, reader: ResponseReader) -> None:
        """The connection's: what comes before the response is not passed on."""
