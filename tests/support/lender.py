"""One end of a socket pair as a connection of blocking clients, and whoever lent it: no server, no pool."""

from __future__ import annotations

import socket
from collections.abc import Callable

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

TARGET = Target("127.0.0.1", 80)


class Lent:
    """A ``Lender`` of one connection. ``fate`` is what became of it."""

    def __init__(self) -> None:
        self.closed = False
        self.now: Callable[[], float] = SystemClock.monotonic
        self.fate = "lent"
        ours, self.far = socket.socketpair()
        self.far.settimeout(10)
        self.connection = Connection(ours, TARGET, self)

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
