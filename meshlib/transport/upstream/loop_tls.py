"""TLS over a transport of an event loop, of clients and of servers: what asyncio has for it serves every protocol there is and
costs a call some 20 us more. This one lets the transport below keep what is not sent yet.

A peer that closes is heard as asyncio's TLS tells it: ``eof_received``, whether it said goodbye (close_notify) or not. Closing
says goodbye and does not wait for the peer's: asyncio's waits, and cuts off who reads slowly meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterable
from typing import Any

from meshlib.transport.upstream.refused_certificates import may_refuse_late, refusal_in
from meshlib.transport.upstream.tls import Wraps, inner_of
from meshlib.transport.upstream.told_certificates import told_of

RECORD = 16384
"""The most that one TLS record has, and one read of OpenSSL gives."""
_NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
CLOSED_EARLY = "the server closed the connection during the TLS handshake"


_NOBODY = asyncio.Protocol()
"""Who hears of a connection that is gone."""


class LoopTls(asyncio.Transport, asyncio.Protocol):
    """The protocol of the transport below, and the transport of the ``inner`` protocol, which hears of it once the handshake is
    over. ``handshake``: done then, or failed (OSError, UnicodeDecodeError of a certificate that cannot be read). ``wraps`` says
    whose side this is; only clients have a ``server_hostname``."""

    __slots__ = (
        "_backlog",
        "_below",
        "_closing",
        "_decrypt",
        "_encrypt",
        "_encrypted",
        "_error",
        "_incoming",
        "_inner",
        "_lost",
        "_made",
        "_outgoing",
        "_peer",
        "_send",
        "_tls",
        "_took",
        "_usual",
        "handshake",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, inner: asyncio.Protocol, wraps: Wraps, server_hostname: str | None
    ) -> None:
        # not asyncio's __init__: what it keeps, the extra information, the transport below has
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = wraps.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # what each request calls, looked up once (row "mTLS / plain text, requests/s, mesh.async_client()")
        direct = inner_of(self._tls)
        self._took, self._decrypt, self._encrypt = self._incoming.write, direct.read, direct.write
        self._encrypted = self._outgoing.read
        self._send: Callable[[bytes], object] = _nowhere
        self._inner: asyncio.BaseProtocol = inner
        self._below: Any = None
        self._peer: object = None
        self._backlog: list[bytes] = []  # written while the server renegotiates (TLS 1.2)
        self._made = False  # the inner protocol has heard of us
        self._closing = self._lost = False
        self._usual = False  # made, not closing, no backlog
        self._error: Exception | None = None
        self.handshake: asyncio.Future[None] = loop.create_future()
        self.handshake.add_done_callback(_noticed)

    # -- of the transport below ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: begin, unless it is the client who does."""
        self._below = transport
        self._send = transport.write  # type: ignore[attr-defined]
        if not self._tls.server_side:
            self._shake()

    def data_received(self, data: bytes) -> None:
        """Records, whole or in part."""
        self._took(data)
        if not self._made and (not self._shake() or not (self._incoming.pending or self._backlog)):
            return  # to ask for what has not come yet costs an exception
        try:
            data = self._decrypt(RECORD)
        except _NOT_NOW:
            self._give_on([], False, None)
        except OSError as error:
            self._give_on([], False, error)
        else:
            if data and self._usual and not self._incoming.pending and not self._outgoing.pending:
                # one whole record, as nearly all responses are
                self._inner.data_received(data)  # type: ignore[attr-defined]
            else:
                self._read_on(data)

    def eof_received(self) -> bool:
        """The server sends no more."""
        if self._made:
            if not self._closing:
                self._ended()
        else:
            self._failed(ConnectionResetError(CLOSED_EARLY))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """There is no connection any more."""
        self._closing = self._lost = True
        self._usual = False
        error = self._error or error
        if self._made:
            if isinstance(error, ConnectionError):
                error = self._unread_refusal() or error
            self._inner.connection_lost(error)
            self._inner = _NOBODY  # as asyncio's transports do: they refer to each other, and to what OpenSSL keeps
        if not self.handshake.done():
            self.handshake.set_exception(error or ConnectionResetError(CLOSED_EARLY))

    def _unread_refusal(self) -> ssl.SSLError | None:
        """A server's verdict on our certificate that asyncio has not read: it forgets what has come once a write fails, and
        behind a refusal every write does. (asyncio's own socket is still open here; uvloop's is not ours to read.)"""
        sock = self._below.get_extra_info("socket")
        if not may_refuse_late(self._tls) or not isinstance(sock, TransportSocket) or sock.fileno() < 0:
            return None
        try:
            with sock.dup() as copy:  # it does not wait, either
                self._took(copy.recv(2 * RECORD))
            self._decrypt(RECORD)
        except ssl.SSLError as found:
            return found if refusal_in(found) else None
        except OSError:  # nothing has come
            return None
        return None

    def pause_writing(self) -> None:
        """The system takes less than is written."""
        if self._made:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has taken enough."""
        if self._made:
            self._inner.resume_writing()

    # -- TLS ----------------------------------------------------------------------------------------------------------

    def _shake(self) -> bool:
        """A step of the handshake. True: it is over and good."""
        if self.handshake.done():  # it has failed, or who asked for it is gone and aborts
            return False
        try:
            self._tls.do_handshake()
            self._flush()
            self._peer = told_of(self._tls)
        except _NOT_NOW:
            self._flush()
            return False
        except (OSError, ValueError) as error:
            self._flush()  # the alert that tells the peer why
            self._closing = True
            self._usual = False
            self.handshake.set_exception(error)
            self._below.close()  # uvloop's writes at the end of its turn, and forgets it when it is aborted
            return False
        self._made = True
        self._usual = not self._backlog
        self._inner.connection_made(self)
        self.handshake.set_result(None)
        return True

    def _read_on(self, data: bytes) -> None:
        """Give on what can be read, from the first record's ``data`` on. A read gives the whole of a record: when nothing waits
        for OpenSSL, there is no more."""
        read, incoming = self._tls.read, self._incoming
        found: list[bytes] = []
        error: Exception | None = None
        try:
            while data:
                found.append(data)
                if not incoming.pending:
                    break
                data = read(RECORD)
        except _NOT_NOW:
            pass
        except OSError as failed:
            error = failed
        self._give_on(found, not data, error)

    def _give_on(self, found: list[bytes], over: bool, error: Exception | None) -> None:
        """What was read, and that the server has said goodbye or what is wrong behind it."""
        if self._outgoing.pending:
            self._flush()
        if found and not self._closing:
            self._inner.data_received(found[0] if len(found) == 1 else b"".join(found))  # type: ignore[attr-defined]
        if error is not None:
            self._failed(error)
        elif over and not self._closing:
            self._ended()
        elif self._backlog:
            self._write_backlog()

    def _ended(self) -> None:
        """The server has said all."""
        self._inner.eof_received()  # type: ignore[attr-defined]
        self.close()  # a TLS connection has no half

    def _failed(self, error: Exception) -> None:
        self._closing = True
        self._usual = False
        if not self.handshake.done():
            self.handshake.set_exception(error)
        elif self._error is None:
            self._error = error
        self._below.abort()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._below.write(data)

    def _write_backlog(self) -> None:
        """Again, after a renegotiation got further."""
        backlog, self._backlog = self._backlog, []
        self._usual = not self._closing
        for data in backlog:
            self.write(data)

    # -- of the protocol above ----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, without waiting."""
        if not self._usual or not data:
            if data and not self._closing:
                self._backlog.append(bytes(data))
            return
        taken = 0
        try:
            taken = self._encrypt(data)
            while taken < len(data):  # some versions of Python take a record at a time
                taken += self._encrypt(memoryview(data)[taken:])
        except _NOT_NOW:
            self._backlog.append(bytes(memoryview(data)[taken:]))
            self._usual = False
            self._flush()
        except OSError as error:
            self._failed(error)
        else:
            self._send(self._encrypted())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """As one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections here."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, ``sslcontext``, ``peercert``, and what the transport below knows."""
        if name == "ssl_object":
            return self._tls
        if name == "peercert":
            return self._peer
        if name == "sslcontext":
            return self._tls.context
        return self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether nothing is sent any more."""
        return self._closing or self._below.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on it hears."""
        self._inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who hears."""
        return self._inner

    def is_reading(self) -> bool:
        """Whether more is read."""
        return bool(self._below.is_reading())

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._closing:
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._closing:
            self._below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of bytes as they are sent, encrypted."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        limits: tuple[int, int] = self._below.get_write_buffer_limits()
        return limits

    def get_write_buffer_size(self) -> int:
        """Bytes that the system has not taken."""
        return int(self._below.get_write_buffer_size()) + sum(map(len, self._backlog))

    def close(self) -> None:
        """Say goodbye after what was written, and close."""
        if self._closing:
            return
        self._closing = True
        self._usual = False
        with contextlib.suppress(OSError, ValueError):  # the server's own goodbye is not waited for
            self._tls.unwrap()
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """Close now. Nothing when the connection is gone, which the transport below would not bear."""
        self._closing = True
        self._usual = False
        if not self._lost:
            self._below.abort()


def _nowhere(_data: bytes) -> None:
    """Where bytes go before there is a transport below."""


def _noticed(handshake: asyncio.Future[None]) -> None:
    """Who asked may be gone before it fails; asyncio would say so."""
    if not handshake.cancelled():
        handshake.exception()
