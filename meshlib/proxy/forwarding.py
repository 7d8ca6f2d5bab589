"""One request on its way: an outbound exchange, and the response that comes of it.

Those that are one attempt on a connection that is there have their exchange stepped inside the callbacks of the two
connections, without a task. Whatever else an exchange wants, another connection, a pause, a race, a body that is still coming,
is had in a task, by the driver and the runtime that asyncio clients have. With ``MESHLIB_PLAIN=1`` everything is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshlib.engine import plain_call, replies
from meshlib.engine.actions import change_own_response
from meshlib.engine.drivers import finish
from meshlib.engine.effects import Deliver, Send, Spawn
from meshlib.engine.exchange import exchange_of, goes_on
from meshlib.engine.outcome import Failure, Outcome
from meshlib.proxy import grpc, http2_attempt, refusals
from meshlib.proxy.http2_attempt import Http2Attempt
from meshlib.proxy.in_task import InTask
from meshlib.proxy.request import UPGRADE
from meshlib.proxy.responder import Streaming
from meshlib.proxy.response_outcome import outcome_of
from meshlib.transport.protocol.framing import NoBody, framing_of
from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.request_head import InvalidHead, encode_head
from meshlib.transport.protocol.shortcuts import PLAIN
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.problems import no_head
from meshlib.transport.upstream.switched import AsyncSwitched

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Step
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.proxy.means import Means
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder
    from meshlib.telemetry.attempt_spans import CallSpan
    from meshlib.transport.protocol.raw_head import RawHead
    from meshlib.transport.upstream.loop_connection import Connection
    from meshlib.transport.upstream.target import Target

log = logging.getLogger("meshlib.proxy")


class Forwarding(InTask):
    """One request on its way, and the handler of the connection that it is on."""

    __slots__ = (*("_body_late", "_connection", "_exchange", "_head_late", "_http2", "_refused", "_send", "_unsent"),)

    def __init__(self, means: Means, call: Call[ProxyRequest], responder: Responder) -> None:
        super().__init__(means, call, responder)
        self._exchange: Exchange[ProxyRequest] | None = None  # None: it is a plain call (``plain_call.py``)
        self._send: Send[ProxyRequest] | None = None  # under way without a task
        self._connection: Connection | None = None  # that it is on
        self._http2: Http2Attempt | None = None
        self._head_late = self._body_late = False  # whether a deadline is set
        self._unsent = (
            False  # the request is not over: the system has not taken all of it, or it asks for another protocol
        )
        self._refused = False  # what it came to was noted

    def start(self) -> None:
        """Begin the call, or make its exchange and take the first step of that."""
        self.go(self._means.telemetry.began(self._call), None)

    def go(self, span: CallSpan | None, begun: Send[ProxyRequest] | Deliver | None) -> None:
        """``start`` a call that has begun; ``begun``: what ``plain_call`` has said of it."""
        core, call, self._span = self._means.core, self._call, span
        try:
            if begun is None and span is None and not PLAIN and core.exchange_of is exchange_of:
                begun = plain_call.begun(call)
            if type(begun) is Deliver:
                self._conclude(begun.outcome, begun.local)
                return
            if type(begun) is Send:
                self._send = begun
                if self._begin(begun):
                    return
                self._send = None
                self._exchange = exchange = goes_on(call, begun)
                self._in_a_task(exchange, begun)
                return
            exchange = core.exchange_of(call, brief=not PLAIN)
            self._exchange = exchange = exchange if span is None else self._means.telemetry.spanned(span, exchange)
            self._perform(exchange, next(exchange))
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            self.broken()

    def take_over(self, send: Send[ProxyRequest] | None, connection: Connection | None, unsent: bool) -> None:
        """Go on with an attempt of a plain call, which may be on a connection."""
        self._send = send
        self._connection = connection
        self._unsent = unsent
        if connection is not None:
            connection.hear(self)

    def cancel(self, refused: Refused | None = None) -> None:
        """The client has gone, or is refused."""
        if self._over:
            return
        if refused is None:
            self._call.record.add_flag("DC")
        else:
            self._refused = True
            refusals.note(self._call, refused)
        if self._task is not None:
            self._task.cancel()
            if self._in_task:
                return  # which does the rest
            self._task = None
        self._over = True
        self._leave_connection()
        self._close_exchange()
        self._drop()
        self._tell_cut()

    def _tell_cut(self) -> None:
        telemetry = self._means.telemetry
        (telemetry.ended if self._refused else telemetry.broken)(self._call, self._span)

    def _close_exchange(self) -> None:
        """It is broken off; nothing, where it is over."""
        if self._exchange is not None:
            self._exchange.close()
        elif self._send is not None:
            plain_call.given_up(self._send)

    def client_takes(self, writable: bool) -> None:
        """The client takes (or for now does not take) what is written to it."""
        connection = self._connection
        if connection is not None and self._streaming:
            (connection.resume if writable else connection.pause)()

    # -- effects ------------------------------------------------------------------------------------------------------

    def _perform(self, exchange: Exchange[ProxyRequest], effect: Step[ProxyRequest] | Deliver) -> None:
        while type(effect) is Spawn:
            self._means.runtime.spawn(effect.exchange)
            effect = next(exchange)
        if type(effect) is Send:
            if not PLAIN and self._begin(effect):
                return
        elif type(effect) is Deliver:
            outcome = effect.outcome
            if outcome.body is None:
                finish(exchange)
                self._conclude(outcome, effect.local)
                return
            if type(outcome.body) is Streaming:
                self._stream(effect)
                return
        self._in_a_task(exchange, effect)

    def _in_a_task(self, exchange: Exchange[ProxyRequest], effect: Step[ProxyRequest] | Deliver) -> None:
        self._task = self._means.loop.create_task(self._long_way(exchange, effect))

    def _begin(self, send: Send[ProxyRequest]) -> bool:
        """Begin an attempt on a connection that is there. False: a task has to."""
        means, request = self._means, self._call.request
        body = request.body
        if body is not None and type(body) is not bytes:
            return False
        target = find_target(means.core, send.cluster, send.endpoint, request, means.settings)
        if target.http2:
            return self._begin_http2(send, target)
        if means.upstream.closed:
            return False
        connection = means.upstream.take(target)
        if connection is None:
            return False
        headers: RawHeaders | RawHead = request.sent_head
        data = request.encoded(send.attempt)
        if data is None:
            headers = request.attempt_headers(send.attempt)
            try:
                framing = framing_of(headers, body)
                data = encode_head(request.method.encode("latin-1"), request.target, framing.headers)
            except InvalidHead:
                means.upstream.release(connection)
                return False
            if not isinstance(framing, NoBody):
                data += framing.whole(body or b"")
        self._send = send
        self._connection = connection
        self._unsent = UPGRADE in request.special
        connection.start(data, request.method == "HEAD", self, headers)
        if send.timeout is not None and self._send is send:
            self._head_late = True
            means.upstream.deadlines.add(self.no_head, means.loop.time() + send.timeout)
        return True

    def _begin_http2(self, send: Send[ProxyRequest], target: Target) -> bool:
        """The same on a stream of a connection over HTTP/2."""
        means, request = self._means, self._call.request
        http2, body = means.upstream.http2, request.body or None
        if http2 is None or (body is not None and len(body) > http2_attempt.SMALL_BODY):  # type: ignore[arg-type]
            return False
        head = http2_attempt.head_for(request, send.attempt, target.scheme)
        if head is None:
            return False
        started = Http2Attempt(self._http2_ended, lambda: self._means.attempt(send, self._call.request))
        self._send, self._http2 = send, started
        if not started.begin(http2, target, head, body, request.method == "HEAD", request.version == "HTTP/2"):  # type: ignore[arg-type]
            self._send = self._http2 = None
            return False
        if send.timeout is not None:
            self._head_late = True
            means.upstream.deadlines.add(self.no_head, means.loop.time() + send.timeout)
        return True

    def _http2_ended(self, outcome: Outcome) -> None:
        self._http2 = None
        if self._call.request.protocol == "grpc":
            outcome.grpc_status = grpc.status_in(outcome.headers)
        self.ended(outcome)

    def ended(self, outcome: Outcome) -> None:
        """The attempt that is under way without a task has come to this: go on."""
        send, exchange = self._send, self._exchange
        assert send is not None
        if self._head_late:
            self._head_late = False
            self._means.upstream.deadlines.discard(self.no_head)
        send.outcome = outcome
        try:
            if exchange is None:
                if plain_call.ended(self._call, send):
                    self._send = None
                    self._conclude(outcome, local=False)
                    return
                exchange = self._exchange = goes_on(self._call, send)
            self._send = None
            effect = next(exchange, None)
            if effect is not None:
                self._perform(exchange, effect)
            else:
                self._conclude(outcome, local=False)
        except Exception:  # noqa: BLE001 (as in ``start``)
            self.broken()

    def _conclude(self, outcome: Outcome, local: bool) -> None:
        """The exchange is over, and its response is all here: send it on."""
        call = self._call
        if outcome.failure is not None:
            outcome = change_own_response(call, replies.for_failure(outcome, len(call.record.attempts) > 1))
            local = True
        record = call.record
        if call.request.protocol == "grpc":
            if local:
                outcome = grpc.local_reply(outcome)
            record.grpc_status = grpc.status_of(outcome, ended=True)
            whole = outcome.whole or b""
            call.messages = 0 if local else 1 if grpc.is_one_message(whole) else grpc.MessageCount(whole).count
        record.status = outcome.status
        call.outcome = outcome
        self._over = True
        self._means.telemetry.ended(call, self._span)
        self._responder.respond(
            outcome.status,
            outcome.reason,
            self._sent_headers(call, outcome, local),
            outcome.whole or b"",
            outcome.trailers,
        )

    def broken(self) -> None:
        """A bug: the client is told that there was one, and the log what."""
        log.exception(
            "a request to %s could not be forwarded: a fault of meshlib, please report it", self._call.request.authority
        )
        self._over = True
        self._leave_connection()
        self._close_exchange()
        if self._streaming:
            self._means.telemetry.broken(self._call, self._span)
            self._drop()
            self._responder.cut()
        else:
            refusals.note(self._call, Refused(500, "a fault of meshlib"))
            self._means.telemetry.ended(self._call, self._span)
            reply = replies.reply(500)
            self._responder.respond(reply.status, reply.reason, reply.headers, b"", None)

    # -- the response of an attempt without a task, while it comes ------------------------------------------------------

    def _stream(self, delivered: Deliver) -> None:
        outcome, call = delivered.outcome, self._call
        call.record.status = outcome.status
        call.outcome = outcome
        call.streamed = 0
        self._streaming = True
        connection = self._connection
        assert connection is not None
        if delivered.deadline is not None:
            self._body_late = True
            means = self._means
            left = delivered.deadline - means.core.clock.monotonic()
            means.upstream.deadlines.add(self._too_late, means.loop.time() + left)
        self._responder.begin(outcome.status, outcome.reason, self._sent_headers(call, outcome, False))
        self._write(connection.reader.take())
        if not self._responder.writable:  # since before: nobody will say so again
            connection.pause()

    def _write(self, data: bytes) -> None:
        if data:
            self._call.streamed += len(data)
            self._responder.write(data)

    def _finish(self, cut: Failure | None) -> None:
        """The response has ended, or was cut."""
        exchange = self._exchange
        assert exchange is not None
        self._over = True
        if self._body_late:
            self._body_late = False
            self._means.upstream.deadlines.discard(self._too_late)
        try:
            finish(exchange, cut)
            self._means.telemetry.ended(self._call, self._span)
            self._drop()
        except Exception:  # noqa: BLE001 (as in ``start``; nobody else would tell the client)
            self.broken()
            return
        if cut is None:
            self._responder.end(None)
        else:
            self._responder.cut()

    def _drop(self) -> None:
        if self._call.outcome is not None:
            self._call.outcome.drop()  # its body refers to this

    def _too_late(self) -> None:
        self._leave_connection()
        self._finish(Failure.TIMEOUT)

    def no_head(self) -> None:
        """There was none in time."""
        send = self._send
        if send is None:
            return
        self._leave_connection()
        self.ended(no_head(self._means.attempt(send, self._call.request)))

    def _leave_connection(self) -> None:
        """Give up the request that the connection is busy with, if any, and the connection."""
        connection, self._connection = self._connection, None
        deadlines = self._means.upstream.deadlines
        if self._head_late:
            self._head_late = False
            deadlines.discard(self.no_head)
        if self._body_late:
            self._body_late = False
            deadlines.discard(self._too_late)
        if connection is not None:
            self._means.upstream.drop(connection)
        http2, self._http2 = self._http2, None
        if http2 is not None:
            http2.cancel()

    # -- Handler ------------------------------------------------------------------------------------------------------

    def on_head(self, reader: ResponseReader) -> None:
        """The connection's."""
        connection = self._connection
        outcome = outcome_of(reader, Outcome(), connection if self._call.live.tells else None)
        if self._unsent:
            reader.poisoned = True  # a response before the request was over: what is left of it was never sent
        if reader.complete:
            # the connection is free before anything else is done: what is done may want one
            self._connection = None
            if connection is not None:
                self._means.upstream.release(connection)
        elif reader.switched is not None:  # 101: what follows is no body
            self._connection = None
            assert connection is not None
            connection.leave_http()
            loop = self._means.loop
            outcome.body = AsyncSwitched(loop, connection.transport, reader.switched, connection.left)
        else:
            outcome.body = Streaming(self._leave_connection)
        self.ended(outcome)

    def on_data(self, reader: ResponseReader) -> None:
        """The connection's."""
        self._write(reader.take())

    def on_end(self, reader: ResponseReader) -> None:
        """The connection's."""
        if not self._streaming:
            return
        connection, self._connection = self._connection, None
        if reader.chunks:
            self._write(reader.take())
        if connection is not None:
            self._means.upstream.release(connection)
            self._finish(None)

    def on_failure(self, failure: Failure, detail: str, error: BaseException | None, stale: bool) -> None:
        """The connection's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._means.upstream.lost(connection)
        if self._streaming:
            self._finish(failure)
        else:
            self.ended(Outcome(failure, detail, error, stale=stale))

    def on_writable(self, writable: bool) -> None:
        """The connection's."""
        self._unsent = not writable or UPGRADE in self._call.request.special

    def on_interim(self, reader: ResponseReader) -> None:
        """The connection's: what comes before the response is not passed on."""
