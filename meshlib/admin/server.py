"""The thread that serves the admin endpoint: it waits for all its connections at once, so that a slow one holds up no other.

A connection is for one request. Its head has to come within ``HEAD_SECONDS``; a reader that takes nothing for
``STALLED_SECONDS`` is dropped; when there are ``MOST`` connections, the one that has waited longest for its client makes room
for the next. A page is made piece by piece as it is read.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable, Container, Iterator
from http import HTTPStatus

from meshlib.admin.page import Page, text
from meshlib.admin.request import NOTHING, AdminRequest, Refused, RequestReader
from meshlib.clock import machine_seconds, rest
from meshlib.transport.upstream.forked import close_copy

log = logging.getLogger("meshlib.admin")

MOST = 32
HEAD_SECONDS = 5.0
STALLED_SECONDS = 10.0
PIECE = 64 * 1024
"""Bytes that are sent, or read, at once."""
NOT_SO_FAST = 0.05
"""Seconds before the next connection is accepted where none could be."""
ENDS_WITHIN = 2.0
"""Seconds that ``close`` waits for the thread, which may be amid a page."""
HEADERS = (
    "cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n"
    "cross-origin-resource-policy: same-origin\r\ncontent-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
    "connection: close\r\n"
)

Respond = Callable[[AdminRequest], Page]


class _Connection:
    """``pieces`` None: its request has not come. ``due``: when it is given up, by ``machine_seconds``."""

    __slots__ = ("due", "left", "pieces", "reader", "socket")

    def __init__(self, accepted: socket.socket, reader: RequestReader, due: float) -> None:
        self.socket = accepted
        self.reader = reader
        self.left = b""
        self.pieces: Iterator[bytes] | None = None
        self.due = due


class AdminServer:
    """Serves ``listener`` (a non-blocking socket that listens) with what ``respond`` makes of each request. ``requests`` and
    ``failures`` count those answered, and pages that could not be made; ``dropped`` counts connections that were given up.
    ``changing``: where POST is taken. ``any_host``: others than this machine call it, by whatever name (a port for probes)."""

    def __init__(
        self,
        listener: socket.socket,
        respond: Respond,
        now: Callable[[], float] = machine_seconds,
        changing: Container[str] = NOTHING,
        *,
        any_host: bool = False,
    ) -> None:
        self._listener = listener
        self._respond = respond
        self._now = now
        self._changing = changing
        self._local = any_host or listener.family == socket.AF_UNIX
        self._connections: dict[int, _Connection] = {}
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._ending = False
        self.requests = 0
        self.failures = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._serve, name="meshlib-admin", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError where no thread can be had."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and its connections; the listener is its maker's to close. Idempotent, from any thread."""
        if self._ending:
            return
        self._ending = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(ENDS_WITHIN)

    def abandon(self) -> None:
        """In a forked child: the thread is the parent's, and so are the connections, whose copies are closed here."""
        self._ending = True
        for connection in list(self._connections.values()):
            close_copy(connection.socket)
        close_copy(self._wake)
        close_copy(self._woken)

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._ending:
                self._turn()
        except Exception:  # what nobody has thought of ends this endpoint, and nothing else
            log.exception("the admin endpoint has failed, and answers no more")
        finally:
            for connection in list(self._connections.values()):
                self._drop(connection)
            self._wake.close()
            self._woken.close()

    def _turn(self) -> None:
        """Wait until something can be done, and do it."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        for number, connection in self._connections.items():
            poll.register(number, select.POLLIN if connection.pieces is None else select.POLLOUT)
        due = min((connection.due for connection in self._connections.values()), default=None)
        ready = poll.poll(None if due is None else max(0.0, due - self._now()) * 1000.0)
        for number, _ in ready:
            found = self._connections.get(number)
            if found is not None:
                self._go_on(found)
            elif number == self._listener.fileno() and not self._ending:
                self._accept()
        now = self._now()
        for connection in [each for each in self._connections.values() if each.due <= now]:
            self.dropped += 1
            self._drop(connection)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:  # it has gone meanwhile
            return
        except OSError:  # there are no descriptors, for example: the next turn tries again, and does not spin
            rest(NOT_SO_FAST)
            return
        accepted.setblocking(False)
        if len(self._connections) >= MOST:
            self.dropped += 1
            self._drop(min(self._connections.values(), key=lambda each: (each.pieces is not None, each.due)))
        made = _Connection(
            accepted, RequestReader(local=self._local, changing=self._changing), self._now() + HEAD_SECONDS
        )
        self._connections[accepted.fileno()] = made

    def _go_on(self, connection: _Connection) -> None:
        try:
            over = self._read(connection) if connection.pieces is None else self._write(connection)
        except OSError:  # the client has gone
            over = True
        if over:
            self._drop(connection)

    def _read(self, connection: _Connection) -> bool:
        data = connection.socket.recv(PIECE)
        if not data:
            return True
        found = connection.reader.feed(data)
        if found is None:
            return False
        connection.pieces = self._answer(found)
        connection.due = self._now() + STALLED_SECONDS
        return False

    def _write(self, connection: _Connection) -> bool:
        if not connection.left:
            assert connection.pieces is not None
            try:
                connection.left = next(connection.pieces, b"")
            except Exception:  # noqa: BLE001 (logged; the client sees that the page is not whole)
                self._failed()
                return True
            if not connection.left:
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_WR)
                    connection.socket.recv(
                        PIECE
                    )  # what is unread at close() would have the system reset the connection
                return True
        sent = connection.socket.send(connection.left[:PIECE])
        connection.left = connection.left[sent:]
        connection.due = self._now() + STALLED_SECONDS
        return False

    def _answer(self, found: AdminRequest | Refused) -> Iterator[bytes]:
        if isinstance(found, Refused):
            return _written(text(f"{found.why}\n", found.status), AdminRequest("GET", "/", {}), found.allow)
        self.requests += 1
        try:
            page = self._respond(found).begun()
        except Exception:  # noqa: BLE001 (logged, and answered with 500)
            self._failed()
            page = text("this page could not be made; the log of the process (meshlib.admin) says why\n", 500)
        return _written(page, found)

    def _failed(self) -> None:
        self.failures += 1
        if self.failures == 1:
            log.exception("a page of the admin endpoint could not be made; further ones are only counted")

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        connection.socket.close()
        connection.reader.over()


def _written(page: Page, request: AdminRequest, allow: str = "GET, HEAD") -> Iterator[bytes]:
    """The response, byte for byte."""
    whole, head = page.whole, request.method == "HEAD"
    lines = f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\ncontent-type: {page.kind}\r\n{HEADERS}"
    if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines += f"allow: {allow}\r\n"
    chunks = request.chunks and whole is None
    lines += (
        f"content-length: {len(whole)}\r\n" if whole is not None else "transfer-encoding: chunked\r\n" if chunks else ""
    )
    yield f"{lines}\r\n".encode("latin-1")
    if head:
        return
    for piece in page.pieces:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunks else piece
    if chunks:
        yield b"0\r\n\r\n"
