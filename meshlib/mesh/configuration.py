"""What a mesh is configured with: its resources, where they come from, and how a change of them takes effect.

Only one change is made at a time. A change that fails leaves what is in force."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meshlib.changes import Differences, differences
from meshlib.mesh.config_log import tell_change, tell_problems
from meshlib.mesh.reloads import Reloads
from meshlib.pace import NotWanted, Slices, free_in_turns, is_watched, much_is_made, slices
from meshlib.problems import ConfigError, MeshError, Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.clock import Clock
    from meshlib.compiler.compile import Compiler
    from meshlib.resources.base import Resource
    from meshlib.resources.object_memo import ObjectMemo
    from meshlib.sources.files import FileSource
    from meshlib.sources.removals import Verdict
    from meshlib.transport.core.mesh_core import MeshCore

log = logging.getLogger("meshlib.config")


class Configuration:
    """``compiler`` makes the mesh's compiler; a forked child makes another, as its parent's may be amid its work. ``local``:
    the option ``endpoints`` as resources, which come before all others. ``installed`` is called after each change.

    ``resources`` are in force, ``kept`` those of them that are the last good version; ``problems`` are of the last load."""

    def __init__(
        self,
        core: MeshCore,
        compiler: Callable[[], Compiler],
        local: Sequence[Resource],
        source: FileSource | None,
        clock: Clock,
        installed: Callable[[], object],
    ) -> None:
        from meshlib.resources.object_memo import ObjectMemo

        self._core = core
        self._new_compiler = compiler
        self._local = local
        self._installed = installed
        self._lock = threading.RLock()
        self._changing = threading.RLock()  # held while resources are read and compiled, which takes its time
        self._waiting = 0  # who wants to change something
        self.source = source
        self.compiler = compiler()
        self.objects = ObjectMemo()
        self.reloads = Reloads(clock)
        self.resources: list[Resource] = []
        self.kept: list[Resource] = []
        self.problems: list[Problem] = []

    def begin(self, resources: Sequence[Resource], problems: Sequence[Problem]) -> None:
        """The first ones. Raises ``ConfigError`` when something is wrong with ``local``: what is worth a warning in a file,
        which others may mend, is an error of whoever makes the mesh."""
        self._install(list(resources), list(problems), [])
        files = {resource.origin.file for resource in self._local}
        wrong = [p for p in self.problems if p.file in files and p.severity is not Severity.NOTICE]
        if wrong:
            raise ConfigError([replace(problem, severity=Severity.ERROR) for problem in wrong])

    def apply(self, resources: Iterable[Mapping[str, object]]) -> None:
        """See ``Mesh.apply``."""
        with self._change(), self._counted():
            loaded, problems = loaded_objects(resources, self.objects)
            self._install(loaded, problems, [], self.objects.take_differences())
            self.reloads.ended("ok")

    def reload(self, *, by_hand: bool, accept: bool) -> None:
        """See ``Mesh.reload``. ``by_hand``: files are read whether they have changed or not."""
        source = self.source
        if source is None:
            raise MeshError("this mesh has no files to reload; use mesh.apply(resources)")
        with self._change(), self._counted():
            verdict, problems = source.reload(self.resources, by_hand=by_hand, accept=accept)
            self._tell(verdict, problems)  # before it can be seen to have happened
            self._install(verdict.serve, problems, verdict.kept)
            self.reloads.read += 1
            self.reloads.ended("partly" if any(p.severity is Severity.ERROR for p in problems) else "ok")

    def watch(self) -> None:
        """Follow the files from now on."""
        if self.source is not None:
            self.source.watch(self._reload_watched)

    def follow(self) -> None:
        """In a worker that was forked with a mesh that does not watch its files: watch them from now on, and read what has
        changed since they were loaded. Raises ``MeshError`` when they cannot be read; the configuration stays."""
        if self.source is None:
            return
        self.source.watch(self._reload_watched, seen=self.source.signature())
        if self.source.changed:
            self.reload(by_hand=False, accept=False)

    def close(self) -> None:
        """Close the core; nothing is installed any more."""
        with self._lock:
            self._core.close()

    def status(self) -> dict[str, Any]:
        """Plain data for ``Mesh.status``."""
        source = self.source
        return {
            "kind": "memory" if source is None else "files",
            "paths": [] if source is None else list(source.paths),
            "reloads": self.reloads.read,
            "failed_reloads": self.reloads.failed,
            "last_good_kept": [r.id for r in self.kept],
            "watcher": None if source is None else source.status(),
        }

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads that do not exist here, and the watcher thread is gone."""
        from meshlib.resources.object_memo import ObjectMemo

        self._lock = threading.RLock()
        self._changing = threading.RLock()
        self._waiting = 0
        self.objects = ObjectMemo()
        self.compiler = self._new_compiler()

    def watch_after_fork(self) -> None:
        """In a forked child, once what a reload uses is in order."""
        if self.source is not None:
            self.source.after_fork(self._reload_watched)

    def _reload_watched(self) -> None:
        # in slices: event loops and threads of this process go on while files are read and compiled
        stopping = self.source.stopping if self.source is not None else None
        work = Slices(lambda: self._waiting > 0, lambda: stopping is not None and stopping.is_set())
        with slices(work), much_is_made(), contextlib.suppress(NotWanted):
            self.reload(by_hand=False, accept=False)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """One change at a time; who waits for a reload in slices has it go on without a rest."""
        with self._lock:
            self._waiting += 1
        self._changing.acquire()
        with self._lock:
            self._waiting -= 1
        try:
            yield
        finally:
            self._changing.release()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Counts what fails."""
        try:
            yield
        except NotWanted:
            raise
        except BaseException:
            self.reloads.ended("failed")
            raise

    def _tell(self, verdict: Verdict[Resource], problems: Sequence[Problem]) -> None:
        from meshlib.sources.files import newly_wrong

        news = newly_wrong(problems, self.problems)
        for problem in news:
            log.error("%s", problem)
        broken = [r.id for r in verdict.kept if r.origin.file not in verdict.places]
        if broken and any(p.file not in verdict.places for p in news):
            log.error("the last good version stays in use of: %s", ", ".join(broken))
        for problem in problems:
            if problem.code == "resources-removed":
                log.warning("%s", problem)
            elif problem.code == "removal-waits" and problem not in self.problems:
                log.info("%s", problem)

    def _install(
        self,
        resources: list[Resource],
        problems: list[Problem],
        kept: list[Resource],
        known: Differences[Resource] | None = None,
    ) -> None:
        if self._local:
            snapshot = self.compiler.compile([*self._local, *resources])
        else:
            snapshot = self.compiler.compile(resources, known=known)
        live = self._core.live
        is_new = live is not None
        in_turns = is_watched() and is_new
        before = live.snapshot.not_in(snapshot) if in_turns and live is not None else []
        del live
        with self._lock:
            if self._core.closed:
                return
            with much_is_made(beside_calls=is_new):
                self._core.install(snapshot)
            self.reloads.took_effect(snapshot.version)
            old, self.resources = self.resources, resources
            self.kept = kept
            told, self.problems = self.problems, [*problems, *snapshot.problems]
        changed = differences(old, resources) if is_new else None
        if changed is not None:
            tell_change(snapshot.version, changed)
        tell_problems(self.problems, told)
        self._installed()
        if in_turns and changed is not None:  # what nobody uses any more goes bit by bit
            from meshlib.resources.base import free_resources

            free_in_turns(before)
            gone = [old[i] for i in changed.gone]
            del old, changed
            free_resources(gone)


def loaded_objects(
    resources: Iterable[Mapping[str, object]], memo: ObjectMemo | None = None
) -> tuple[list[Resource], list[Problem]]:
    """Resources given as dicts, with warnings and notices about them. Raises ``ConfigError`` with all problems for an error."""
    from meshlib.resources.loader import load_objects

    result = load_objects(resources, memo=memo)
    raise_errors(result.problems)
    return result.resources, result.problems


def raise_errors(problems: Sequence[Problem]) -> None:
    """Raises ``ConfigError`` with all of them if one is an error."""
    if any(p.severity is Severity.ERROR for p in problems):
        raise ConfigError(problems)
