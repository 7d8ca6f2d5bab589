"""Connections over mTLS are let go when the certificates that they stand on are: where these were replaced they take no new
calls; where these are worth nothing any more (a root was dropped, a date has passed) calls have half a minute to end.

It looks after each rotation, and every few seconds while such a connection is open: dates are those of the wall clock, which
may jump. From the moment that certificates are worth nothing to the end of the last call it takes ``LOOK`` (to see it),
``servers.GRACE`` and ``LOOK`` again: less than 60 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from meshlib.identity.servers import Servers, Standing, Vouched

if TYPE_CHECKING:
    from meshlib.alarms import Alarm, Alarms
    from meshlib.identity.identity import Identity

LOOK = 10.0
"""Seconds between two looks."""

Judge = Callable[[Vouched], Standing]


class Pool(Protocol):
    """Connections of threads, or of one event loop."""

    def has_mutual(self) -> bool:
        """Whether there are any over mTLS of the mesh. From any thread."""
        ...

    def let_go(self, standing: Judge) -> None:
        """Close those that are not to be used any more, as far as each may be. On the pool's own loop, where it has one."""
        ...


class TrustWatch:
    """Of one mesh. ``here`` is the pool of threads, ``loops`` those of event loops."""

    __slots__ = ("__weakref__", "_alarm", "_alarms", "_here", "_identity", "_lock", "_loops", "_made", "_servers")

    def __init__(
        self,
        servers: Servers,
        identity: Identity | None,
        alarms: Alarms,
        here: Pool,
        loops: Mapping[asyncio.AbstractEventLoop, Pool],
    ) -> None:
        self._servers = servers
        self._identity = identity
        self._alarms = alarms
        self._here = here
        self._loops = loops
        self._lock = threading.Lock()
        self._alarm: Alarm | None = None
        self._made = False  # a connection, since the last look
        me = weakref.ref(self)  # what has an alarm or an identity does not keep a mesh that is dropped
        servers.noticed = functools.partial(_call, me, TrustWatch.begin)
        if identity is not None:
            identity.subscribe(functools.partial(_call, me, TrustWatch.look))

    def begin(self) -> None:
        """A connection has been made."""
        self._made = True
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is None:
            with self._lock:
                if self._alarm is None and not self._alarms.closed:
                    self._alarm = self._alarms.after(LOOK, functools.partial(_call, weakref.ref(self), TrustWatch.ring))

    def ring(self) -> None:
        """By its alarm."""
        with self._lock:
            self._alarm = None
        made, self._made = self._made, False
        if self._identity is not None:
            self._identity.current()  # files are looked at, though no connection is made
        if self.look() or made:
            self._set_alarm()

    def look(self) -> bool:
        """Let go what is to be let go. Whether there are connections over mTLS."""
        standing = self._servers.standing
        found = self._here.has_mutual()
        if found:
            self._here.let_go(standing)
        for loop, pool in list(self._loops.items()):
            if pool.has_mutual():
                found = True
                with contextlib.suppress(RuntimeError):  # closed, perhaps at this moment
                    loop.call_soon_threadsafe(pool.let_go, standing)
        return found

    def after_fork(self) -> None:
        """In a forked child, which has no connections yet and no alarm."""
        self._lock = threading.Lock()
        self._alarm = None


def _call(watch: weakref.ref[TrustWatch], what: Callable[[TrustWatch], object], *_told: object) -> None:
    found = watch()
    if found is not None:
        what(found)
