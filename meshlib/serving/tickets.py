"""How many session tickets callers are given: a ticket holds the caller's certificate, and to make one costs OpenSSL a seventh
of an mTLS handshake. Where nobody resumes, most callers are given none.

With a ticket the kernel also acknowledges the end of the client's handshake at once. Without one it would wait 40 ms for
something to send, and a client that has not set TCP_NODELAY waits with it before it sends its request: hence ``acknowledge``.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from meshlib.identity.credentials import TICKETS

ENOUGH = 8
"""Full handshakes in a row after which callers of this port do not seem to resume."""
ONE_IN = 32
"""Full handshakes of which then one is given a ticket, by which it shows when they do again."""

_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Of Linux. Elsewhere all callers are given a ticket."""


def acknowledge(sock: socket.socket) -> None:
    """What has come so far, now."""
    if _QUICK_ACK is not None:
        with contextlib.suppress(OSError):  # a unix socket, or it is gone
            sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


class Tickets:
    """Of one port. What is given changes what handshakes cost, never who may come in."""

    __slots__ = ("_in_vain",)

    def __init__(self) -> None:
        self._in_vain = 0

    def next(self) -> int:
        """How many, for the connection that is made now. 0: ``acknowledge`` when the handshake
        is over. (Of TLS 1.3; TLS 1.2 has one, always.)"""
        in_vain = self._in_vain
        return TICKETS if _QUICK_ACK is None or in_vain < ENOUGH or (in_vain - ENOUGH) % ONE_IN == 0 else 0

    def shaken(self, resumed: bool) -> None:
        """A handshake has ended, well."""
        self._in_vain = 0 if resumed else self._in_vain + 1


class Accepts:
    """The server's side of a context, with so many ``tickets`` (None: as many as it has). Stands where ``LoopTls`` wants what
    wraps."""

    __slots__ = ("_context", "_tickets")

    def __init__(self, context: ssl.SSLContext, tickets: int | None = None) -> None:
        self._context = context
        self._tickets = tickets

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_hostname: str | bytes | None
    ) -> ssl.SSLObject:
        """As ``SSLContext.wrap_bio``. OpenSSL copies the number when a connection is made; a thread that has the same context
        and comes between meets the other number, and no harm."""
        context, tickets = self._context, self._tickets
        if tickets is not None and context.num_tickets != tickets:
            context.num_tickets = tickets
        return context.wrap_bio(incoming, outgoing, server_side=True)
