"""When the proxy has more than it can do: connections, requests under way, memory, and how late its event loop runs.

A connection too many is reset (Envoy's ``global_downstream_max_connections``). A request too many, and while memory or lateness
is beyond its limit a new one, gets 503 with ``x-envoy-overloaded: true``, which tells Envoys not to try again. A stream of
HTTP/2 is a request as one of HTTP/1.1 is: connections alone would be no limit for those, which may have 1,024 each. Pure: the
clock and both probes are handed in, and are asked no more often than every ``LOOK`` seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable

LOOK = 0.1
"""Seconds between two looks at memory and lateness."""
BACK = 0.95
"""A limit that was exceeded is kept to again once it is at this part of it: no flutter around the limit."""
BODY = b"envoy overloaded"
"""Of the response, Envoy's."""
STATUS = 503
HEADERS = [(b"x-envoy-overloaded", b"true"), (b"content-type", b"text/plain")]

NOTHING = ""
MEMORY, LAG, CONNECTIONS, REQUESTS = "memory", "lag", "connections", "requests"


class Overload:
    """``most_connections`` and so on: the limits, None: there is none. ``memory``: resident bytes; ``lag``: how many seconds
    late the event loop runs. ``shed`` counts what was turned away, by reason. ``under_way``: requests, counted by whoever lets
    them through where ``counts_requests``."""

    __slots__ = (
        "_lag",
        "_looked",
        "_memory",
        "_most_connections",
        "_most_lag",
        "_most_memory",
        "_most_requests",
        "_now",
        "_why",
        "seen_lag",
        "seen_memory",
        "shed",
        "under_way",
    )

    def __init__(
        self,
        now: Callable[[], float],
        memory: Callable[[], int],
        lag: Callable[[], float],
        *,
        most_connections: int | None = None,
        most_requests: int | None = None,
        most_memory: int | None = None,
        most_lag: float | None = None,
    ) -> None:
        self._now = now
        self._memory = memory
        self._lag = lag
        self._most_connections = most_connections
        self._most_requests = most_requests
        self.under_way = 0
        self._most_memory = most_memory
        self._most_lag = most_lag
        self._looked = float("-inf")
        self._why = NOTHING
        self.seen_memory = 0
        self.seen_lag = 0.0
        self.shed = {CONNECTIONS: 0, REQUESTS: 0, MEMORY: 0, LAG: 0}

    def takes_connection(self, connections: int) -> bool:
        """Whether one more may be accepted beside so many; counts when not."""
        if self._most_connections is None or connections < self._most_connections:
            return True
        self.shed[CONNECTIONS] += 1
        return False

    def refuses_request(self) -> str:
        """Why a new request is turned away, "" when it is not; counts."""
        if self._most_requests is not None and self.under_way >= self._most_requests:
            self.shed[REQUESTS] += 1
            return REQUESTS
        if self._most_memory is None and self._most_lag is None:
            return NOTHING
        why = self._looked_at()
        if why:
            self.shed[why] += 1
        return why

    @property
    def counts_requests(self) -> bool:
        """Whether there is a limit for those under way."""
        return self._most_requests is not None

    @property
    def why(self) -> str:
        """What is beyond its limit, as of the last look."""
        return self._why

    def _looked_at(self) -> str:
        now = self._now()
        if 0.0 <= now - self._looked < LOOK:  # a clock that was set back looks again
            return self._why
        self._looked = now
        self._why = self._judged()
        return self._why

    def _judged(self) -> str:
        if self._most_memory is not None:
            self.seen_memory = self._memory()
            if self.seen_memory > self._most_memory * (BACK if self._why == MEMORY else 1.0):
                return MEMORY
        if self._most_lag is not None:
            self.seen_lag = self._lag()
            if self.seen_lag > self._most_lag * (BACK if self._why == LAG else 1.0):
                return LAG
        return NOTHING


class ResidentMemory:
    """Bytes of this process that are in memory; 0 where the system does not say. The file is held open: there may be no
    descriptor left when it matters."""

    __slots__ = ("_file", "_page")

    def __init__(self, path: str = "/proc/self/statm", page: int | None = None) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE") if page is None else page
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if os.path.exists(path) else -1

    def __call__(self) -> int:
        if self._file < 0:
            return 0
        return int(os.pread(self._file, 256, 0).split()[1]) * self._page

    def close(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
