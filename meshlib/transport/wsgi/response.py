"""A response on its way from the application to the server: nothing is held back, and how it ends is told once.

The handler runs in a context of its own (``contextvars``), in which its request, deadline and span are current: the call, each
step of its iterable and ``close()``. In between, and afterwards, the thread has the server's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT
from meshlib.engine.inbound_context import enter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.telemetry.inbound_records import ServedSpan
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.wsgi.contracts import Headers, Pieces, StartResponse, Write

BROKEN = "UC"
"""Envoy's flag for an application that breaks off its response."""
BODILESS = frozenset((204, 304))
SIZED = (list, tuple)


@functools.lru_cache(1000)
def ended(status: int) -> Ended:
    """A response that has ended with this status."""
    return Ended(status)


@functools.lru_cache(1000)
def code_of(status: str) -> int:
    """200 of ``200 OK``; 0 for what is not a status."""
    code = status[:3]
    return int(code) if code.isascii() and code.isdigit() else 0


class Head:
    """The ``start_response`` that the application gets, and how its call ends. ``headers`` and ``begun`` (its status) are
    those of the response as it was begun last (0: it was not). Calls of which a server drops the response are noted as
    broken off, whoever collects it: hence ``dropped``, and no watching generator (the WSGI row of the benchmarks)."""

    __slots__ = ("_call", "_exchange", "_span", "_start", "_telemetry", "_write", "begun", "headers", "over")

    def __init__(
        self,
        call: InboundCall,
        start_response: StartResponse,
        exchange: InboundExchange,
        telemetry: InboundTelemetry,
        span: ServedSpan | None,
    ) -> None:
        self._call = call
        self._start = start_response
        self._exchange = exchange
        self._telemetry = telemetry
        self._span = span
        self._write: Write | None = None
        self.over = False
        self.begun = 0
        self.headers: Headers = []

    def end(self, how: Ended) -> None:
        """The call is over. May be told more than once: the first counts."""
        if self.over:
            return
        self.over = True
        finish(self._exchange, how)
        self._telemetry.ended(self._call, self._span)

    def dropped(self) -> None:
        """Nobody will say any more how it ends: perhaps the garbage collector's doing, so it is only noted."""
        self.over = True
        self._exchange.close()
        self._telemetry.broken(self._call, self._span)

    def __call__(self, status: str, headers: Headers, exc_info: object = None, /) -> Write:
        """Begin the response, or with ``exc_info`` another in its place: the server raises that when it is too late."""
        request = self._call.request
        if request.changes_response:
            said = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.response_headers(said)]
        if exc_info is None:
            self._write = self._start(status, headers)
        else:
            try:
                self._write = self._start(status, headers, exc_info)  # type: ignore[arg-type]  # the server's to judge
            finally:
                exc_info = None  # a frame that refers to itself through its traceback
        self.begun = code_of(status)
        self.headers = headers
        if self._call.tells:
            self._call.response_head, self._call.head_at = headers, self._call.clock.monotonic()
        return self.write

    def write(self, piece: bytes) -> None:
        """What applications from before WSGI had iterables call."""
        self.going(piece)
        assert self._write is not None
        self._write(piece)

    def going(self, piece: bytes) -> None:
        """``piece`` goes to the client, and the head before it."""
        call = self._call
        if not call.sent:
            call.responding(self.begun)
        call.response_bytes += len(piece)

    def sent_by_server(self) -> None:
        """The whole body has been the server's to send."""
        if self._call.request.method != "HEAD":
            self._call.response_bytes += self.announced() or 0

    def announced(self) -> int | None:
        """Bytes of the body as the head says, or None."""
        for name, value in self.headers:
            if name.lower() == "content-length":
                return int(value) if value.isascii() and value.isdigit() else None
        return None

    def failed(self) -> Ended:
        """The application has raised: its server responds with 500, if it can still respond."""
        sent = self._call.sent
        return Ended(sent, None, BROKEN) if sent else ended(500)

    def whole(self) -> Ended:
        """The response has come to its end."""
        return ended(self.begun or 500)  # a server has nothing to send without a status

    def ended_whole(self) -> None:
        """It has."""
        self.end(self.whole())

    def left(self) -> Ended:
        """The server wants no more of it: its client has gone, unless it needs no more."""
        call = self._call
        if self.begun and (call.request.method == "HEAD" or self.begun in BODILESS):
            return ended(self.begun)
        return ended(call.sent) if call.sent and call.response_bytes == self.announced() else CUT


class Response:
    """The iterable that the server gets: the application's, piece by piece."""

    __slots__ = ("_close", "_head", "_next", "_run")

    def __init__(self, head: Head, context: Context, pieces: Pieces) -> None:
        self._head = head
        self._run = run = context.run
        self._close: Callable[[], object] | None = getattr(pieces, "close", None)
        self._next = run(iter, pieces).__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        head = self._head
        try:
            piece = self._run(self._next)
        except StopIteration:
            head.ended_whole()
            raise
        except BaseException:
            head.end(head.failed())
            raise
        if piece:
            head.going(piece)
        return piece

    def __del__(self) -> None:
        if not self._head.over:
            self._head.dropped()

    def close(self) -> None:
        """The server is done with it, after the last piece or before."""
        close, self._close = self._close, None
        try:
            if close is not None:
                self._run(close)
        finally:
            head = self._head
            if not head.over:
                head.end(head.left())


class SizedResponse(Response):
    """Of a list: servers make a Content-Length of the only piece."""

    __slots__ = ("_length",)

    def __init__(self, head: Head, context: Context, pieces: list[bytes] | tuple[bytes, ...]) -> None:
        super().__init__(head, context, pieces)
        self._length = len(pieces)

    def __len__(self) -> int:
        return self._length


serving: ContextVar[InboundCall | None] = ContextVar("meshlib_wsgi_call", default=None)
"""The call that is being served here, for what integrations do within a framework; None: none, through this door."""


def context_of(call: InboundCall) -> Context:
    """What the handler of ``call`` runs in."""
    context = copy_context()
    context.run(enter, call)  # and nobody leaves it
    context.run(serving.set, call)
    return context


def responded(head: Head, context: Context, pieces: Pieces, file_wrapper: object) -> Pieces:
    """What the server gets for ``pieces``, the application's. A file in the server's own wrapper stays that, as servers
    send such files without reading them; its ``close`` tells the end."""
    if isinstance(pieces, SIZED):
        return SizedResponse(head, context, pieces)
    if isinstance(file_wrapper, type) and isinstance(pieces, file_wrapper):
        file = File(head, context, pieces)
        try:
            pieces.close = file.close  # type: ignore[attr-defined]
        except AttributeError:  # no wrapper of Python's
            pass
        else:
            file.kept = True
            return pieces
    return Response(head, context, pieces)


class File:
    """A response that the server sends by itself, from a file. ``kept``: the server has it."""

    __slots__ = ("_close", "_context", "_head", "kept")

    def __init__(self, head: Head, context: Context, wrapper: object) -> None:
        self._head = head
        self._context = context
        self.kept = False
        self._close: Callable[[], object] | None = getattr(wrapper, "close", None)
        head.going(b"")

    def __del__(self) -> None:
        if self.kept and not self._head.over:
            self._head.dropped()

    def close(self) -> None:
        """The server is done with it. Whether its client has got all, it does not tell."""
        close, self._close = self._close, None
        head = self._head
        if not head.over:
            head.sent_by_server()
        try:
            if close is not None:
                self._context.run(close)
        finally:
            head.end(head.whole())
