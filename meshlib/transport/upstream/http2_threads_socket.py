"""A socket that threads share: it never blocks, and one of them may wait for it in the kernel."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl

from meshlib.transport.upstream.environment import waiting_poll
from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.target import LONGEST_WAIT

RECEIVE = 65536  # not less than a TLS record, so that no decrypted bytes are left where poll does not see them
TLS_RECORD = 16384

NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class SharedSocket:
    """``unwritten``: what it has not taken. Used under the connection's lock, but for ``wait``."""

    __slots__ = ("_kick_in", "_kick_out", "_poll", "sock", "tls", "unwritten")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.tls = isinstance(sock, ssl.SSLSocket)
        self.unwritten = bytearray()
        self._kick_out, self._kick_in = socket.socketpair()
        self._kick_out.setblocking(False)
        self._kick_in.setblocking(False)
        self._poll = waiting_poll(sock)
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._kick_out, select.POLLIN)

    def receive(self) -> bytes | None:
        """What is there, b"" at the end of the connection, None: nothing. Raises OSError."""
        try:
            return self.sock.recv(RECEIVE)
        except NOT_NOW:
            return None

    def write(self, data: bytes) -> None:
        """Write what is unwritten and ``data``, as far as the socket takes it. Raises OSError."""
        left, sent = self.unwritten, 0
        try:
            if not left and not self.tls:
                sent = self.sock.send(data)
                if sent < len(data):
                    left += data[sent:]
                return
            left += data
            with memoryview(left) as view:
                while sent < len(left):
                    # a TLS record that had no room must be tried again with the same bytes, so they stay in place
                    with view[sent : sent + TLS_RECORD] if self.tls else view[sent:] as piece:
                        sent += self.sock.send(piece)
        except NOT_NOW:
            if not left:
                left += data
                return
        del left[:sent]

    # -- waiting in the kernel --------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Before ``wait``: for what comes, and for room if bytes are unwritten."""
        self._poll.modify(self.sock, select.POLLIN | select.POLLOUT if self.unwritten else select.POLLIN)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Until something can be done or ``kick`` was called; empty when the seconds are over."""
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
        for sock in (self.sock, self._kick_in, self._kick_out):
            close_copy(sock)
