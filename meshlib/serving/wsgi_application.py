"""A WSGI application behind an ASGI server: ``a2wsgi`` runs it in threads; what it does not tell, and what it lets through,
is mended here.

Policies are asked before a thread is taken (``MeshASGIMiddleware`` is around this). What the application is told of the
connection is what gunicorn tells, so that a mesh of its own knows its peer as well.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from meshlib.problems import MeshError
from meshlib.transport.asgi.peer import SNI
from meshlib.transport.runtimes.thread_line import PoolThreads
from meshlib.transport.wsgi.connection import SOCKET

if TYPE_CHECKING:
    from meshlib.transport.asgi.messages import Message, Receive, Scope, Send
    from meshlib.transport.wsgi.contracts import Application, Environ, StartResponse

SOFTWARE = "meshlib"
"""``SERVER_SOFTWARE``: names of headers with ``_`` do not reach the application."""


TICKET = "meshlib.ticket"
"""Where the scope has what the request stands in line by."""


class BodyCutShort(OSError):
    """The client has gone before the body of its request had ended."""


class WsgiApplication:
    """An ASGI application of a WSGI one, ``threads`` requests at a time. Raises ``MeshError`` where a2wsgi is missing."""

    def __init__(self, app: Application, threads: int) -> None:
        try:
            from a2wsgi import WSGIMiddleware
        except ImportError as error:
            raise MeshError("--wsgi needs a2wsgi: pip install 'sidecarless[serve]'") from error
        self.threads = PoolThreads()
        told = _Told(app, self.threads)
        self._asgi = cast("Callable[..., Awaitable[None]]", WSGIMiddleware(told, workers=threads))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # X_Role and X-Role would be one name to the application, and two to those who judge
            headers = [(name, value) for name, value in scope["headers"] if b"_" not in name]
            scope = {**scope, "headers": headers}
            receive = _whole(receive)
            ticket = scope[TICKET] = self.threads.line.join()
            try:
                await self._asgi(scope, receive, send)
            finally:
                self.threads.line.leave(ticket)
            return
        await self._asgi(scope, receive, send)


def _whole(receive: Receive) -> Receive:
    """A body that is cut short fails who reads it: a2wsgi would take it for one that has ended."""
    ended = False

    async def receive_whole() -> Message:
        nonlocal ended
        message = await receive()
        if message["type"] == "http.disconnect" and not ended:
            raise BodyCutShort("the client disconnected before the body of its request was complete")
        ended = not message.get("more_body", False)
        return message

    return receive_whole


class _Told:
    """The application, told of the connection what gunicorn would tell."""

    def __init__(self, app: Application, threads: PoolThreads) -> None:
        self._app = app
        self._threads = threads

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        scope = environ["asgi.scope"]
        self._threads.line.begin(scope.get(TICKET, -1))
        environ["SERVER_SOFTWARE"] = SOFTWARE
        environ["wsgi.input_terminated"] = True  # else frameworks read nothing of a body without a length
        raw = scope.get("raw_path") or b""
        query = scope.get("query_string") or b""
        environ["RAW_URI"] = (raw + b"?" + query if query else raw).decode("latin-1")
        tls = (scope.get("extensions") or {}).get("tls")
        if tls:
            environ[SOCKET] = PeerSocket(tls, scope)
        return self._app(environ, start_response)


class PeerSocket:
    """As much of a connection's ``ssl.SSLSocket`` as tells of its peer."""

    def __init__(self, tls: dict[str, Any], scope: Scope) -> None:
        self._tls = tls
        self._scope = scope
        self.server_hostname: str = tls.get(SNI, "")
        self.context = _VERIFIED

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        """The certificate that the peer has shown, DER. Raises ValueError for another form."""
        if not binary_form:
            raise ValueError("only binary_form=True")
        chain = self._tls.get("client_cert_chain")
        return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None

    def getpeername(self) -> tuple[str, int]:
        """The peer's address."""
        host, port = self._scope["client"]
        return host, port

    def getsockname(self) -> tuple[str, int]:
        """Where it came to."""
        host, port = self._scope["server"]
        return host, port


class _Verified:
    """As much of an ``ssl.SSLContext``: our handshakes verify peers."""

    verify_mode = ssl.CERT_REQUIRED


_VERIFIED = _Verified()
