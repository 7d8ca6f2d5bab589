"""A socket that threads share: it never blocks, and one of them may wait for it in the kernel."""

from __future__ import annotations

import contextlib
import math
import select
import socket

from meshlib.transport.upstream.environment import waiting_poll
from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.target import LONGEST_WAIT
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket, plain_socket

RECEIVE = 65536
NOT_NOW = (BlockingIOError, InterruptedError)


class SharedSocket:
    """``unwritten``: what it has not taken, encrypted over TLS. Used under the connection's lock, but for ``wait``."""

    __slots__ = ("_kick_in", "_kick_out", "_poll", "_raw", "sock", "tls", "unwritten")

    def __init__(self, sock: AnySocket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._raw = plain_socket(sock)
        self.tls = sock if isinstance(sock, TlsSocket) else None
        self.unwritten = bytearray() if self.tls is None else self.tls.unsent
        self._kick_out, self._kick_in = socket.socketpair()
        self._kick_out.setblocking(False)
        self._kick_in.setblocking(False)
        self._poll = waiting_poll(self._raw)
        self._poll.register(self._raw, select.POLLIN)
        self._poll.register(self._kick_out, select.POLLIN)

    def receive(self) -> bytes | None:
        """What is there, b"" at the end of the connection, None: nothing. Raises OSError."""
        try:
            return self.sock.recv(RECEIVE)
        except NOT_NOW:
            return None

    def write(self, data: bytes) -> None:
        """Write what is unwritten and ``data``, as far as the socket takes it. Raises OSError."""
        left, sent, raw = self.unwritten, 0, self._raw
        if self.tls is not None:
            data = self.tls.encrypt(data)
        try:
            if not left:
                sent = raw.send(data)
                if sent < len(data):
                    left += data[sent:]
                return
            left += data
            with memoryview(left) as view:
                while sent < len(left):
                    with view[sent:] as piece:
                        sent += raw.send(piece)
        except NOT_NOW:
            if not left:
                left += data
                return
        del left[:sent]

    # -- waiting in the kernel --------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Before ``wait``: for what comes, and for room if bytes are unwritten."""
        self._poll.modify(self._raw, select.POLLIN | select.POLLOUT if self.unwritten else select.POLLIN)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Until something can be done or ``kick`` was called; empty when the seconds are over."""
        if self.tls is not None and self.tls.held:
            return [(self._raw.fileno(), select.POLLIN)]
        ready: list[tuple[int, int]] = self._poll.poll(
            None if seconds is None else math.ceil(min(seconds, LONGEST_WAIT) * 1000)
        )
        return ready

    def is_ready(self, ready: list[tuple[int, int]]) -> bool:
        """Whether ``wait`` was for more than a kick."""
        for descriptor, _ in ready:
            if descriptor == self._kick_out.fileno():
                self._kick_out.recv(4096)
                return len(ready) > 1
        return bool(ready)

    def kick(self) -> None:
        """Let the one that waits look around."""
        with contextlib.suppress(BlockingIOError):  # then it has been told often enough
            self._kick_in.send(b"k")

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nobody waits for it."""
        self.sock.close()
        self._kick_out.close()
        self._kick_in.close()

    def close_copies(self) -> None:
        """In a forked child. The peer hears nothing."""
        for sock in (self._raw, self._kick_in, self._kick_out):
            close_copy(sock)
