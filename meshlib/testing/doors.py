"""Where chaos comes in on the side of servers: between what serves the connections and a mesh's ASGI and WSGI middleware,
around which it stands while somebody plans. What the middleware sees is what it sees of a real client that is late, or
leaves."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from meshlib.testing.served import BROKEN, LEFT, Plan, gone, plan_of
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware

if TYPE_CHECKING:
    from meshlib.transport.asgi.messages import Message, Receive, Scope, Send
    from meshlib.transport.wsgi.contracts import Environ, Pieces, StartResponse


_asgi, _wsgi = MeshASGIMiddleware.__call__, MeshWSGIMiddleware.__call__


SOCKETS: Final = ("werkzeug.socket", "gunicorn.socket")
"""Where servers let WSGI applications at the connection of a request."""


def stand_in(planned: bool) -> None:
    """Stand before the middleware of all servers of this process, or not any more."""
    MeshASGIMiddleware.__call__ = _served_asgi if planned else _asgi  # type: ignore[method-assign]
    MeshWSGIMiddleware.__call__ = _served_wsgi if planned else _wsgi  # type: ignore[method-assign]


# -- ASGI -------------------------------------------------------------------------------------------------------------


async def _served_asgi(self: MeshASGIMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
    """In the place of ``MeshASGIMiddleware.__call__``."""
    plan = None if scope["type"] == "lifespan" else plan_of(self._core, scope["path"])
    if plan is None:
        await _asgi(self, scope, receive, send)
        return
    if plan.latency:
        await self._core.clock.sleep_async(plan.latency)
    made = _WebSocket if scope["type"] == "websocket" else _AsgiConnection
    connection = made(plan, receive, send)
    if plan.reset:
        connection.error = gone(BROKEN)
    else:
        try:
            await _asgi(self, scope, connection.receive, connection.send)
        except Exception:
            if connection.error is None or not connection.abort():
                raise
            return  # what it says of a client that has gone
    if connection.error is not None and not connection.abort():
        raise connection.error


class _AsgiConnection:
    """``receive`` and ``send`` of a connection that breaks as ``plan`` says. ``error``: it has."""

    def __init__(self, plan: Plan, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._why = plan.why
        self._left = plan.response
        self._left_of_request = plan.request
        self.error: ConnectionResetError | None = None

    async def receive(self) -> Message:
        left = self._left_of_request
        if self.error is not None:
            return {"type": "http.disconnect"}
        message = await self._receive() if left is None or left >= 0 else {"type": "http.request", "body": b"-"}
        if left is None or message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        if len(body) <= left:
            self._left_of_request = left - len(body)
            return message
        self._left_of_request = -1
        if left > 0:
            return {**message, "body": body[:left], "more_body": True}
        self.error = gone(LEFT)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        left = self._left
        if self.error is not None:
            raise self.error
        if left is not None:
            if left < 0:
                self.breaks(self._why)
            body = message.get("body", b"")
            if len(body) > left:
                if left:
                    await self._send({**message, "body": body[:left], "more_body": True})
                self.breaks(self._why)
            self._left = left - len(body)
        await self._send(message)

    def breaks(self, why: str) -> NoReturn:
        """From here on there is no client. Raises what servers raise then."""
        self.error = gone(why)
        raise self.error

    def abort(self) -> bool:
        """Break the real connection, where the server shows it (uvicorn does); else the client gets what the server makes of an
        application that fails."""
        transport: Any = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None or not hasattr(transport, "abort"):
            return False
        transport.abort()
        return True


class _WebSocket(_AsgiConnection):
    """The same of a WebSocket, whose messages are bodies: one that would be past the limit is not there at all."""

    async def receive(self) -> Message:
        left = self._left_of_request
        if self.error is not None:
            return {"type": "websocket.disconnect", "code": ABNORMAL}
        message = await self._receive()
        if left is None or message["type"] != "websocket.receive":
            return message
        size = _size(message)
        if size <= left:
            self._left_of_request = left - size
            return message
        self.error = gone(LEFT)
        return {"type": "websocket.disconnect", "code": ABNORMAL}

    async def send(self, message: Message) -> None:
        left = self._left
        if self.error is not None:
            raise self.error
        if left is not None:
            size = _size(message)
            if size > left:  # of one whose response is lost not even the handshake
                self.breaks(self._why)
            self._left = left - size
        await self._send(message)


ABNORMAL = 1006
"""What WebSockets end with that nobody has closed."""


def _size(message: Message) -> int:
    """Bytes of its payload."""
    text = message.get("text")
    return len(message.get("bytes") or b"") if text is None else len(text.encode())


# -- WSGI -------------------------------------------------------------------------------------------------------------


def _served_wsgi(self: MeshWSGIMiddleware, environ: Environ, start_response: StartResponse) -> Pieces:
    """In the place of ``MeshWSGIMiddleware.__call__``."""
    core = self._server.core
    plan = plan_of(core, environ.get("PATH_INFO") or "/")
    if plan is None:
        return _wsgi(self, environ, start_response)
    if plan.latency:
        core.clock.sleep(plan.latency)
    if plan.reset:
        raise _broken(environ, BROKEN)
    if plan.request is not None:
        environ = {**environ, "wsgi.input": _CutInput(environ, plan.request)}
    if plan.response is None:
        return _wsgi(self, environ, start_response)
    return _CutPieces(environ, _wsgi(self, environ, start_response), plan.response, plan.why)


def _broken(environ: Environ, why: str) -> ConnectionResetError:
    """The connection breaks, where its server lets one at it: Werkzeug keeps it, and its client would wait. Others
    get the error alone."""
    for name in SOCKETS:
        connection = environ.get(name)
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
    return gone(why)


class _CutInput:
    """``wsgi.input`` of a client that leaves after so many bytes."""

    def __init__(self, environ: Environ, after: int) -> None:
        self._environ = environ
        self._stream: Any = environ["wsgi.input"]
        self._left = after

    def _kept(self, piece: bytes, asked: int) -> bytes:
        if not asked or len(piece) <= self._left:
            self._left -= len(piece)
            return piece
        kept, self._left = piece[: max(self._left, 0)], -1
        if not kept:
            raise _broken(self._environ, LEFT)
        return kept

    def read(self, size: int = -1, /) -> bytes:
        if size is None or size < 0:
            whole = self._kept(self._stream.read(), -1)
            if self._left < 0:
                raise _broken(self._environ, LEFT)
            return whole
        return self._kept(self._stream.read(size), size)

    def readline(self, size: int = -1, /) -> bytes:
        return self._kept(self._stream.readline() if size is None or size < 0 else self._stream.readline(size), size)

    def readlines(self, _hint: int = -1, /) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class _CutPieces:
    """A response of which the client gets the beginning."""

    def __init__(self, environ: Environ, pieces: Pieces, after: int, why: str) -> None:
        self._environ = environ
        self._pieces = pieces
        self._next = iter(pieces).__next__
        self._left = after
        self._why = why

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left < 0:
            raise _broken(self._environ, self._why)
        piece = self._next()
        if len(piece) <= self._left:
            self._left -= len(piece)
            return piece
        kept, self._left = piece[: self._left], -1
        if kept:
            return kept
        raise _broken(self._environ, self._why)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
