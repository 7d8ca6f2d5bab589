"""Calls that were only noted when they ended, as that was perhaps the garbage collector's doing, are recorded before a scrape
and at the end of the process.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from meshlib.telemetry.registered_once import RegisteredOnce

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric


class Catching(Protocol):
    """Who notes calls."""

    def catch_up(self) -> None:
        """Record them."""
        ...


class _CatchUp:
    """A collector without metrics of its own, asked first at each scrape: lets every mesh record what it has noted."""

    def __init__(self) -> None:
        self.watchers: weakref.WeakSet[Catching] = weakref.WeakSet()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for watcher in list(self.watchers):
            watcher.catch_up()
        return []


def _make(registry: CollectorRegistry) -> _CatchUp:
    found = _CatchUp()
    registry.register(found)  # before the families, so that it comes first
    return found


_catching_up = RegisteredOnce(_make)


def record_all() -> None:
    """Record what every mesh of this process has noted: at its end, when nobody scrapes it any more, prometheus_client's files
    (PROMETHEUS_MULTIPROC_DIR) and the exporters of spans have everything."""
    for found in _catching_up.all():
        found.collect()


_exit_of = 0
"""The process whose end has been asked for."""


def record_at_exit() -> None:
    """A process asks for it at its first call that was only noted: what its parent has asked for is not its own."""
    global _exit_of
    if _exit_of == os.getpid():
        return
    _exit_of = os.getpid()
    atexit.register(record_all)
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, record_all, exitpriority=0)  # such a child ends without atexit


def catch_up_before_scrapes(registry: CollectorRegistry, watcher: Catching) -> None:
    """``watcher`` is asked to catch up whenever ``registry`` is scraped, as long as it is there."""
    _catching_up(registry).watchers.add(watcher)
