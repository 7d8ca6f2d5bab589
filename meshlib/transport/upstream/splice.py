"""Two sockets joined: what comes out of one goes into the other, unread. One thread moves the bytes of all pairs of a mesh.

gRPC core accepts and makes its connections by itself; where something of ours has to stand in between (a look at the first
byte, a certificate that is judged, a connection that can be closed), it listens on, or connects to, a unix socket, which is
joined to the connection on the network.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable

from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket, plain_socket

log = logging.getLogger("meshlib.splice")

BUFFER = 256 * 1024
"""Bytes that are moved at a time. What the other side does not take is kept, and nothing more is read
until it has: a pair holds no more than this in each direction."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
BLOCKED = (BlockingIOError, InterruptedError)
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose closing resets its connection."""


def reset(sock: socket.socket) -> None:
    """Close a connection so that the other side is told it was refused, not that it has ended."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


class Splicer:
    """The thread. It starts with the first job and lasts until ``close``. Everything that is done to sockets happens in it;
    what a callback raises is logged, and the others go on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._selector: selectors.BaseSelector | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._splices: set[Splice] = set()
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.closed = False

    def call(self, job: Callable[[], None]) -> None:
        """Have ``job`` done by the thread, soon; not at all when it is closed. From any thread."""
        with self._lock:
            if self.closed:
                return
            self._jobs.append(job)
            if self._selector is None:
                self._selector = selectors.DefaultSelector()
                self._wake = socket.socketpair()
                for end in self._wake:
                    end.setblocking(False)
                self._selector.register(self._wake[0], READ, self._woken)
                threading.Thread(target=self._run, args=(self._selector,), name=self._name, daemon=True).start()
            wake = self._wake
        assert wake is not None
        with contextlib.suppress(OSError):  # full: it is awake, or will be
            wake[1].send(b"\0")

    def watch(self, sock: socket.socket, ready: Callable[[int], None], mask: int = READ) -> None:
        """Call ``ready`` whenever ``sock`` can be read (or written). In the thread."""
        assert self._selector is not None
        self._selector.register(sock, mask, ready)

    def rewatch(self, sock: socket.socket, ready: Callable[[int], None], mask: int) -> None:
        """The same for another mask. In the thread."""
        assert self._selector is not None
        self._selector.modify(sock, mask, ready)

    def unwatch(self, sock: socket.socket) -> None:
        """No more of ``watch``. In the thread."""
        assert self._selector is not None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def join(self, one: AnySocket, other: AnySocket, over: Callable[[], None]) -> Splice:
        """Move bytes between two sockets, which do not block and belong to the pair now, until both sides have ended or one
        has failed; ``over`` is called when they have been closed. In the thread."""
        return Splice(self, one, other, over)

    def close(self) -> None:
        """Close all pairs. From any thread; idempotent."""
        self.call(self._end)

    def _end(self) -> None:
        with self._lock:
            self.closed = True
            self._jobs.clear()
        for splice in list(self._splices):
            splice.end()

    def after_fork(self) -> None:
        """In a forked child: neither thread nor connections are its own."""
        for splice in list(self._splices):
            close_copy(splice.one.sock)
            close_copy(splice.other.sock)
        selector, wake = self._selector, self._wake
        if wake is not None:
            for end in wake:
                close_copy(end)
        if selector is not None:
            selector.close()
        closed = self.closed
        self._begin()
        self.closed = closed

    def _woken(self, _mask: int) -> None:
        assert self._wake is not None
        with contextlib.suppress(OSError):
            self._wake[0].recv(4096)
        while self._jobs:
            self._guarded(self._jobs.popleft())

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            log.exception("a connection could not be handled")

    def _run(self, selector: selectors.BaseSelector) -> None:
        pid = os.getpid()
        while not self.closed and pid == os.getpid():
            for key, mask in selector.select():
                ready: Callable[[int], None] = key.data
                try:
                    ready(mask)
                except Exception:
                    log.exception("a connection could not be handled")
        selector.close()
        if self._wake is not None:
            for end in self._wake:
                end.close()


class End:
    """One of the two sockets. ``waiting``: what is to go into it and has not (encrypted, over TLS); ``over``: nothing more
    comes out of it; ``spoke``: something has."""

    __slots__ = (
        "_buffer",
        "_mask",
        "_receive",
        "_send",
        "_splice",
        "_view",
        "other",
        "over",
        "sock",
        "spoke",
        "tls",
        "waiting",
    )

    other: End

    def __init__(self, splice: Splice, sock: AnySocket) -> None:
        self._splice = splice
        self.sock = raw = plain_socket(sock)
        self.tls = sock if isinstance(sock, TlsSocket) else None
        self.waiting = bytearray() if self.tls is None else self.tls.unsent
        self.over = self.spoke = False
        self._mask = READ
        self._buffer, self._view = splice.splicer.buffer, splice.splicer.view
        self._receive, self._send = raw.recv_into, raw.send

    def ready(self, mask: int) -> None:
        """The socket can be read, or written."""
        if mask & WRITE:
            self._flush()
        if mask & READ and not self.other.waiting and not self.over:
            self._move()

    def _move(self) -> None:
        try:
            count = self._receive(self._buffer)
        except BLOCKED:
            return
        except OSError:
            self._splice.end()
            return
        if not count:
            self._ended()
            return
        self.spoke = True
        if self.tls is None:
            self.other.put(self._view[:count])
            return
        data = self.tls.feed(self._view[:count])
        if data:
            self.other.put(data)
        if self.tls.held:
            self.take_held()
        elif self.tls.unsent:
            self._splice.interests()

    def take_held(self) -> None:
        """Of TLS, what no poll tells of: what came with the handshake, and how it ends."""
        assert self.tls is not None
        while self.tls.held and not self._splice.ended:
            try:
                data = self.tls.recv(0)
            except OSError:
                self._splice.end()
                return
            if not data:
                self._ended()
                return
            self.spoke = True
            self.other.put(data)

    def put(self, data: bytes | memoryview) -> None:
        """Into the socket."""
        waiting = self.waiting
        try:
            if self.tls is not None:
                data = self.tls.encrypt(data)
            sent = 0 if waiting else self._send(data)
        except BLOCKED:
            sent = 0
        except OSError:
            self._splice.end()
            return
        if sent < len(data):
            waiting += data[sent:]
            self._splice.interests()

    def _flush(self) -> None:
        """It can take something again."""
        waiting = self.waiting
        if not waiting:
            return
        try:
            del waiting[: self._send(waiting)]
        except BLOCKED:
            return
        except OSError:
            self._splice.end()
            return
        if not waiting:
            if self.other.over:
                self.other.end_other()
            self._splice.interests()

    def _ended(self) -> None:
        self.over = True
        if not self.other.waiting:
            self.end_other()
        self._splice.interests()

    def end_other(self) -> None:
        """What is over here is over there. TLS has no half of a connection to end."""
        if self.other.over or self.other.tls is not None or self.tls is not None:
            self._splice.end()
            return
        try:
            self.other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._splice.end()

    def interests(self) -> None:
        """Wait for what can be made use of."""
        mask = 0 if self.other.waiting or self.over else READ
        if self.waiting:
            mask |= WRITE
        if mask == self._mask:
            return
        before, self._mask = self._mask, mask
        splicer = self._splice.splicer
        if not mask:
            splicer.unwatch(self.sock)
        elif not before:
            splicer.watch(self.sock, self.ready, mask)
        else:
            splicer.rewatch(self.sock, self.ready, mask)


class Splice:
    """A pair at work. ``end`` closes both."""

    __slots__ = ("_over", "ended", "one", "other", "splicer")

    def __init__(self, splicer: Splicer, one: AnySocket, other: AnySocket, over: Callable[[], None]) -> None:
        self.splicer = splicer
        self._over = over
        self.ended = False
        self.one, self.other = End(self, one), End(self, other)
        self.one.other, self.other.other = self.other, self.one
        splicer._splices.add(self)
        for end in (self.one, self.other):
            splicer.watch(end.sock, end.ready)
        for end in (self.one, self.other):
            if end.tls is not None and not self.ended:
                end.take_held()

    def interests(self) -> None:
        """After something has been left, or has gone."""
        if not self.ended:
            self.one.interests()
            self.other.interests()

    def end(self) -> None:
        """Close both sockets. In the thread; idempotent."""
        if self.ended:
            return
        self.ended = True
        self.splicer._splices.discard(self)
        for end in (self.one, self.other):
            self.splicer.unwatch(end.sock)
            end.waiting.clear()
            end.sock.close()
        self._over()
