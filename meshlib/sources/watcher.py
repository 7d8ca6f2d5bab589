"""A thread that looks whether files have changed. It owns nothing but itself: whoever is told may go away, and then it ends.

What it is told by inotify (elsewhere than on Linux by watchfiles, where that is installed) only makes it look sooner: names,
sizes and times decide. So a spurious wake-up costs a few ``stat`` calls, a missed one (network file systems tell of nothing) is
made up for by the next look, and where there is nothing that tells, looks twice a second do.
"""

from __future__ import annotations

import glob
import logging
import os
import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from meshlib.sources.inotify import Inotify

log = logging.getLogger("meshlib.sources")

POLL_SECONDS = 0.5
SELDOM_SECONDS = 2.0
"""Between looks, where inotify tells when to look and has not done so lately: a process that does nothing is to sleep."""
LIVELY_SECONDS, LIVELY_LOOKS = 0.25, 20
"""After a change, and for so many looks: what came half is looked at again soon."""
RESTART_SECONDS = 0.5
"""Doubled each time in a row, up to a minute."""

POLLING = "polling"
NATIVE = "inotify" if sys.platform.startswith("linux") else "native"


class WatchStatus(TypedDict):
    """Of a watch, for ``mesh.status()``: ``kind`` is how changes are noticed, ``error`` why it was started again last."""

    alive: bool
    kind: str
    restarts: int
    error: str


class Watcher:
    """``signature`` looks at the files and gives something that differs when they do. ``changed`` is told; what it returns is
    whether there is still somebody to tell. ``due`` says whether it is time to tell anyway, ``seen`` is the signature of what
    is known already (None: of what is there now). ``restarts`` counts how often the watch died of an error, ``error`` is the
    last of them; ``kind`` is how it watches."""

    def __init__(
        self,
        paths: Sequence[str],
        signature: Callable[[], Hashable],
        changed: Callable[[], bool],
        due: Callable[[], bool],
        seen: Hashable = None,
    ) -> None:
        self._paths = list(paths)
        self._signature = signature
        self._changed = changed
        self._due = due
        self._pid = os.getpid()
        self.seen = signature() if seen is None else seen
        self._told_of_polling = False
        self.stopping = threading.Event()
        self.kind = POLLING
        self.restarts = 0
        self._looks = 0
        self.error = ""
        self._notified: Inotify | None = None
        self._lively = 0
        self._thread = self._start()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="meshlib-watch", daemon=True)
        thread.start()
        return thread

    @property
    def alive(self) -> bool:
        """Whether the thread runs; after a fork it does not."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def revive(self) -> None:
        """Start the thread again if something has killed it altogether."""
        if not self.alive and not self.stopping.is_set() and self._pid == os.getpid():
            self.restarts += 1
            self.error = self.error or "its thread had ended"
            log.error("the watch of %s had stopped and was restarted: %s", self, self.error)
            self._thread = self._start()

    def stop(self, *, wait: bool = True) -> None:
        """End the watch. Returns when the thread has ended, unless it is called from there or not to ``wait``."""
        self.stopping.set()
        notified = self._notified
        if notified is not None and self._pid == os.getpid():
            notified.wake()
        if wait and self._pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def after_fork(self) -> None:
        """In a forked child, where its thread does not exist: let go of what that held. For good: another is to be made.
        (``stopping`` is not set: the thread may have held its lock.)"""
        notified, self._notified = self._notified, None
        if notified is not None:
            notified.after_fork()

    def __str__(self) -> str:
        return ", ".join(self._paths)

    def status(self) -> WatchStatus:
        """For ``mesh.status()``."""
        return {"alive": self.alive, "kind": self.kind, "restarts": self.restarts, "error": self.error}

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            self._looks = 0
            try:
                try:
                    self._watch()
                finally:
                    self._end_notices()
                return
            except BaseException as error:  # whatever it was, later good edits must not be lost
                self.restarts += 1
                failures = 0 if self._looks > 1 else failures + 1
                self.error = f"{type(error).__name__}: {error}"
                log.error("the watch of %s failed and is restarted", self, exc_info=error)
                self.stopping.wait(min(60.0, RESTART_SECONDS * 2**failures))

    def _watch(self) -> None:
        wait = self._waiter()
        while not self.stopping.is_set():
            now = self._signature()
            self._looks += 1
            if now != self.seen or self._due():
                if not self._changed():
                    return
                self.seen = now
                if self._notified is not None:
                    self._notified.stale = True  # links may lead elsewhere
            wait()

    def _waiter(self) -> Callable[[], object]:
        """Something that returns when a change is likely, and at the latest after half a second, or after
        ``SELDOM_SECONDS`` where inotify tells."""
        self.kind = POLLING
        if NATIVE == "inotify":
            try:
                from meshlib.sources.inotify import Inotify

                self._notified = Inotify(self._places)
            except (OSError, ImportError, AttributeError) as error:  # a Python without ctypes, a select without poll
                self._no_notices(error)
                return self._poll
            self.kind, self._lively = NATIVE, LIVELY_LOOKS
            return self._wait
        try:
            from watchfiles import watch
        except ImportError:
            return self._poll
        folders = sorted({folder for folder, _ in self._places()})
        if not folders:
            return self._poll
        changes = watch(
            *folders,
            stop_event=self.stopping,
            step=20,
            debounce=50,
            rust_timeout=250,
            yield_on_timeout=True,
            raise_interrupt=False,
            watch_filter=None,
        )
        self.kind = NATIVE

        def wait() -> object:
            if self.kind == NATIVE:
                try:
                    return next(changes)
                except StopIteration:
                    pass
                except (OSError, RuntimeError) as error:  # no watches or instances left
                    self._no_notices(error)
            return self._poll()

        return wait

    def _wait(self) -> object:
        """By inotify, as long as it can be had."""
        notified = self._notified
        if notified is None:
            return self._poll()
        try:
            if notified.wait(LIVELY_SECONDS if self._lively else SELDOM_SECONDS):
                self._lively = LIVELY_LOOKS
            elif self._lively:
                self._lively -= 1
        except OSError as error:  # no watches left for a new folder
            self._end_notices()
            self._no_notices(error)
        return None

    def _poll(self) -> object:
        return self.stopping.wait(POLL_SECONDS)

    def _no_notices(self, error: Exception) -> None:
        self.kind = POLLING
        if not self._told_of_polling:
            self._told_of_polling = True
            limits = "fs.inotify.max_user_instances and max_user_watches limit how much can be watched"
            log.warning(
                "%s cannot be watched (%s): it is looked at twice a second instead%s",
                self,
                error,
                "" if isinstance(error, (ImportError, AttributeError)) else f"; {limits}",
            )

    def _end_notices(self) -> None:
        notified, self._notified = self._notified, None
        if notified is not None:
            notified.close()

    def _places(self) -> list[tuple[str, bool]]:
        """The folders to watch, and whether with all that is below them: for a file, a glob of one folder, or a path that does
        not exist yet what holds it does."""
        found = []
        for path in self._paths:
            here = Path(path)
            while not here.is_dir() and here != here.parent:
                here = here.parent
            found.append((str(here), str(here) == str(Path(path)) or any(map(glob.has_magic, Path(path).parts[:-1]))))
        return found
