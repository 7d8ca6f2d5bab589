"""Connections after 101 Switching Protocols: no HTTP any more, raw bytes both ways, until somebody closes them.

They have left the pool for good. Whoever holds one holds its slots too; the route's timeout ended with the head.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Lock

from meshlib.clock import SystemClock
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket, holds, is_unsent, plain_socket, ssl_object

HIGH_WATER = 256 * 1024  # unread bytes at which a connection of a loop stops reading
LOW_WATER = 64 * 1024
READ = 16384  # the least that is read of a TLS connection at a time
GOODBYE_SECONDS = 0.5

CLOSED = "the connection is closed"


class SyncSwitched:
    """The response's body in place of one: nothing to iterate, ``read`` and ``write`` instead. One thread may read while
    another writes; ``close`` wakes both, and calls ``give_up`` once. Raises OSError, TimeoutError."""

    __slots__ = ("__weakref__", "_closed", "_end", "_least", "_left", "_lock", "_sock")

    def __init__(self, sock: AnySocket, left: bytes, give_up: Callable[[], None]) -> None:
        # not __del__: of a piece of garbage with the socket in it that may come after the socket's own finaliser
        self._end = weakref.finalize(self, _shut, sock, give_up)
        self._end.atexit = False
        self._closed = False
        self._sock = sock
        # an OpenSSL connection must not be used by two threads at once: nobody waits in it
        self._sock.setblocking(False)
        self._least = READ if isinstance(sock, TlsSocket) else 0
        self._left = memoryview(left)
        self._lock = Lock()

    def read(self, most: int, timeout: float | None) -> bytes:
        """Some bytes, b"" at the end."""
        until = None if timeout is None else SystemClock.monotonic() + timeout
        while True:
            with self._lock:
                if not self._left:
                    if self._closed:
                        raise ConnectionAbortedError(CLOSED)
                    try:
                        data = self._sock.recv(max(most, self._least))
                        if len(data) <= most:
                            return data
                        self._left = memoryview(data)
                    except BlockingIOError:
                        pass
                if self._left:
                    data, self._left = bytes(self._left[:most]), self._left[most:]
                    return data
            self._wait(select.POLLIN, until, "nothing to read")

    def write(self, data: bytes, timeout: float | None) -> None:
        """All of ``data``."""
        until = None if timeout is None else SystemClock.monotonic() + timeout
        view = memoryview(data)
        while view or is_unsent(self._sock):
            with self._lock:
                if self._closed:
                    raise ConnectionAbortedError(CLOSED)
                try:
                    view = view[self._sock.send(view) :]
                    continue
                except BlockingIOError:
                    wanted = select.POLLOUT
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
            self._wait(wanted, until, "nothing could be written")

    def _wait(self, wanted: int, until: float | None, problem: str) -> None:
        number = self._sock.fileno()
        if number < 0:
            raise ConnectionAbortedError(CLOSED)
        poll = select.poll()
        poll.register(number, wanted)
        if not poll.poll(None if until is None else max(0.0, until - SystemClock.monotonic()) * 1000):
            raise TimeoutError(f"{problem} in time")

    def extra(self, name: str) -> object:
        """See ``network_stream``."""
        return extra_of_socket(self._sock, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        """Close the connection, from any thread."""
        self._closed = True
        self._end()

    abort = close


def _shut(sock: AnySocket, give_up: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):  # the other side may have been first
        sock.shutdown(socket.SHUT_RDWR)  # wakes who waits in poll
    give_up()


class _Raw(asyncio.Protocol):
    """What the transport talks to after 101."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, left: bytes, give_up: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._give_up = give_up
        self._received = bytearray(left)
        self._paused = False
        self._over = transport.is_closing()
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self.transport = transport
        transport.set_protocol(self)
        self.closed = False
        self.lost: asyncio.Future[None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > HIGH_WATER and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._over = True
        _wake(self._reader)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self._error = error
        _wake(self.lost)
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._writer)

    async def read(self, most: int, timeout: float | None) -> bytes:
        async with asyncio.timeout(timeout):
            while not self._received:
                if self.closed:
                    raise ConnectionAbortedError(CLOSED)
                if self._error is not None:
                    raise self._error
                if self._over:
                    return b""
                self._reader = self._loop.create_future()
                await self._reader
        data = bytes(self._received[:most])
        del self._received[:most]
        if self._paused and len(self._received) < LOW_WATER:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes, timeout: float | None) -> None:
        if self.closed or self._over or self.transport.is_closing():
            raise self._error or ConnectionAbortedError(CLOSED)
        self.transport.write(data)
        async with asyncio.timeout(timeout):
            while self._writer is not None and not self._writer.done():
                await asyncio.shield(self._writer)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """What was written still goes out."""
        if not self.closed:
            self.closed = True
            self._give_up()
            self.transport.close()
            _wake(self._reader)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class AsyncSwitched:
    """As ``SyncSwitched``, on the loop of its connection."""

    __slots__ = ("_loop", "_raw")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, left: bytes, give_up: Callable[[], None]
    ) -> None:
        self._raw = _Raw(loop, transport, left, give_up)
        self._loop = loop

    async def read(self, most: int, timeout: float | None) -> bytes:
        """Some bytes, b"" at the end."""
        try:
            return await self._raw.read(most, timeout)
        except TimeoutError:
            raise TimeoutError("nothing to read in time") from None

    async def write(self, data: bytes, timeout: float | None) -> None:
        """All of ``data``."""
        try:
            await self._raw.write(data, timeout)
        except TimeoutError:
            raise TimeoutError("nothing could be written in time") from None

    def extra(self, name: str) -> object:
        """See ``network_stream``."""
        return extra_of_transport(self._raw.transport, name)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        return
        yield b""

    def abort(self) -> None:
        """Close the connection."""
        self._raw.close()

    async def aclose(self) -> None:
        """Close the connection: what was written goes out, then TLS has a moment to say goodbye."""
        raw = self._raw
        raw.close()
        if not raw.lost.done():
            await asyncio.wait((raw.lost,), timeout=GOODBYE_SECONDS)
            raw.transport.abort()

    def __del__(self) -> None:
        raw = self._raw
        if not raw.closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(raw.close)  # perhaps another thread's garbage collector


def extra_of_socket(sock: AnySocket, name: str) -> object:
    """``get_extra_info`` of httpcore's blocking streams."""
    if name == "socket":
        return plain_socket(sock)
    if name == "ssl_object":
        return ssl_object(sock)
    if name == "client_addr":
        return plain_socket(sock).getsockname()
    if name == "server_addr":
        return plain_socket(sock).getpeername()
    if name == "is_readable":
        return holds(sock) or readable(sock.fileno())
    return None


_NAMES = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername", "socket": "socket"}


def extra_of_transport(transport: asyncio.BaseTransport, name: str) -> object:
    """``get_extra_info`` of httpcore's streams of event loops."""
    if name == "is_readable":
        sock = transport.get_extra_info("socket")
        return True if sock is None else readable(sock.fileno())
    known = _NAMES.get(name)
    return None if known is None else transport.get_extra_info(known)


def readable(number: int) -> bool:
    """Whether something has come to a socket, or it is closed."""
    if number < 0:
        return True  # closed: httpcore says so, too
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))
