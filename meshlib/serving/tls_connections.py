"""The TLS connections that a process serves, judged again when something has changed: one whose root was dropped, or whose
certificate has ended, is closed within ``LOOK`` + ``GRACE`` seconds: at once while nothing is under way, else when that has
ended, at the latest then. Of one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meshlib.serving.tls_peer import Judged, TlsPeer

if TYPE_CHECKING:
    from meshlib.alarms import Alarms, Cancellable
    from meshlib.clock import Clock
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.identity import Identity
    from meshlib.policy.spiffe_id import SpiffeId

log = logging.getLogger("meshlib.serving")

LOOK = 10.0
"""Seconds between two looks at the dates of certificates: clocks jump, which no alarm hears of."""
GRACE = 45.0
"""Seconds that what is under way has to end."""

Judge = Callable[[bytes, Sequence[bytes]], "SpiffeId | None"]
"""``Peers.identity_of``."""


class TlsConnections:
    """``judge`` says who a peer is now; what had an identity and has none any more is closed as well."""

    def __init__(self, identity: Identity | None, judge: Judge, clock: Clock, alarms: Alarms) -> None:
        self._identity = identity
        self._judge = judge
        self._clock = clock
        self._alarms = alarms
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: weakref.WeakSet[TlsPeer] = weakref.WeakSet()
        self._alarm: Cancellable | None = None
        self._judged_by: Credentials | None = None
        self.closed = 0

    def start(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        if self._identity is not None:
            self._identity.subscribe(self._rotated)
        self._judged_by = self._current()
        self._next_look()

    def stop(self) -> None:
        """Judge no more."""
        self._loop = None
        if self._alarm is not None:
            self._alarm.cancel()

    def add(self, peer: TlsPeer, transport: asyncio.Transport) -> bool:
        """From the end of its handshake on; False: it has come too late, and is not to be served."""
        known = self._judge(peer.leaf, peer.chain) is not None
        # files were looked at when it was accepted; what is newer than that has all judged again as it is found (``_rotated``)
        latest = None if self._identity is None else self._identity.latest
        if why_over(peer, latest, self._clock.time()):
            return False
        peer.judged = Judged(transport, known)
        self._open.add(peer)
        return True

    def __len__(self) -> int:
        return sum(not each.transport.is_closing() for _, each in self._all())

    def _all(self) -> list[tuple[TlsPeer, Judged]]:
        return [(peer, peer.judged) for peer in list(self._open) if peer.judged is not None]

    def look(self) -> None:
        """Judge all."""
        current, now = self._current(), self._clock.time()
        self._judged_by = current
        for peer, connection in self._all():
            if connection.alarm is not None or connection.transport.is_closing():
                continue
            why = why_over(peer, current, now)
            if not why and connection.known and self._judge(peer.leaf, peer.chain) is None:
                why = "no trusted root signs its chain any more"
            if why:
                self._end(connection, why)

    def _current(self) -> Credentials | None:
        return None if self._identity is None else self._identity.current()

    def _rotated(self, _: Credentials) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed, perhaps at this moment
                loop.call_soon_threadsafe(self.look)

    def _next_look(self) -> None:
        if self._loop is not None:
            self._alarm = self._alarms.on_loop(self._loop, LOOK, self._look_again)

    def _look_again(self) -> None:
        self.look()
        self._next_look()

    def _end(self, connection: Judged, why: str) -> None:
        assert self._loop is not None
        self.closed += 1
        log.info("a connection is closed: %s", why)
        connection.alarm = self._alarms.on_loop(self._loop, GRACE, connection.transport.abort)
        end(connection.transport)


def why_over(peer: TlsPeer, current: Credentials | None, now: float) -> str:
    """Why a connection of this peer must not go on, as ``current`` has it at ``now``; "" while it may. Pure."""
    if now >= peer.until:
        return "a certificate that it was made with has expired"
    if current is None:
        return "we have no certificate any more"
    if current is not peer.credentials and not peer.roots.issubset(current.bundles.roots):
        return "the root of its peer's certificate is no longer trusted"
    return ""


def end(transport: asyncio.Transport) -> None:
    """End a connection when what is under way on it has ended (``shutdown()`` of its protocol, ``drain()`` of the proxy's),
    else now."""
    protocol = transport.get_protocol()
    shutdown = getattr(protocol, "shutdown", None) or getattr(protocol, "drain", None)
    if shutdown is None:
        transport.close()
    else:
        shutdown()
