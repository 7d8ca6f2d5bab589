"""Clients that let the proxy wait: for the rest of a request's head, for its body, for the next request, or with the last bytes
that they are sent.

Istio's sidecar waits for heads and bodies without end (it sets neither request_headers_timeout nor stream_idle_timeout), so a
few thousand clients that send a byte now and then hold as many connections. Here waiting has an end: that of Envoy's
recommendations for the edge, and of ``connectionSettings`` of Istio's EDGE profile.

Nothing is counted and no timer set for a request: the connections are looked at every ``EVERY`` seconds. Who then waits as
before, without progress, for longer than the limit is given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

EVERY = 5.0
"""Seconds between two looks: nobody is given up before his limit, and everybody at most so long behind it."""


class Wait(Enum):
    """What a client is waited for."""

    HEAD = "the rest of a request's head"
    BODY = "the rest of a request's body"
    NEXT = "the next request"
    LEAVE = "the client to take what was written to it before the connection closes"


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Seconds. ``head``: from the first byte of a request to the end of its head (Envoy's request_headers_timeout). ``body``:
    of a body, without a byte of it, before its response has begun (stream_idle_timeout). ``idle``: without a request
    (common_http_protocol_options.idle_timeout, which is one hour in a sidecar, too). ``leave``: of a connection that closes,
    without taking a byte of what is left to send (delayed_close_timeout; Envoy's is 1 s, but the system may tell of bytes that
    a slow client has taken only now and then)."""

    head: float = 60.0
    body: float = 300.0
    idle: float = 3600.0
    leave: float = 300.0

    def of(self, wait: Wait) -> float:
        """The limit."""
        if wait is Wait.LEAVE:
            return self.leave
        return self.head if wait is Wait.HEAD else self.body if wait is Wait.BODY else self.idle


class Client(Protocol):
    """A connection of one."""

    def waits(self) -> tuple[Wait, int] | None:
        """What it is waited for, and a number that is another one once it has made progress. None: it is not waited for."""
        ...

    def give_up(self, wait: Wait) -> None:
        """Close the connection, after 408 where a request was begun; abort it where it closes already."""
        ...


def leaves(transport: asyncio.Transport) -> tuple[Wait, int] | None:
    """What a client whose connection closes is waited for."""
    unsent = transport.get_write_buffer_size()
    return (Wait.LEAVE, unsent) if unsent else None


class SlowClients:
    """Who has let the proxy wait since when."""

    def __init__(self, limits: ClientLimits = ClientLimits()) -> None:
        self.limits = limits
        self._since: dict[Client, tuple[tuple[Wait, int], float]] = {}

    def look(self, clients: Iterable[Client], now: float) -> None:
        """At all of them. ``now``: of a monotonic clock, in seconds."""
        before, self._since = self._since, {}
        late: list[tuple[Client, Wait]] = []
        for each in clients:
            waits = each.waits()
            if waits is None:
                continue
            mark, since = before.get(each, (None, now))
            if mark != waits:
                since = now
            if now - since > self.limits.of(waits[0]):
                late.append((each, waits[0]))
            else:
                self._since[each] = (waits, since)
        for each, wait in late:
            each.give_up(wait)
