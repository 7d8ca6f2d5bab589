"""What a reload may take away, and when. Pure: what files hold comes in, and so does the time.

A file that shrinks is a person's decision, or an accident in the middle of it: a shell that has truncated what it is about
to write, half a download, a volume that is not mounted. The two look the same, so:

1. What an edit broke keeps its last good version (by file; also what may have moved into a document that cannot be read).
2. A source that yields nothing where it yielded something (emptied, gone, unreadable) keeps all of it, and says so as an
   error, until a person confirms: ``accept``, or a file whose only content is the comment ``# meshlib: empty``.
3. A resource that is gone from a file that still yields others, or whose file is gone from a folder that does, goes when
   nothing there has changed for ``QUIET_SECONDS``, with a warning that names it. When the reload was asked for by hand, a
   file that is gone has gone; a file that has fewer documents may still be half written, and waits.
4. A watched file that was made smaller in place is served as it was for as long.

A resource that moved from one file to another is not gone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from meshlib.pace import in_turns
from meshlib.problems import Problem, Severity

QUIET_SECONDS = 2.0
"""Without change of size and times, before fewer documents than before are believed."""

CONFIRM = (
    "to take them away call mesh.reload(accept_removals=True), or leave a file whose only content is # meshlib: empty"
)
SHOWN = 20


class Origin(Protocol):
    """Where a resource was read."""

    @property
    def file(self) -> str: ...


class Item(Protocol):
    """What is asked of a resource."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def origin(self) -> Origin: ...


R = TypeVar("R", bound=Item)


@dataclass(slots=True)
class FileLook:
    """What one look found at a file, beside its resources. ``signature`` changes when the file does; ``age`` is how many
    seconds ago that was, by the file's own times, 0 when not known. ``unreadable`` says why nothing could be read.
    ``broken``: an error was found in it. ``refused``: the resources that errors keep out. ``torn``: the texts of documents
    that are not YAML, in which anything may be. ``says_empty``: its only content is the comment that confirms it."""

    signature: Hashable = None
    size: int = 0
    inode: int = 0
    age: float = 0.0
    unreadable: str = ""
    broken: bool = False
    says_empty: bool = False
    refused: set[str] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Look(Generic[R]):
    """One look at everything. ``paths``: the paths given, each with the files found there. ``there``: files of before that
    are not among them and yet exist (dangling links, what has become a pipe). ``unlisted``: folders that cannot be looked
    into, and why."""

    loaded: Sequence[R]
    files: Mapping[str, FileLook]
    paths: Mapping[str, Sequence[str]]
    there: frozenset[str] = frozenset()
    unlisted: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict(Generic[R]):
    """``serve`` is the configuration; ``kept`` those of it that are served although they were not loaded; ``problems`` what
    is to be said; ``places`` the files and paths that an error among them speaks for; ``look_again`` the time at which
    something will have been quiet for long enough, None when nothing waits."""

    serve: list[R]
    kept: list[R]
    problems: list[Problem]
    places: set[str]
    look_again: float | None


@dataclass(slots=True)
class _File:
    """What is known of a file from one look to the next."""

    path: str
    signature: Hashable
    since: float
    size: int
    inode: int
    """Size and inode are those of what is served."""


