"""Which files a list of paths names: files, folders with all below them, globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


def expand(paths: Iterable[str]) -> list[str]:
    """The files that ``paths`` name, in a stable order, each once. What cannot be looked into is left out."""
    found: dict[str, str] = {}
    for path in paths:
        if path != STDIN:
            for file in files_at(path, lambda error: None):  # ``load`` reports it; here only names are asked for
                found.setdefault(os.path.abspath(file), file)
    return list(found.values())


def files_at(path: str, unreadable: Callable[[OSError], None]) -> list[str]:
    """The files of one file, folder or glob. ``unreadable`` is told of each folder that cannot be listed."""
    if os.path.isdir(path):
        return list(_below(path, unreadable))
    if os.path.lexists(path):
        return [path]
    found: list[str] = []
    for match in sorted(glob.glob(path, recursive=True)):
        # a folder that a pattern matches is read like a folder that is named
        found += _below(match, unreadable) if os.path.isdir(match) else [match]
    return found


def _below(folder: str, unreadable: Callable[[OSError], None]) -> Iterator[str]:
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        seen.add(os.path.realpath(here))
        # hidden: .git and the like, and the ..data of a ConfigMap's volume, which holds each file a second time
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and os.path.realpath(os.path.join(here, f)) not in seen
        )
        for name in sorted(files):
            file = os.path.join(here, name)
            if name.endswith(SUFFIXES) and not name.startswith(".") and os.path.isfile(file):
                yield file


def nothing_at(path: str) -> tuple[str, str]:
    """What to say, and what to do, when a path names no file."""
    if os.path.isdir(path):
        return f"the folder {path} holds no {', '.join(SUFFIXES)} file", "put the resources there"
    hint = f"check the path; it is relative to {os.getcwd()}" if not os.path.isabs(path) else "check the path"
    return (f"no file matches {path}" if glob.has_magic(path) else f"{path} does not exist"), hint
