"""One HTTP/1.1 connection of blocking clients: idle, or lent for one request."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.upstream.environment import instant_poll, is_gevents
from meshlib.transport.upstream.mutual import MutualTls, keep_session, vouched_of
from meshlib.transport.upstream.network_stream import PooledStream
from meshlib.transport.upstream.target import LONGEST_WAIT, Target
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket, plain_socket, ssl_object

if TYPE_CHECKING:
    from meshlib.identity.servers import Vouched
    from meshlib.policy.circuit_limits import Slots

RECEIVE = 65536
AT_ONCE = -1.0  # no timeout that anybody has
SHORTEST_WAIT = 0.001  # 0 would mean for ever to the kernel, and not at all to Python

IO_ERRORS = (OSError, ssl.SSLError)
TIMED_OUT = (TimeoutError, BlockingIOError)
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TIMEVAL = struct.Struct("@ll")


class Lender(Protocol):
    """Whose a connection is: lends it for one request, and takes it back."""

    closed: bool
    now: Callable[[], float]

    def give_back(self, connection: Connection, now: float) -> None:
        """The response is over: keep the connection if it is good for another."""

    def discard(self, connection: Connection) -> None:
        """Close a connection in use."""

    def carries(self, connection: Connection, number: int) -> bool:
        """Whether a connection is still in use for its request ``number``: before an interrupt it may have been kept, and
        have gone to another call."""


class Connection:
    """``near``: its server answered within ``NEAR_SECONDS`` last time; ``slot``: that the client's limits gave it, while it is
    in use."""

    __slots__ = (
        "_timeout",
        "gevents",
        "idle_since",
        "lender",
        "near",
        "opened",
        "poll",
        "raw",
        "reader",
        "requests",
        "slot",
        "sock",
        "stream",
        "target",
        "tls",
    )

    def __init__(self, sock: AnySocket, target: Target, lender: Lender) -> None:
        self.sock = sock
        self.lender = lender
        self.raw = raw = plain_socket(sock)
        self.tls = sock if isinstance(sock, TlsSocket) else None
        raw.settimeout(None)
        self._timeout: float | None = None
        self.near = False
        self.target = target
        self.reader = ResponseReader()
        self.gevents = is_gevents(raw)
        self.poll = instant_poll(raw)
        self.poll.register(raw, select.POLLIN)
        self.requests = 0
        self.opened = self.idle_since = lender.now()
        self.slot: Slots | None = None
        self.stream = PooledStream(sock, self.reader)

    def quiet(self) -> bool:
        """Nothing has arrived: neither the end of the connection nor bytes that nobody asked for."""
        tls = self.tls
        return not (self.poll.poll(0) or (tls is not None and (tls.held or tls.unsent)))

    def set_timeout(self, seconds: float | None) -> None:
        """How long the next ``sendall`` and ``recv`` may block: they raise TimeoutError or BlockingIOError after it.

        Sockets stay in blocking mode and leave the clock to the kernel (SO_RCVTIMEO, SO_SNDTIMEO), which is set only when it
        changes: Python's own timeouts (gevent's know no others) cost an ioctl and a poll a call, about a tenth of a request.
        """
        if seconds == self._timeout:
            return
        self._timeout = seconds
        if self.tls is not None:
            self.tls.seconds = seconds
        if self.gevents:
            self.raw.settimeout(None if seconds is None else min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT))
            return
        whole = 0.0 if seconds is None else max(seconds, SHORTEST_WAIT)
        packed = _TIMEVAL.pack(int(whole), int(whole % 1 * 1_000_000))
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, packed)

    def _without_waiting(self) -> None:
        """For gevent's sockets: ``set_timeout`` would wait ``SHORTEST_WAIT`` and raise TimeoutError."""
        if self.gevents and self._timeout != AT_ONCE:
            self._timeout = AT_ONCE
            self.raw.settimeout(0.0)

    def send_some(self, data: memoryview) -> int:
        """Write what the socket takes without waiting: perhaps nothing. Over TLS it may be ``unsent`` yet."""
        try:
            self._without_waiting()
            return self.sock.send(data, socket.MSG_DONTWAIT)
        except NOT_NOW:
            return 0

    def receive_some(self) -> bytes | None:
        """What has arrived, b"" at the end of the connection, None when there is nothing (TLS: nothing of the response; a
        session ticket makes the socket readable, too)."""
        try:
            self._without_waiting()
            return self.sock.recv(RECEIVE, socket.MSG_DONTWAIT)
        except NOT_NOW:
            return None

    def breaker(self) -> Callable[[], None]:
        """What breaks off the request under way, from another thread; without effect once the next one has begun."""
        number = self.requests

        def break_off() -> None:
            if self.requests == number:
                shut_down(self.sock)

        return break_off

    def give_slot_back(self) -> None:
        """The connection is in use no longer."""
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()

    def close(self) -> None:
        self.sock.close()
        if self.slot is not None:
            self.give_slot_back()

    vouched: Vouched | None = None
    leaving = cut = False
    """Of ``MutualConnection``: what it stands on, whether it takes no new call (``target.UsedByOne``), and whether its call was
    ended because that is worth nothing any more."""

    def leave(self) -> None:
        """Take no new call."""

    def __del__(self) -> None:
        # only an interrupt loses a connection; what it has goes back then, too
        with contextlib.suppress(AttributeError):  # it came before there was all of it
            self.close()


class MutualConnection(Connection):
    """Over mTLS of the mesh: its session is kept, as soon as it has one, for the next handshake. Others pay nothing for it."""

    __slots__ = ("_kept", "cut", "leaving", "vouched")

    def __init__(self, sock: AnySocket, target: Target, lender: Lender) -> None:
        super().__init__(sock, target, lender)
        self.vouched = vouched_of(ssl_object(sock))
        self._kept = self.cut = False
        self.leaving = self.vouched is None

    def leave(self) -> None:
        """Take no new call."""
        self.leaving = True

    def quiet(self) -> bool:
        """As of any connection; asked by who is about to use it again, so nobody else does at this moment."""
        if not self._kept:
            self._kept = True
            keep_session(self.target.tls, ssl_object(self.sock))
        return Connection.quiet(self)  # asked per call: super() would make an object for it

    def close(self) -> None:
        if not self._kept:
            self._kept = True
            keep_session(self.target.tls, ssl_object(self.sock))
        super().close()


def connection_on(sock: AnySocket, target: Target, lender: Lender) -> Connection:
    """A connection on a new socket."""
    return (MutualConnection if isinstance(target.tls, MutualTls) else Connection)(sock, target, lender)


def shut_down(sock: AnySocket) -> None:
    """Let a thread that is connecting, writing or reading fail at once."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
