"""Nearly all requests of the outbound side, from end to end, and without a task: a plain call (``engine/plain_call.py``) whose
one attempt finds an HTTP/1.1 connection that is there, and whose response comes whole. Where there is none, a task makes one,
and that is all it does (row "mTLS outbound, a full handshake a request").

It does and tells what ``Forwarding`` does of such a request, with what it needs made once and used again: a connection of
HTTP/1.1 has one request at a time, and lets go of it with its response. As soon as anything else is asked for, before the
attempt or after it, a ``Forwarding`` goes on with the call (row "proxy-inprocess"). With
``MESHLIB_PLAIN=1`` it has all calls.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from meshlib.engine import plain_call
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.effects import Send
from meshlib.engine.explanation import Exchange
from meshlib.engine.outcome import Outcome
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.request import UPGRADE
from meshlib.proxy.response_outcome import outcome_of
from meshlib.proxy.sent_headers import TOOK, sent_headers, took_line
from meshlib.transport.protocol.received_head import SERVICE_TIME, ReceivedHead
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.target import Target, smaller

if TYPE_CHECKING:
    from meshlib.compiler.routes import Rule, VirtualHost
    from meshlib.engine.live import Live
    from meshlib.engine.outcome import Failure
    from meshlib.policy.sidecar_headers import ProxyHeaders
    from meshlib.proxy.means import Means
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import StraightResponder
    from meshlib.transport.protocol.http1 import ResponseReader
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.upstream.loop_connection import Connection

MOST_SPARES = 64
"""That are kept for requests to come, of an event loop: as many as are seldom under way at once."""
log = logging.getLogger("meshlib.proxy")


class PlainForwarding:
    """One request on its way, and the handler of the connection that it is on. ``begin`` it; once it is over, it may be begun
    again. Not thread-safe: of an event loop."""

    __slots__ = (
        *("_call", "_connection", "_debug", "_dialling", "_late", "_means", "_more"),
        *("_outcome", "_responder", "_send", "_spares", "_unsent"),
    )

    def __init__(self, means: Means, spares: list[PlainForwarding], request: ProxyRequest, live: Live) -> None:
        core = means.core
        self._means = means
        self._spares = spares
        self._call: Call[ProxyRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        self._call.record = Exchange(live.snapshot.passthrough, None, live.snapshot.version)
        self._outcome = Outcome()  # of each request, when its response has come whole
        self._send: Send[ProxyRequest] = None  # type: ignore[assignment] # until there is one, which is used again
        self._connection: Connection | None = None  # that it is on
        self._dialling: asyncio.Task[None] | None = None  # which makes that
        self._responder: StraightResponder | None = None  # None: it is over
        self._more: Forwarding | None = None  # which goes on with it
        self._debug = False  # whether the client is told how long the upstream has taken
        self._late = False  # whether a deadline is set
        # the request is not over: the system has not taken all of it, or it asks for another protocol
        self._unsent = False

    def begin(
        self,
        request: ProxyRequest,
        live: Live,
        responder: StraightResponder,
        headers: ProxyHeaders,
        vhost: VirtualHost,
        rule: Rule | None,
    ) -> PlainForwarding | Forwarding:
        """What this returns cancels it; the response may be on its way already. ``headers``: of the mesh's settings; ``rule``:
        the one that the request takes of ``vhost``, None: there is none for it."""
        call, means = self._call, self._means
        call.request = request
        call.live = live
        record = call.record
        record.virtual_host = vhost
        record.rule_object = rule
        record.version = live.snapshot.version
        record._attempts = None
        self._responder = responder
        span, begun = means.telemetry.began(call), None
        try:
            if span is None:
                begun = plain_call.begun(call, self._send)
                if type(begun) is Send and self._begin(begun, request, headers):
                    return self
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            self._send = begun if type(begun) is Send else None  # type: ignore[assignment]
            more = self._handed_over()
            more.broken()
            return more
        more = Forwarding(means, call, responder)
        more.go(span, begun)
        return more

    def _begin(self, send: Send[ProxyRequest], request: ProxyRequest, headers: ProxyHeaders) -> bool:
        """Begin the attempt, on a connection that is there or is made for it. False: it is not that simple, and nothing has
        happened."""
        means, cluster, endpoint = self._means, send.cluster, send.endpoint
        target = cluster.targets.get(endpoint) if cluster.straight and request.scheme == "http" else None
        if type(target) is not Target or target.label != endpoint.key:
            target = find_target(means.core, cluster, endpoint, request, means.settings)
        upstream = means.upstream
        if target.http2 or upstream.closed:
            return False
        data = request.encoded(1)
        if data is None:
            return False
        connection = upstream.take(target)
        self._debug = headers.debug
        self._send = send
        self._unsent = UPGRADE in request.special
        if connection is None:
            self._dialling = means.loop.create_task(self._dial(send, target, request, data))
            return True
        self._connection = connection
        connection.start(data, request.method == "HEAD", self, request.sent_head)
        if send.timeout is not None and self._connection is connection:
            self._late = True
            upstream.deadlines.add(self, means.loop.time() + send.timeout)
        return True

    async def _dial(self, send: Send[ProxyRequest], target: Target, request: ProxyRequest, data: bytes) -> None:
        """The same on a connection that is made for it. Where none can be had, a ``Forwarding`` goes on with why."""
        means, timeout = self._means, send.timeout
        upstream, began = means.upstream, means.loop.time()
        try:
            found = upstream.take(target)  # one may have come back meanwhile
            if found is None:
                made = await upstream.made(target, smaller(target.connect_timeout, timeout), timeout)
                if isinstance(made, Outcome):
                    self._dialling = None
                    self._handed_over().ended(made)
                    return
                found = made
            self._dialling = None
            self._connection = found
            found.start(data, request.method == "HEAD", self, request.sent_head)
            if timeout is not None and self._connection is found:
                self._late = True
                upstream.deadlines.add(self, began + timeout)
        except asyncio.CancelledError:
            if self._dialling is not None:  # nobody of ours: the loop ends, for one
                self._dialling = None
                self._handed_over().cancel()
            raise
        except Exception:  # noqa: BLE001 (as in ``begin``)
            self._dialling = None
            (self._more or self._handed_over()).broken()

    def cancel(self, refused: Refused | None = None) -> None:
        """The client has gone, or is refused."""
        if self._more is not None or self._responder is not None:
            (self._more or self._handed_over()).cancel(refused)

    def client_takes(self, writable: bool) -> None:
        """The client takes (or for now does not take) what is written to it."""
        if self._more is not None:
            self._more.client_takes(writable)

    def _handed_over(self) -> Forwarding:
        """A ``Forwarding`` goes on from here, and hears what the connection has to say."""
        responder, self._responder = self._responder, None
        assert responder is not None
        if self._late:
            self._late = False
            self._means.upstream.deadlines.discard(self)
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        more = self._more = Forwarding(self._means, self._call, responder)
        more.take_over(self._send, self._connection, self._unsent)
        self._connection = None
        return more

    def __call__(self) -> None:
        """The deadline: no head has come in time. (A method of this would be made, hashed and compared for each request.)"""
        self._late = False
        self._handed_over().no_head()

    # -- Handler ------------------------------------------------------------------------------------------------------

    def on_head(self, reader: ResponseReader) -> None:
        """The connection's."""
        send, connection = self._send, self._connection
        if not reader.complete or connection is None:
            self._handed_over().on_head(reader)
            return
        outcome, call, means = self._outcome, self._call, self._means
        outcome_of(reader, outcome, connection if call.live.tells else None)
        if self._unsent:
            reader.poisoned = True  # a response before the request was over: what is left of it was never sent
        # the connection is free before anything else is done: what is done may want one
        self._connection = None
        means.upstream.release(connection)
        if self._late:
            self._late = False
            means.upstream.deadlines.discard(self)
        send.outcome = outcome
        responder = self._responder
        assert responder is not None
        try:
            if not plain_call.ended(call, send):
                self._handed_over().ended(outcome)
                return
            record = call.record
            record.status = status = outcome.status
            head, whole = outcome.headers, outcome.whole or b""
            telemetry = means.telemetry
            telemetry.ended(call, None)
            self._responder = None
            if type(head) is ReceivedHead:
                took = int(record.upstream_ms or 0)
                more = b""
                if self._debug:
                    more = TOOK.get(took) or took_line(took)
                    if head.shape.timed:  # by a proxy behind this one
                        head = head.without(SERVICE_TIME)
                responder.pass_on(status, outcome.reason, head, more, whole)
                if not telemetry.keeps_calls and len(self._spares) < MOST_SPARES:
                    plain_call.let_go(call, record, outcome)
                    self._spares.append(self)
            else:
                responder.respond(status, outcome.reason, sent_headers(call, outcome, False), whole, outcome.trailers)
        except Exception:
            if self._responder is None:  # it is told, or somebody else has it
                log.exception("a response could not be sent: a fault of meshlib, please report it")
                responder.cut()
                return
            self._handed_over().broken()

    def on_data(self, reader: ResponseReader) -> None:
        """The connection's."""
        self._goes_on().on_data(reader)

    def on_end(self, reader: ResponseReader) -> None:
        """The connection's."""
        if self._more is not None:
            self._more.on_end(reader)

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        """The connection's."""
        self._goes_on().on_failure(failure, detail, error, stale)

    def on_writable(self, writable: bool) -> None:
        """The connection's."""
        self._unsent = not writable or UPGRADE in self._call.request.special

    def on_interim(self, reader: ResponseReader) -> None:
        """The connection's: what comes before the response is not passed on."""

    def _goes_on(self) -> Forwarding:
        return self._more or self._handed_over()
