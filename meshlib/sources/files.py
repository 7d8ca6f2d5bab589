"""Resources from files and folders, watched.

A reload never breaks what works: resources that an edit broke keep their last good version while the rest of the edit
takes effect.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.errors import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.loader import LoadMemo

log = logging.getLogger("meshlib.sources")

POLL_SECONDS = 0.5
Signature = tuple[tuple[str, int, int, int], ...]


class FileSource:
    """Files, folders (recursively), globs. ``load`` reads them all; ``watch`` calls back after each change."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.paths = [os.fspath(path) for path in paths]
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._memo: LoadMemo | None = None

    def __str__(self) -> str:
        return ", ".join(self.paths)

    def load(self) -> tuple[list[Resource], list[Problem]]:
        """Every resource that is good and every problem of those that are not."""
        from meshlib.resources.loader import LoadMemo, load

        if self._memo is None:
            self._memo = LoadMemo()
        result = load(self.paths, memo=self._memo)
        return result.resources, result.problems

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` from a daemon thread after each batch of changes, until ``stop``.

        Uses watchfiles when it is installed, and a look at names, sizes and times every half second when not.
        """
        self._stop = threading.Event()
        self._pid = os.getpid()
        seen = self._signature()  # taken before the thread starts, so that no edit falls in between
        self._thread = threading.Thread(
            target=self._run, args=(changed, seen, self._stop), name="meshlib-watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the watch; returns when the thread has ended."""
        if self._stop is not None:
            self._stop.set()
        if self._thread is not None and self._pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._stop = self._thread = None

    def after_fork(self, changed: Callable[[], None]) -> None:
        """In a forked child the watching thread does not exist: start one if the parent had it."""
        if self._thread is not None:
            self.watch(changed)

    def _run(self, changed: Callable[[], None], seen: Signature, stop: threading.Event) -> None:
        wait = self._waiter(stop)
        while not stop.is_set():
            wait()
            if stop.is_set():
                return
            now = self._signature()
            if now != seen:
                seen = now
                try:
                    changed()
                except Exception:
                    # the thread must outlive a failing reload, or later good edits would be lost
                    log.exception("reload of %s failed; the last good configuration stays", self)

    def _waiter(self, stop: threading.Event) -> Callable[[], None]:
        """Something that returns when a change is likely. The signature decides whether there was one, so a spurious
        wake-up costs a few stat calls and a missed event is found by the next look."""

        def poll() -> None:
            stop.wait(POLL_SECONDS)

        try:
            from watchfiles import watch
        except ImportError:
            return poll
        folders = sorted({str(f) for f in self._folders()})
        if not folders:
            return poll
        changes = watch(
            *folders,
            stop_event=stop,
            step=20,
            debounce=50,
            rust_timeout=250,
            yield_on_timeout=True,
            raise_interrupt=False,
            watch_filter=None,
        )

        def wait() -> None:
            try:
                next(changes)
            except StopIteration:
                stop.wait(POLL_SECONDS)

        return wait

    def _folders(self) -> list[Path]:
        found = []
        for path in self.paths:
            here = Path(path)
            while not here.is_dir() and here != here.parent:
                here = here.parent  # a file, a glob, or a path that does not exist yet: watch what holds it
            found.append(here)
        return found

    def _signature(self) -> Signature:
        from meshlib.resources.loader import expand

        found = []
        for name in expand(self.paths):
            try:
                stat = os.stat(name)
            except OSError:
                continue
            found.append((name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(found)


def keep_last_good(
    loaded: Sequence[Resource], problems: Sequence[Problem], previous: Sequence[Resource]
) -> tuple[list[Resource], list[Resource]]:
    """What to serve after a reload with problems: the good resources, and for each file with an error the previous
    version of resources that are no longer among them. Returns (resources to serve, those kept from before)."""
    broken = {p.file for p in problems if p.severity is Severity.ERROR}
    if not broken:
        return list(loaded), []
    have = {r.id for r in loaded}
    kept = [r for r in previous if r.origin.file in broken and r.id not in have]
    return [*loaded, *kept], kept
