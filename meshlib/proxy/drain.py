"""How the proxy ends: what it tells, what it still accepts, and when it is over. Pure, on a clock that is handed in.

As Istio's agent ends Envoy: from SIGTERM on it is not ready, responses say ``Connection: close`` (HTTP/2: GOAWAY), idle
connections are closed, and new ones are still accepted, as those who call it learn only by and by that it goes. After
``terminationDrainDuration`` Envoy is killed, whatever is under way; here inbound listeners close before that, so that the last
requests have time to end.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

ACCEPTING = 0.6
"""Which part of the drain inbound listeners go on accepting."""
MINIMUM = 5.0
"""Seconds that an exit on zero connections waits at least: MINIMUM_DRAIN_DURATION of Istio's agent."""


class Phase(StrEnum):
    """Where the proxy stands."""

    SERVING = "LIVE"
    DRAINING = "DRAINING"
    """Told to go; listeners still accept."""
    CLOSING = "CLOSING"
    """Inbound listeners are closed; what is under way ends."""
    OVER = "OVER"


class Drain:
    """``seconds``: from ``begin`` to the end. ``on_zero``: the end comes when no connection is left, as soon as ``minimum``
    seconds have passed, and not before, however long that takes."""

    __slots__ = ("_forced", "_minimum", "_now", "_on_zero", "_only_listeners", "_seconds", "_since")

    def __init__(
        self, seconds: float, now: Callable[[], float], *, on_zero: bool = False, minimum: float = MINIMUM
    ) -> None:
        self._seconds = max(0.0, seconds)
        self._now = now
        self._on_zero = on_zero
        self._minimum = max(0.0, minimum)
        self._since: float | None = None
        self._only_listeners = False
        self._forced = False

    @property
    def draining(self) -> bool:
        """Whether responses tell clients to go, and /ready says 503."""
        return self._since is not None or self._only_listeners

    @property
    def ending(self) -> bool:
        """Whether the process is to end."""
        return self._since is not None

    @property
    def closes_all(self) -> bool:
        """Whether listeners were told to close, all of them, and not just those that callers come to."""
        return self._only_listeners or self._forced

    def begin(self) -> None:
        """SIGTERM, /quitquitquit. A second time: at once."""
        if self._since is None:
            self._since = self._now()
        else:
            self._forced = True

    def close_listeners(self) -> None:
        """POST /drain_listeners: accept no more, and go on with what is there; the process does not end."""
        self._only_listeners = True

    def phase(self, connections: int) -> Phase:
        """Where it stands with so many connections of clients."""
        if self._since is None:
            return Phase.CLOSING if self._only_listeners else Phase.SERVING
        if self._forced:
            return Phase.OVER
        passed = self._now() - self._since
        if self._on_zero:
            if passed < self._minimum:
                return Phase.CLOSING if self._only_listeners else Phase.DRAINING
            return Phase.OVER if connections == 0 else Phase.CLOSING
        if passed >= self._seconds:
            return Phase.OVER
        if passed < self._seconds * ACCEPTING and not self._only_listeners:
            return Phase.DRAINING
        return Phase.OVER if connections == 0 else Phase.CLOSING
