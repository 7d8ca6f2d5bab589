"""One attempt on a stream of an HTTP/2 connection that is there, without a task: what nearly all calls of gRPC are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.transport.protocol.framing import NoBody, framing_of
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket
from meshlib.transport.upstream.http2_call import failed, response_of
from meshlib.transport.upstream.http2_loop_body import Http2Body
from meshlib.transport.upstream.http2_loop_waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.outcome import Outcome
    from meshlib.proxy.request import ProxyRequest
    from meshlib.transport.protocol.http2_codec import Head
    from meshlib.transport.protocol.http2_stream import Stream
    from meshlib.transport.upstream.attempt import Attempt
    from meshlib.transport.upstream.http2_loop import AsyncioHttp2
    from meshlib.transport.upstream.http2_loop_connection import Connection
    from meshlib.transport.upstream.target import Target

SMALL_BODY = 16 * 1024
"""Bytes of a request's body that are sent so."""


def head_for(request: ProxyRequest, attempt: int, scheme: bytes) -> Head | None:
    """As HTTP/2 writes the head of a request whose body is all here, or that has none. None: a task has to see to it, which
    also says what is wrong with one that cannot be written."""
    head = request.http2_head(attempt, scheme)
    if head is not None:
        return head
    headers = request.attempt_headers(attempt)
    if asks_for_websocket(headers):
        return None
    try:
        framing = framing_of(headers, request.body)
        if not isinstance(framing, NoBody) and framing.expects_continue:
            return None
        return request_head(request.method.encode("latin-1"), request.target, framing.headers, scheme)
    except InvalidHead:
        return None


class Http2Attempt:
    """``done`` hears of its outcome once the head of the response is there, or will not be; ``body`` of that reads on.
    ``attempt`` makes the attempt that such a body goes by."""

    __slots__ = ("_attempt", "_connection", "_done", "_reader", "_rest", "_stream")

    def __init__(self, done: Callable[[Outcome], None], attempt: Callable[[], Attempt]) -> None:
        self._done: Callable[[Outcome], None] | None = done
        self._attempt = attempt
        self._connection: Connection
        self._stream: Stream
        self._rest: memoryview | None = None  # of the request's body
        self._reader: Callable[[], None] | None = None  # of the response's, while there is a rest: it hears, too

    def begin(
        self,
        http2: AsyncioHttp2,
        target: Target,
        head: Head,
        body: bytes | None,
        head_request: bool,
        multiplexed: bool = False,
    ) -> bool:
        """False: there is no connection that takes it. ``multiplexed``: it came over HTTP/2."""
        opened = http2.stream(target, head, body, head_request, self.changed)
        if opened is None:
            return False
        self._connection, self._stream = opened
        if body is not None and not self._stream.sent:
            self.send(body)
        if multiplexed:  # its client's reads bring several calls, as a rule
            self._connection.flush_soon()
        else:
            self._connection.flush_with_others()
        return True

    def adopt(self, connection: Connection, stream: Stream) -> None:
        """In place of ``begin``: a stream that was opened."""
        stream.compact = False
        stream.unfolded()
        self._connection = connection
        self._stream = stream
        stream.wake = self.changed

    def send(self, body: bytes) -> None:
        """The body that was not sent with the head."""
        self._rest = memoryview(body)
        self._send()

    def cancel(self) -> None:
        """Nobody wants its outcome."""
        self._done = None
        self._connection.cancel(self._stream)

    def _send(self) -> None:
        session, stream, rest = self._connection.session, self._stream, self._rest
        while rest:
            sent = session.send(stream, rest, True)
            if not sent:
                break
            rest = rest[sent:]
        self._rest = rest or None

    def changed(self) -> None:
        """The stream has."""
        done, stream, connection = self._done, self._stream, self._connection
        if self._rest is not None and not stream.settled:
            self._send()
            connection.flush_with_others()
        reader = self._reader
        if reader is not None:
            if self._rest is None or stream.settled:
                self._reader = None
                stream.wake = reader
            reader()
        if done is None:
            return
        if stream.head_done:
            outcome = response_of(stream)
            outcome.stream = connection.stream
            if self._rest is None or stream.settled:
                stream.wake = _deaf  # else they would refer to each other
            if outcome.whole is None and outcome.failure is None:
                waiter = Waiter(connection.loop, connection.deadlines)
                if stream.wake is _deaf:
                    stream.wake = waiter.wake
                else:  # the rest of the request goes on beside it
                    self._reader = waiter.wake
                outcome.body = Http2Body(connection, stream, waiter, self._attempt())
        elif stream.failed is not None:
            outcome = failed(stream.failed)
            stream.wake = _deaf
        else:
            return
        self._done = None
        done(outcome)
        if not connection.session.streams:
            connection.close_if_over()


def _deaf() -> None:
    """What a stream tells that nobody listens to any more."""
