"""Resources from files and folders, watched. A reload never breaks what works: see ``removals.py``."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity
from meshlib.sources.removals import QUIET_SECONDS, FileLook, Look, Removals, Verdict
from meshlib.sources.watcher import Watcher, WatchStatus

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.resources.base import Resource
    from meshlib.resources.guarding import Guarding
    from meshlib.resources.loader import LoadMemo, LoadResult

log = logging.getLogger("meshlib.sources")

_ABOUT_A_PLACE = frozenset(("no-files", "unreadable-file", "not-a-file"))


class FileSource:
    """Files, folders (recursively), globs. ``load`` reads them all, ``reload`` says what is to be served of what they hold
    by now, and ``watch`` calls back after each change. ``clock`` tells how long they have been quiet."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]], clock: Clock) -> None:
        self.paths = [os.fspath(path) for path in paths]
        self._clock = clock
        self._memo: LoadMemo | None = None
        self._removals: Removals[Resource] = Removals()
        self._look_again: float | None = None
        self._stand_ins: list[Guarding] = []
        self._watcher: Watcher | None = None
        self._loaded: Hashable = None
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return ", ".join(self.paths)

    def load(self) -> tuple[list[Resource], list[Problem]]:
        """Every resource that is good and every problem of those that are not."""
        self._loaded = self.signature()  # before: what changes while they are read is a change
        result = self._load(read_all=False)
        self._removals.saw(self._look(result), self._clock.monotonic())
        return result.resources, result.problems

    def reload(
        self, previous: Sequence[Resource], *, by_hand: bool = False, accept: bool = False
    ) -> tuple[Verdict[Resource], list[Problem]]:
        """What to serve now, when ``previous`` has been served so far, and all that is to be said. ``by_hand`` reads
        everything, whatever the files' times say; ``accept`` takes away what is gone. Not for several threads at once."""
        result = self._load(read_all=by_hand)
        now = self._clock.monotonic()
        if self._stand_ins:  # they are made anew, for as long as what they stand for cannot be read
            made = {id(stand_in) for stand_in in self._stand_ins}
            previous = [resource for resource in previous if id(resource) not in made]
        verdict = self._removals.judge(previous, self._look(result), now, by_hand=by_hand, accept=accept)
        self._look_again = verdict.look_again
        self._stand_ins = _stand_ins(result, verdict.serve)
        verdict.serve += self._stand_ins
        said = [p for p in result.problems if not (p.code in _ABOUT_A_PLACE and p.file in verdict.places)]
        return verdict, [*said, *verdict.problems, *map(_refuses_everything, self._stand_ins)]

    def _load(self, *, read_all: bool) -> LoadResult:
        from meshlib.resources.loader import LoadMemo, load

        if self._memo is None:
            self._memo = LoadMemo()
        return load(self.paths, memo=self._memo, read_all=read_all)

    def _look(self, result: LoadResult) -> Look[Resource]:
        now = self._clock.time()
        files = {
            name: FileLook(
                signature=found.signature,
                size=found.signature[1] if found.signature else 0,
                inode=found.signature[2] if found.signature else 0,
                age=max(0.0, now - found.signature[3] / 1e9) if found.signature else 0.0,
                unreadable=found.unreadable,
                broken=found.broken,
                says_empty=found.says_empty,
                refused=found.refused,
                torn=found.torn,
            )
            for name, found in result.files.items()
        }
        there = frozenset(
            file
            for file in self._removals.files()
            if file not in files and os.path.lexists(file) and not os.path.isdir(file)
        )
        return Look(result.resources, files, result.paths, there, result.unlisted)

    # -- watching ---------------------------------------------------------------------------------------------------

    def watch(self, changed: Callable[[], object], *, seen: Hashable = None) -> None:
        """Call ``changed`` (a bound method) from a daemon thread after each batch of changes, until ``stop``, or until the
        object it belongs to has gone. By inotify or watchfiles, where there is one, and by a look at names, sizes and
        times every half second where not (``watcher.py``). What has changed since ``load`` is a change, or since ``seen``."""
        told = weakref.WeakMethod(changed)
        owner = weakref.ref(changed.__self__)  # type: ignore[attr-defined]
        del changed

        def tell() -> bool:
            call = told()
            if call is None:
                return False
            try:
                call()
            except Exception:
                # the thread must outlive a failing reload, or later good edits would be lost
                log.exception("reload of %s failed; the last good configuration stays", self)
                if self._look_again is not None:
                    self._look_again = self._clock.monotonic() + QUIET_SECONDS
            return True

        def due() -> bool:
            at = self._look_again
            return owner() is None or (at is not None and self._clock.monotonic() >= at)

        with self._lock:
            self._watcher = Watcher(self.paths, self.signature, tell, due, self._loaded if seen is None else seen)

    @property
    def changed(self) -> bool:
        """Whether files are not as they were at ``load``."""
        return self.signature() != self._loaded

    @property
    def stopping(self) -> threading.Event | None:
        """Set when the watch is to end; None when there is none."""
        watcher = self._watcher
        return watcher.stopping if watcher is not None else None

    def status(self) -> WatchStatus | None:
        """Of the watch; None when there is none. Starts it again when it is not there any more."""
        watcher = self._watcher
        if watcher is None:
            return None
        watcher.revive()
        return watcher.status()

    def stop(self, *, wait: bool = True) -> None:
        """End the watch; returns when the thread has ended, unless it is not to ``wait``."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop(wait=wait)

    def after_fork(self, changed: Callable[[], object]) -> None:
        """In a forked child the watching thread does not exist: start one if the parent had it."""
        self._lock = threading.Lock()
        if self._watcher is not None:
            self._watcher.after_fork()
            self.watch(changed, seen=self._watcher.seen)

    def signature(self) -> Hashable:
        """Names, sizes and times of all files, as they are."""
        from meshlib.resources.load_result import signature_of
        from meshlib.resources.loader import expand

        found = []
        for name in expand(self.paths):
            try:
                found.append((name, signature_of(os.stat(name))))
            except OSError as error:
                found.append((name, (error.errno or 0, 0, 0, 0)))
        return tuple(found)


def newly_wrong(problems: Sequence[Problem], before: Sequence[Problem]) -> list[Problem]:
    """The errors that were not said before."""
    return [p for p in problems if p.severity is Severity.ERROR and p not in before]


def _stand_ins(result: LoadResult, serve: Sequence[Resource]) -> list[Guarding]:
    """What stands for policies that cannot be read, but for those that have a good version: it is served."""
    made = [stand_in for found in result.files.values() for stand_in in found.stand_ins]
    if not made:
        return []
    from meshlib.resources.stand_ins import TORN

    served = {resource.id for resource in serve}
    names = {(resource.kind, resource.name) for resource in serve}
    return [
        s
        for s in made
        if not (s.id in served if s.metadata.namespace else s.stands_for == TORN and (s.kind, s.name) in names)
    ]


def _refuses_everything(stand_in: Guarding) -> Problem:
    origin = stand_in.origin
    message = f"it cannot be read and has no good version yet, so {stand_in.refuses}"
    return Problem(
        "refuses-everything", Severity.ERROR, origin.file, origin.line, origin.column, stand_in.id, message, "fix it"
    )