class Removals(Generic[R]):
    """The rule, with what it remembers between looks. Not for several threads at once."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._paths: dict[str, tuple[Hashable, float]] = {}  # what all of a path looked like, and since when

    def judge(
        self, previous: Sequence[R], look: Look[R], now: float, *, by_hand: bool = False, accept: bool = False
    ) -> Verdict[R]:
        """What to serve after ``look``, when ``previous`` has been served so far."""
        return _Judgement(self, previous, look, now, by_hand, accept).verdict()

    def files(self) -> list[str]:
        """The files whose resources are served."""
        return list(self._files)

    def saw(self, look: Look[R], now: float) -> None:
        """Take note of a look; ``judge`` does."""
        for path, files in look.paths.items():
            everything = tuple((file, look.files[file].signature) for file in files if file in look.files)
            before = self._paths.get(path)
            if before is None or before[0] != everything:
                self._paths[path] = (everything, now)
            for file in files:
                found = look.files.get(file)
                if found is None:
                    continue
                known = self._files.get(file)
                if known is None:
                    self._files[file] = _File(path, found.signature, now, found.size, found.inode)
                elif known.signature != found.signature:
                    known.path, known.signature, known.since = path, found.signature, now


class _Judgement(Generic[R]):
    """One judgement."""

    def __init__(
        self, removals: Removals[R], previous: Sequence[R], look: Look[R], now: float, by_hand: bool, accept: bool
    ) -> None:
        removals.saw(look, now)
        self.files = removals._files
        self.paths = removals._paths
        self.previous = previous
        self.look = look
        self.now = now
        self.by_hand = by_hand
        self.accept = accept
        self.yields = Counter(r.origin.file for r in in_turns(look.loaded))
        self.refused = {name for found in look.files.values() for name in found.refused}
        self.torn = [text for found in look.files.values() for text in found.torn]
        self.held: dict[str, list[R]] = {}  # by file or path: until a person confirms
        self.reasons: dict[str, str] = {}
        self.waiting: dict[str, list[R]] = {}  # by file: until it has been quiet
        self.gone: dict[str, list[R]] = {}
        self.due: list[float] = []

    def verdict(self) -> Verdict[R]:
        missing = _missing(self.previous, self.look.loaded)
        kept = [r for r in missing if self._stays(r)]
        serve = [*self._settled(), *kept]
        self._forget({r.origin.file for r in in_turns(serve)})
        return Verdict(serve, kept, self._problems(), set(self.held), min(self.due, default=None))

    # -- one resource that is not there any more

    def _stays(self, r: R) -> bool:
        file = r.origin.file
        known, found = self.files.get(file), self.look.files.get(file)
        if known is None:
            return False  # came by another way than these files: apply() replaced them
        if r.id in self.refused or any(r.name and r.name in text for text in self.torn):
            return True
        unreadable = self._unreadable(file, found)
        if unreadable:
            return self._hold(file, f"cannot be read ({unreadable})", r)
        if found is None:
            return self._stays_without_file(r, known)
        if found.broken:
            return True
        if found.says_empty:
            return self._go(r)
        if not self.yields[file]:
            return self._hold(file, "no longer holds a resource", r)
        return self._wait(r, known.since, found.age if self.by_hand else 0.0)

    def _unreadable(self, file: str, found: FileLook | None) -> str:
        if found is not None:
            return found.unreadable
        for folder, reason in self.look.unlisted.items():
            if file.startswith(os.path.join(folder, "")):
                return reason
        return "no regular file" if file in self.look.there else ""

    def _stays_without_file(self, r: R, known: _File) -> bool:
        files = self.look.paths.get(known.path, ())
        if any(self.yields[file] for file in files):
            return self._go(r) if self.by_hand else self._wait(r, self.paths[known.path][1], 0.0)
        if any(self.look.files[file].says_empty for file in files if file in self.look.files):
            return self._go(r)
        return self._hold(known.path, "is gone" if known.path == r.origin.file else "no longer holds a resource", r)

    def _hold(self, place: str, reason: str, r: R) -> bool:
        if self.accept:
            return self._go(r)
        self.held.setdefault(place, []).append(r)
        self.reasons[place] = reason
        return True

    def _wait(self, r: R, since: float, age: float) -> bool:
        if self.accept or max(self.now - since, age) >= QUIET_SECONDS:
            return self._go(r)
        self.waiting.setdefault(r.origin.file, []).append(r)
        self.due.append(since + QUIET_SECONDS)
        return True

    def _go(self, r: R) -> bool:
        self.gone.setdefault(r.origin.file, []).append(r)
        return False

    # -- files that were made smaller in place

    def _settled(self) -> list[R]:
        """What was loaded; as it was before, where a file may still be being written."""
        unsettled = set()
        for file, found in self.look.files.items():
            known = self.files.get(file)
            if known is None or found.unreadable:
                continue
            smaller = found.inode == known.inode and found.size < known.size
            if smaller and not (self.by_hand or self.accept) and self.now - known.since < QUIET_SECONDS:
                unsettled.add(file)
                self.due.append(known.since + QUIET_SECONDS)
            elif self.yields[file]:
                known.size, known.inode = found.size, found.inode
        if not unsettled:
            return list(self.look.loaded)
        before = {r.id: r for r in in_turns(self.previous) if r.name and r.origin.file in unsettled}
        return [before.get(r.id, r) if r.origin.file in unsettled else r for r in in_turns(self.look.loaded)]

    def _forget(self, serving: set[str]) -> None:
        for file in [f for f in self.files if f not in self.look.files and f not in serving]:
            del self.files[file]
        for path in [p for p in self.paths if p not in self.look.paths]:
            del self.paths[path]

    # -- words

    def _problems(self) -> list[Problem]:
        found = [
            Problem(
                "source-empty",
                Severity.ERROR,
                place,
                0,
                0,
                "",
                f"{self.reasons[place]}: its {_count(items)} stay as they were: {_names(items, SHOWN)}",
                CONFIRM,
            )
            for place, items in self.held.items()
        ]
        found += [
            Problem(
                "removal-waits",
                Severity.NOTICE,
                file,
                0,
                0,
                "",
                f"{_count(items)} gone from it stay until nothing has changed for {QUIET_SECONDS:g} s: "
                f"{_names(items, SHOWN)}",
                "reload() looks at once, and reload(accept_removals=True) does not wait",
            )
            for file, items in self.waiting.items()
        ]
        found += [
            Problem(
                "resources-removed",
                Severity.WARNING,
                file,
                0,
                0,
                "",
                f"{_count(items)} gone from it no longer apply: {_names(items, len(items))}",
                "",
            )
            for file, items in self.gone.items()
        ]
        return found


def _missing(previous: Sequence[R], loaded: Sequence[R]) -> list[R]:
    """Those of ``previous`` that were not loaded. Resources without a name (``generateName``) are counted."""
    have = Counter(r.id for r in in_turns(loaded))
    missing = []
    for r in in_turns(previous):
        if have[r.id] > 0:
            have[r.id] -= not r.name
        else:
            missing.append(r)
    return missing


def _count(items: Sequence[object]) -> str:
    return f"{len(items)} resource{'' if len(items) == 1 else 's'}"


def _names(items: Iterable[Item], most: int) -> str:
    names = [r.id for r in items]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
