"""One end of a socket pair as a connection of blocking clients, over TLS or not, and whoever lent it: no server, no pool."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

import trustme

from meshlib.clock import SystemClock
from meshlib.engine.call import NO_TIMEOUTS, CallerTimeouts
from meshlib.engine.outcome import Outcome
from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.framing import framing_of
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.request_head import encode_head
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.threads_connection import Connection
from meshlib.transport.upstream.threads_exchange import exchange
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket

TARGET = Target("127.0.0.1", 80)
NAME = "reviews.test"
AUTHORITY = trustme.CA()
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
SERVER.num_tickets = 0  # nothing comes but what a test sends
AUTHORITY.issue_cert(NAME).configure_cert(SERVER)
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
AUTHORITY.configure_trust(CLIENT)


def secured(
    ours: socket.socket,
    theirs: socket.socket,
    now: Callable[[], float] = SystemClock.monotonic,
    server: ssl.SSLContext = SERVER,
    client: ssl.SSLContext = CLIENT,
) -> tuple[TlsSocket, ssl.SSLSocket]:
    """The two ends of a connection, after the handshake."""
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(server.wrap_socket(theirs, server_side=True)), daemon=True)
    thread.start()
    tls = TlsSocket(ours, client, NAME, now)
    tls.do_handshake(10.0)
    thread.join(60)
    return tls, made[0]


class Lent:
    """A ``Lender`` of one connection. ``fate`` is what became of it."""

    def __init__(self, tls: bool = False) -> None:
        self.closed = False
        self.now: Callable[[], float] = SystemClock.monotonic
        self.fate = "lent"
        ours, self.far = socket.socketpair()
        self.far.settimeout(60)
        used: AnySocket = ours
        if tls:
            used, self.far = secured(ours, self.far)
        self.connection = Connection(used, TARGET, self)

    def give_back(self, connection: Connection, now: float) -> None:
        self.fate = "given back" if connection.reader.reusable else "closed"

    def discard(self, connection: Connection) -> None:
        self.fate = "closed"
        connection.close()

    def carries(self, connection: Connection, number: int) -> bool:
        return self.fate == "lent" and connection.requests == number

    def exchange(
        self,
        method: bytes = b"GET",
        headers: RawHeaders | None = None,
        body: bytes | ReplayBody | None = None,
        head_timeout: float | None = 5.0,
        caller: CallerTimeouts = NO_TIMEOUTS,
    ) -> Outcome:
        """One request on the connection, as ``SyncUpstream.send`` makes it."""
        attempt = Attempt(method, b"/", headers or [(b"Host", b"a")], body, TARGET, head_timeout, caller=caller)
        framing = framing_of(attempt.headers, body)
        head = encode_head(method, b"/", framing.headers)
        self.fate = "lent"
        self.connection.requests += 1
        self.connection.reader.begin(method == b"HEAD")
        return exchange(attempt, self.connection, head, framing, self.now(), True)

    def close(self) -> None:
        self.connection.close()
        self.far.close()
