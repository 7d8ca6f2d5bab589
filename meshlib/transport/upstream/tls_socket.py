"""TLS on a socket of threads. OpenSSL works in memory (``ssl.SSLObject``), and the socket stays a plain one, whose waits are
the kernel's business: ``ssl.SSLSocket`` asks the kernel up to three times more a call, since it times waits by itself and
reads each record in two parts. The row "mTLS / plain text, requests/s, mesh.client()" pays for it.

What has come is decrypted whole, so that a poll tells the truth of what is still to come; the rest of it is ``held``. A
connection that ends without a goodbye (close_notify) has ended, as for ``SSLSocket``; ours says none either.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable

from meshlib.transport.upstream.environment import waiting_poll
from meshlib.transport.upstream.target import LONGEST_WAIT
from meshlib.transport.upstream.tls import Wraps, inner_of

RECORD = 16384
"""The most that one TLS record has, and one read of OpenSSL gives."""
PIECE = 65536
"""Bytes that are encrypted at a time: what is not sent yet is kept in memory."""
CLOSED_EARLY = "the server closed the connection while TLS was renegotiated"


class TlsSocket:
    """``raw``: the socket below, ``seconds`` its timeout where the kernel times it; ``unsent``: encrypted, and not taken by the
    system yet; ``held``: something is to be had of ``recv`` (bytes, the end, an error) of which no poll tells."""

    __slots__ = (
        "_blocks",
        "_decrypt",
        "_encrypt",
        "_encrypted",
        "_error",
        "_incoming",
        "_kept",
        "_now",
        "_outgoing",
        "_over",
        "_receive",
        "_send",
        "_took",
        "held",
        "raw",
        "seconds",
        "ssl_object",
        "unsent",
    )

    def __init__(self, raw: socket.socket, wraps: Wraps, server_hostname: str | None, now: Callable[[], float]) -> None:
        self.raw = raw
        self._now = now
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = wraps.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # what each call uses, looked up once
        direct = inner_of(self.ssl_object)
        self._took, self._decrypt, self._encrypt = self._incoming.write, direct.read, direct.write
        self._encrypted = self._outgoing.read
        self._receive, self._send = raw.recv, raw.sendall
        self.seconds: float | None = None
        self.unsent = bytearray()
        self.held = False
        self._blocks = True
        self._kept = b""
        self._over = False  # nothing more can be decrypted
        self._error: OSError | None = None

    def do_handshake(self, limit: float | None) -> None:
        """Raises OSError; TimeoutError when it is not over in ``limit`` seconds. The socket blocks afterwards."""
        by = None if limit is None else self._now() + limit
        while True:
            try:
                self.ssl_object.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange(by)
            except BaseException:
                with contextlib.suppress(OSError):  # the alert that tells the server why
                    self.raw.sendall(self._outgoing.read())
                raise
        self._limit(by)
        self.raw.sendall(self._outgoing.read())
        self.raw.settimeout(None)
        if self._incoming.pending:  # it may have come with the server's last words
            self._kept = self._decrypted()
            self.held = self._over or bool(self._kept)

    def _exchange(self, by: float | None) -> None:
        """A step of a handshake: say what is to be said, and hear what comes."""
        self._limit(by)
        self.raw.sendall(self._outgoing.read())
        self._limit(by)
        received = self.raw.recv(PIECE)
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def _limit(self, by: float | None) -> None:
        if by is not None:
            left = by - self._now()
            if left <= 0:
                raise TimeoutError
            self.raw.settimeout(min(left, LONGEST_WAIT))

    # -- reading ------------------------------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What has come, b"" at the end. ``size``: of the encrypted bytes that are taken at a time, so that it may be up to a
        record more. Raises OSError; TimeoutError or BlockingIOError when nothing came in time."""
        if self.held:
            return self._take_held()
        seconds = self.seconds
        by = None if seconds is None else self._now() + seconds
        received = self._receive(size, flags)
        if not received:
            return received
        self._took(received)
        try:
            data = self._decrypt(RECORD)
        except ssl.SSLWantReadError:
            data = self._rest(None, None)
        except OSError as error:
            data = self._rest(None, error)
        else:
            if data and not self._incoming.pending and not self._outgoing.pending:  # one whole record, as nearly always
                return data
            data = self._rest(data, None)
        return data or self._recv_more(size, flags, by)

    def feed(self, data: bytes | memoryview) -> bytes:
        """What ``raw`` has given to somebody else, decrypted as far as it is whole; see ``held``."""
        self._took(data)
        return self._decrypted()

    def _recv_more(self, size: int, flags: int, by: float | None) -> bytes:
        """What came was not a whole record, or nothing for the reader (a session ticket)."""
        while not self.held:
            if self._blocks and not flags:
                self._wait(by)
            received = self.raw.recv(size, flags)
            if not received:
                return received
            self._incoming.write(received)
            if data := self._decrypted():
                return data
        return self._take_held()

    def _wait(self, by: float | None) -> None:
        """For more of what has begun: the kernel's timeout would begin again with each byte."""
        poll = waiting_poll(self.raw)
        poll.register(self.raw, select.POLLIN)
        left = None if by is None else min(max(by - self._now(), 0.0), LONGEST_WAIT) * 1000
        if not poll.poll(left):
            raise TimeoutError

    def _decrypted(self) -> bytes:
        """All records that are whole. Their end, or what is wrong behind them, is held."""
        try:
            data = self._decrypt(RECORD)
        except ssl.SSLWantReadError:
            return self._rest(None, None)
        except OSError as error:
            return self._rest(None, error)
        if data and not self._incoming.pending and not self._outgoing.pending:
            return data
        return self._rest(data, None)

    def _rest(self, data: bytes | None, error: OSError | None) -> bytes:
        """All records from the first one's ``data`` on, b"" being a goodbye. None: there is not a whole one, or an error."""
        found: list[bytes] = []
        goodbye = False
        try:
            while data:
                found.append(data)
                data = self._decrypt(RECORD)
            goodbye = data is not None
        except ssl.SSLWantReadError:
            pass
        except OSError as failed:
            error = failed
        if goodbye or error is not None:
            self._error = error
            self._over = self.held = True
        if self._outgoing.pending:  # an alert, a renegotiation, new keys
            self.unsent += self._encrypted()
            with contextlib.suppress(OSError):  # reading will tell
                self._flush(socket.MSG_DONTWAIT)
        return b"".join(found)

    def _take_held(self) -> bytes:
        data, self._kept = self._kept, b""
        if data:
            self.held = self._over
        elif self._error is not None:
            raise self._error
        return data

    # -- writing ------------------------------------------------------------------------------------------------------

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """All of ``data`` as it goes over the wire, behind ``unsent``. Raises OSError (ssl.SSLWantReadError: while a server
        renegotiates)."""
        taken = self._encrypt(data) if data else 0
        while taken < len(data):  # some versions of Python take a record at a time
            taken += self._encrypt(memoryview(data)[taken:])
        return self._encrypted()

    def sendall(self, data: bytes) -> None:
        """Write it all, as blocking sockets do: the timeout is that of each step."""
        if self.unsent:
            self._send(self.unsent)
            self.unsent.clear()
        taken = 0
        if len(data) <= PIECE:
            try:
                taken = self._encrypt(data)
            except ssl.SSLWantReadError:
                self._renegotiate()
                taken = self._write(data)
            self._send(self._encrypted())
            if taken == len(data):
                return
        with memoryview(data) as view:
            while taken < len(view):
                taken += self._write(view[taken : taken + PIECE])
                self._send(self._encrypted())

    def _write(self, data: bytes | memoryview) -> int:
        while True:
            try:
                return self._encrypt(data)
            except ssl.SSLWantReadError:
                self._renegotiate()

    def _renegotiate(self) -> None:
        """A step of what the server has begun (TLS 1.2)."""
        self._send(self._encrypted())
        received = self._receive(PIECE)
        if not received:
            raise ConnectionResetError(CLOSED_EARLY) from None
        self._took(received)

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Take some of ``data``, and write what the system takes of it without waiting: the rest is ``unsent``, and goes with
        the next call, which may be one with nothing else. Raises OSError; BlockingIOError while there is no room."""
        if self.unsent:
            self._flush(flags)
        if not data:
            return 0
        taken = self._encrypt(data[:PIECE])
        self.unsent += self._encrypted()
        with contextlib.suppress(BlockingIOError, InterruptedError):
            self._flush(flags)
        return taken

    def _flush(self, flags: int) -> None:
        unsent, send = self.unsent, self.raw.send
        while unsent:
            del unsent[: send(unsent, flags)]

    # -- as of the socket -----------------------------------------------------------------------------------------------

    def setblocking(self, flag: bool) -> None:
        """As of sockets."""
        self._blocks = flag
        self.raw.setblocking(flag)

    def fileno(self) -> int:
        """As of sockets."""
        return self.raw.fileno()

    def shutdown(self, how: int) -> None:
        """As of sockets, from any thread: TLS says nothing."""
        self.raw.shutdown(how)

    def close(self) -> None:
        """As of sockets."""
        self.raw.close()

    def detach(self) -> int:
        """As of sockets."""
        return self.raw.detach()


AnySocket = socket.socket | TlsSocket
"""What a connection of threads is on."""


def plain_socket(sock: AnySocket) -> socket.socket:
    """The system's."""
    return sock.raw if isinstance(sock, TlsSocket) else sock


def ssl_object(sock: AnySocket) -> ssl.SSLObject | None:
    """None of a connection in plain text."""
    return sock.ssl_object if isinstance(sock, TlsSocket) else None


def holds(sock: AnySocket) -> bool:
    """Whether something is to be read of which no poll tells."""
    return isinstance(sock, TlsSocket) and sock.held


def is_unsent(sock: AnySocket) -> bool:
    """Whether bytes that were written have not gone out yet."""
    return isinstance(sock, TlsSocket) and bool(sock.unsent)
