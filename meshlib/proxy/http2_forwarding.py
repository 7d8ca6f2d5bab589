"""A request that came over HTTP/2, on its way over HTTP/2: on a stream of a connection that is there, which tells this of its
changes. A response that comes in one piece to a call that asks for nothing more, as nearly all of gRPC do, goes on in one step;
whatever else comes is an attempt's (``http2_attempt.py``), as on every other way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine import plain_call
from meshlib.engine.message_size import FRAME
from meshlib.engine.outcome import Outcome
from meshlib.proxy import grpc, http2_attempt
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.http2_attempt import Http2Attempt
from meshlib.proxy.sent_headers import SERVICE_TIME
from meshlib.transport.protocol.http2_response import fields, written_head
from meshlib.transport.upstream.http2_call import HTTP2

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Send
    from meshlib.proxy.http2_call import Http2Call
    from meshlib.proxy.means import Means
    from meshlib.proxy.request import ProxyRequest
    from meshlib.transport.protocol.http2_stream import ProperHead, Stream
    from meshlib.transport.upstream.attempt import Attempt
    from meshlib.transport.upstream.http2_loop_connection import Connection
    from meshlib.transport.upstream.target import Target

_GOOD = [(b"grpc-status", b"0")]
"""The trailers of nearly all calls of gRPC."""


class Http2Forwarding(Forwarding):
    """One request on its way, whose client speaks HTTP/2."""

    __slots__ = ("_client", "_on", "_upstream")

    def __init__(self, means: Means, call: Call[ProxyRequest], client: Http2Call) -> None:
        super().__init__(means, call, client)
        self._client = client
        self._on: Stream | None = None  # that it is on, as long as nobody else hears of it
        self._upstream: Connection

    def _begin_http2(self, send: Send[ProxyRequest], target: Target) -> bool:
        means, request = self._means, self._call.request
        http2, body = means.upstream.http2, request.body or None
        if http2 is None or (body is not None and len(body) > http2_attempt.SMALL_BODY):  # type: ignore[arg-type]
            return False
        head = http2_attempt.head_for(request, send.attempt, target.scheme)
        if head is None:
            return False
        opened = http2.stream(target, head, body, request.method == "HEAD", self._changed)  # type: ignore[arg-type]
        if opened is None:
            return False
        self._send = send
        self._upstream, self._on = connection, stream = opened
        if body is not None and not stream.sent:
            self._attempted().send(body)  # type: ignore[arg-type]
        connection.flush_soon()  # a client's reads bring several calls, as a rule
        if send.timeout is not None:
            self._head_late = True
            means.upstream.deadlines.add(self.no_head, means.loop.time() + send.timeout)
        return True

    def _attempted(self) -> Http2Attempt:
        """What hears of the stream from now on."""
        stream, self._on = self._on, None
        assert stream is not None
        self._http2 = attempt = Http2Attempt(self._http2_ended, self._attempt)
        attempt.adopt(self._upstream, stream)
        return attempt

    def _attempt(self) -> Attempt:
        assert self._send is not None
        return self._means.attempt(self._send, self._call.request)

    def _leave_connection(self) -> None:
        if self._on is not None:
            self._attempted()
        super()._leave_connection()

    def _changed(self) -> None:
        """The stream has."""
        stream = self._on
        if stream is None:
            return
        head = stream.head
        if stream.complete and stream.failed is None and self._exchange is None and head is not None and head.silent:
            self._on = None
            self._upstream.ends = not self._upstream.session.streams
            self._came_whole(stream, head)
        elif stream.head_done or stream.failed is not None:
            self._attempted().changed()

    def _came_whole(self, stream: Stream, head: ProperHead) -> None:
        """A 200 that is all here, to a call that asks for nothing more of it: as ``ended`` and ``_conclude`` have it."""
        call, send = self._call, self._send
        assert send is not None
        if self._head_late:
            self._head_late = False
            self._means.upstream.deadlines.discard(self.no_head)
        outcome = Outcome()  # not by names, as in ``on_head``
        outcome.status = 200
        outcome.headers = stream.headers
        outcome.http_version = HTTP2
        outcome.trailers = trailers = stream.trailers
        outcome.whole = whole = stream.rest()
        outcome.size = head.size + len(whole)
        outcome.usual = True
        if call.live.tells:
            outcome.stream = self._upstream.stream
        send.outcome = outcome
        try:
            plain_call.ended(call, send)
            self._send = None
            self._over = True
            record, request = call.record, call.request
            record.status = 200
            telemetry, good = self._means.core.telemetry, False
            if request.protocol == "grpc":
                good = trailers == _GOOD
                record.grpc_status = 0 if good else grpc.status_of(outcome, ended=True)
                one = FRAME + int.from_bytes(whole[1:FRAME], "big") == len(whole)
                call.messages = 1 if one else grpc.MessageCount(whole).count
                if one and record.grpc_status == 0 and request.one_message:
                    telemetry.ended_with_message(call, None)
                else:
                    telemetry.ended(call, None)
            else:
                telemetry.ended(call, None)
            written = written_head(head)
            if call.live.snapshot.inbound.default.mesh.proxy_headers.debug:
                written = [*written, (SERVICE_TIME, b"%d" % (record.upstream_ms or 0))]
            self._client.respond_written(written, whole, _GOOD if good else fields(trailers))
        except Exception:  # noqa: BLE001 (as in ``start``)
            self.broken()
