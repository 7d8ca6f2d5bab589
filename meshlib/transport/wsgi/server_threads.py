"""How long requests stand in line for a thread of their WSGI server (ResiliencePolicy ``loadShedding.maxQueueTime``), for
servers of which that can be known.

waitress reads a request and puts it into its line: it keeps when it read last. Servers with a ``ThreadPoolExecutor``
(gunicorn's gthread workers, a2wsgi) keep nothing, so something is put into their line that only looks how long it takes.
Of all others (gunicorn's sync workers, whose requests wait in the kernel; uWSGI; greenlets) nothing can be known.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from meshlib.transport.runtimes.thread_line import ThreadLine

WAITRESS = "waitress.client_disconnected"
"""The key under which waitress puts a method of the connection."""


class ServerThreads:
    """Of all servers that call a door. ``now`` and ``time`` tell the time in seconds, monotonic and since the epoch."""

    __slots__ = ("_line", "_now", "_pools", "_time")

    def __init__(self, now: Callable[[], float], time: Callable[[], float]) -> None:
        self._now = now
        self._time = time
        self._line = ThreadLine(now)
        self._pools: weakref.WeakKeyDictionary[Executor, ThreadLine] = weakref.WeakKeyDictionary()

    def seconds(self, environ: Mapping[str, Any]) -> float | None:
        """How long it takes, asked in the thread that serves ``environ``; None when nobody can know."""
        channel = getattr(environ.get(WAITRESS), "__self__", None)
        came = getattr(channel, "last_activity", None)
        if isinstance(came, float):
            self._line.waited(self._time() - came)
            return self._line.seconds()
        pool = pool_here()
        if pool is None:
            return None
        line = self._pools.get(pool)
        if line is None:
            line = self._pools.setdefault(pool, ThreadLine(self._now))
        if line.wants_look():
            ticket = line.join()
            try:
                pool.submit(line.begin, ticket)
            except RuntimeError:  # it takes no more: the server stops
                line.leave(ticket)
        return line.seconds()


def pool_here() -> ThreadPoolExecutor | None:
    """The pool that this thread is of; None when it is of none."""
    # what the thread was started with: there is no other way from a thread to its pool
    given = getattr(threading.current_thread(), "_args", None)
    if not isinstance(given, tuple) or not given or not isinstance(given[0], weakref.ReferenceType):
        return None
    pool = given[0]()
    return pool if isinstance(pool, ThreadPoolExecutor) else None
