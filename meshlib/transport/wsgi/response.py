"""A response on its way from the application to the server: nothing is held back, and how it ends is told once.

The handler's request, deadline and span are current whenever its code runs: in the call, in each step of its iterable
and in ``close()``; never in between, when the thread is the server's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT
from meshlib.engine.inbound_context import enter, leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.transport.wsgi.contracts import Headers, Pieces, StartResponse, Write

BROKEN = "UC"
"""Envoy's flag for an application that breaks off its response."""
BODILESS = frozenset((204, 304))


class Head:
    """The ``start_response`` that the application gets. ``headers`` and ``status`` are those of the response as it was
    begun last (0: it was not)."""

    __slots__ = ("_call", "_start", "_write", "headers", "status")

    def __init__(self, call: InboundCall, start_response: StartResponse) -> None:
        self._call = call
        self._start = start_response
        self._write: Write | None = None
        self.status = 0
        self.headers: Headers = []

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
        code = status[:3]
        self.status = int(code) if code.isascii() and code.isdigit() else 0
        self.headers = headers
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
            call.responding(self.status)
        call.response_bytes += len(piece)

    def announced(self) -> int | None:
        """Bytes of the body as the head says, or None."""
        for name, value in self.headers:
            if name.lower() == "content-length":
                return int(value) if value.isascii() and value.isdigit() else None
        return None

    def failed(self) -> Ended:
        """The application has raised: its server responds with 500, if it can still respond."""
        sent = self._call.sent
        return Ended(sent, None, BROKEN) if sent else Ended(500)

    def whole(self) -> Ended:
        """The response has come to its end."""
        return Ended(self.status) if self.status else Ended(500)  # a server has nothing to send then

    def left(self) -> Ended:
        """The server wants no more of it: its client has gone, unless it needs no more."""
        call = self._call
        if self.status and (call.request.method == "HEAD" or self.status in BODILESS):
            return Ended(self.status)
        return Ended(call.sent) if call.sent and call.response_bytes == self.announced() else CUT


class Response:
    """The iterable that the server gets: the application's, piece by piece."""

    __slots__ = ("_call", "_close", "_exchange", "_head", "_next", "_over")

    def __init__(self, call: InboundCall, exchange: InboundExchange, head: Head, pieces: Pieces) -> None:
        self._call = call
        self._exchange = exchange
        self._head = head
        self._over = False
        self._close: Callable[[], object] | None = getattr(pieces, "close", None)
        self._next = iter(pieces).__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        call = self._call
        tokens = enter(call)
        try:
            piece = self._next()
        except StopIteration:
            self._end(self._head.whole())
            raise
        except BaseException:
            self._end(self._head.failed())
            raise
        finally:
            leave(call, tokens)
        if piece:
            self._head.going(piece)
        return piece

    def close(self) -> None:
        """The server is done with it, after the last piece or before."""
        close, self._close = self._close, None
        try:
            if close is not None:
                tokens = enter(self._call)
                try:
                    close()
                finally:
                    leave(self._call, tokens)
        finally:
            if not self._over:
                self._end(self._head.left())

    def _end(self, ended: Ended) -> None:
        if not self._over:
            self._over = True
            finish(self._exchange, ended)


class SizedResponse(Response):
    """Of a list: servers make a Content-Length of the only piece."""

    __slots__ = ("_length",)

    def __init__(
        self, call: InboundCall, exchange: InboundExchange, head: Head, pieces: list[bytes] | tuple[bytes, ...]
    ) -> None:
        super().__init__(call, exchange, head, pieces)
        self._length = len(pieces)

    def __len__(self) -> int:
        return self._length


def responded(call: InboundCall, exchange: InboundExchange, head: Head, pieces: Pieces, file_wrapper: object) -> Pieces:
    """What the server gets for ``pieces``, the application's. A file in the server's own wrapper stays that, as
    servers send such files without reading them; its ``close`` tells the end."""
    if isinstance(pieces, list | tuple):
        return SizedResponse(call, exchange, head, pieces)
    if isinstance(file_wrapper, type) and isinstance(pieces, file_wrapper):
        file = File(call, exchange, head, pieces)
        try:
            pieces.close = file.close  # type: ignore[attr-defined]
        except AttributeError:  # no wrapper of Python's
            pass
        else:
            return pieces
    return Response(call, exchange, head, pieces)


class File:
    """A response that the server sends by itself, from a file."""

    __slots__ = ("_call", "_close", "_exchange", "_head")

    def __init__(self, call: InboundCall, exchange: InboundExchange, head: Head, wrapper: object) -> None:
        self._call = call
        self._exchange = exchange
        self._head = head
        self._close: Callable[[], object] | None = getattr(wrapper, "close", None)
        call.responding(head.status)

    def close(self) -> None:
        """The server is done with it. Whether its client has got all, it does not tell."""
        close, self._close = self._close, None
        if self._call.request.method != "HEAD":
            self._call.response_bytes += self._head.announced() or 0
        try:
            if close is not None:
                tokens = enter(self._call)
                try:
                    close()
                finally:
                    leave(self._call, tokens)
        finally:
            finish(self._exchange, self._head.whole())
