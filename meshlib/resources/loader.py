"""Files, text or Python objects -> typed resources, and every problem of all of them in one list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from meshlib.pace import much_is_made
from meshlib.problems import ConfigError
from meshlib.resources.base import Resource
from meshlib.resources.file_names import expand
from meshlib.resources.load_memo import LoadMemo
from meshlib.resources.load_result import LoadResult
from meshlib.resources.loading import Loading
from meshlib.resources.object_memo import ObjectMemo
from meshlib.resources.reading import Reading

__all__ = ["LoadMemo", "LoadResult", "expand", "load", "load_objects", "load_or_raise", "load_text"]

StrPath = str | os.PathLike[str]


def load(
    paths: StrPath | Sequence[StrPath],
    *,
    lenient: bool = False,
    skip_unknown_kinds: bool = True,
    keep_positions: bool = False,
    memo: LoadMemo | None = None,
    read_all: bool = False,
    pipes: bool = False,
    keep_all: bool = False,
) -> LoadResult:
    """Everything in files, folders (recursively, .yaml .yml .json), globs and ``-`` (standard input).

    Never raises for what files hold or lack: that is in ``problems``. ``lenient`` turns unknown fields into warnings.
    Kinds that meshlib does not know are skipped with one notice a kind, or refused without ``skip_unknown_kinds``. A file that
    several paths name is read once. ``keep_positions``: resources can tell the line of each of their fields. ``memo``:
    from one load to the next (with the same options); ``read_all``: also files that seem not to have changed since. ``pipes``:
    a pipe that is named itself (``<(kubectl get ...)`` of a shell) is read to its end, as standard input is; a pipe in a
    folder, and any without ``pipes``, is refused, as it might never end. ``keep_all``: what cannot be used is kept too.
    """
    loading = Loading(lenient, skip_unknown_kinds, keep_all=keep_all, keep_positions=keep_positions, memo=memo)
    reading = Reading(loading, read_all=read_all, pipes=pipes)
    with much_is_made():
        for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
            reading.path(os.fspath(path))
        if memo is not None:
            memo.forget_others(loading.names)
        return loading.done()


def load_text(
    text: str | bytes, name: str = "<text>", *, lenient: bool = False, skip_unknown_kinds: bool = True
) -> LoadResult:
    """The resources of a YAML or JSON text. Problems call it ``name``."""
    loading = Loading(lenient, skip_unknown_kinds)
    Reading(loading).text(text, name)
    return loading.done()


def load_objects(
    objects: Iterable[Mapping[str, object] | Resource],
    *,
    lenient: bool = False,
    skip_unknown_kinds: bool = True,
    memo: ObjectMemo | None = None,
) -> LoadResult:
    """Resources given as the dicts that YAML would give (or as resources). They are copied: later changes to the dicts
    have no effect. Problems say ``[2] VirtualService/reviews`` instead of a line. ``memo``: from one list to the next (with the
    same options)."""
    objects = list(objects)
    known = memo.accepted(objects) if memo is not None else None
    if known is not None:
        return LoadResult(resources=known)
    loading = Loading(lenient, skip_unknown_kinds, objects=memo)
    for index, value in enumerate(objects):
        loading.add_object(value, index)
    result = loading.done()
    if memo is not None and not result.errors:
        memo.note(objects, result.resources, loading.by_content)
    return result


def load_or_raise(paths: StrPath | Sequence[StrPath], *, lenient: bool = False) -> list[Resource]:
    """``load``, raising ``ConfigError`` with every problem when there is an error among them."""
    result = load(paths, lenient=lenient)
    if result.errors:
        raise ConfigError(result.problems)
    return result.resources
