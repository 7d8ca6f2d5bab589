"""What a pool of HTTP/2 connections asks of the pool of HTTP/1.1 connections beside it, which makes it and hands itself in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from meshlib.alarms import Alarms
from meshlib.engine.outcome import Outcome
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.loop_deadlines import Deadlines
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls_socket import AnySocket
from meshlib.transport.upstream.trace import Trace


class ThreadsBeside(Protocol):
    """Of blocking clients; from any thread."""

    closed: bool

    def dial(
        self, target: Target, protocols: Sequence[str], limit: float | None, trace: Trace | None = None
    ) -> AnySocket | Outcome:
        """A new socket, TLS done and ``protocols`` offered in it. Raises TimeoutError when ``limit`` seconds passed."""
        ...

    def admit(self, limits: ClientLimits, attempt: Attempt) -> Outcome | None:
        """Wait until the client's limits allow one more connection in use. None: they do, and its slot is the caller's."""
        ...

    def make_room(self, limits: ClientLimits) -> None:
        """Close idle HTTP/1.1 connections of a client if a new one would be one too many."""

    def idle_of(self, limits: ClientLimits) -> int:
        """How many idle HTTP/1.1 connections of a client are kept."""
        ...


class LoopBeside(Protocol):
    """Of an event loop."""

    loop: asyncio.AbstractEventLoop
    alarms: Alarms
    deadlines: Deadlines
    now: Callable[[], float]
    closed: bool

    async def dial(
        self, protocol: asyncio.Protocol, target: Target, protocols: Sequence[str], trace: Trace | None = None
    ) -> asyncio.Transport:
        """The transport of a new connection, TLS done and ``protocols`` offered in it. Raises OSError, PeerNameMismatch."""
        ...

    def adopt(self, transport: asyncio.Transport, target: Target) -> None:
        """A connection that was made for HTTP/2 and whose server chose HTTP/1.1: use it for the next call."""

    def takes_slot(self, slots: Slots, limits: ClientLimits) -> bool:
        """Whether a slot of the client's limits was to be had."""
        ...

    def make_room(self, limits: ClientLimits) -> None:
        """Close idle HTTP/1.1 connections of a client if a new one would be one too many."""

    def idle_of(self, limits: ClientLimits) -> int:
        """How many idle HTTP/1.1 connections of a client are kept."""
        ...

    def until_closed(self, limit: float | None = None) -> AbstractAsyncContextManager[None]:
        """Bound what is awaited inside by ``limit`` seconds and by the mesh's closing: TimeoutError, either way."""
        ...
