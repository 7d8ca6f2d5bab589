"""Files, text or Python objects -> typed resources, and every problem of all of them in one list."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meshlib.errors import ConfigError, Problem, Severity
from meshlib.resources.base import Origin, Resource
from meshlib.resources.hints import Loc, describe, dotted
from meshlib.resources.kinds import KINDS, model_for, split_api_version
from meshlib.resources.yaml_reader import Document, Positions, read

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


@dataclass(slots=True)
class LoadResult:
    """``resources`` are good; ``problems`` are all that was found, errors, warnings and notices."""

    resources: list[Resource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        return [p for p in self.problems if p.severity is Severity.ERROR]


def load(paths: Sequence[str | os.PathLike[str]], *, lenient: bool = False) -> LoadResult:
    """Everything in files, folders (recursively, .yaml .yml .json), globs and ``-`` (standard input).

    Never raises for what files hold or lack: that is in ``problems``. ``lenient`` turns unknown fields into warnings.
    """
    loading = _Loading(lenient)
    for path in paths:
        name = os.fspath(path)
        if name == STDIN:
            loading.text(sys.stdin.buffer.read(), "<stdin>")
            continue
        found = expand([name])
        if not found:
            loading.problem("no-files", name, _nothing_at(name), _hint_nothing(name))
        for file in found:
            loading.file(file)
    return loading.done()


def load_text(text: str | bytes, name: str = "<text>", *, lenient: bool = False) -> LoadResult:
    """The resources of a YAML or JSON text."""
    loading = _Loading(lenient)
    loading.text(text, name)
    return loading.done()


def load_objects(objects: Iterable[Mapping[str, Any] | Resource], *, lenient: bool = False) -> LoadResult:
    """Resources given as the dicts that YAML would give."""
    loading = _Loading(lenient)
    for index, value in enumerate(objects):
        if isinstance(value, Resource):
            loading.result.resources.append(value)
        else:
            loading.document(Document(value, Positions(0, 0)), "<memory>", f"[{index}]")
    return loading.done()


def load_or_raise(paths: Sequence[str | os.PathLike[str]], *, lenient: bool = False) -> list[Resource]:
    """``load``, raising ``ConfigError`` with every problem when there is an error among them."""
    result = load(paths, lenient=lenient)
    if result.errors:
        raise ConfigError(result.problems)
    return result.resources


def expand(paths: Iterable[str]) -> list[str]:
    """The files that ``paths`` name, in a stable order, each once."""
    found: dict[str, None] = {}
    for path in paths:
        if path == STDIN:
            continue
        if os.path.isdir(path):
            files = [
                str(p)
                for p in sorted(Path(path).rglob("*"))
                if p.suffix in SUFFIXES and p.is_file() and not _hidden(p, path)
            ]
        elif os.path.exists(path):
            files = [path]
        else:
            files = sorted(f for f in glob.glob(path, recursive=True) if os.path.isfile(f))
        found.update(dict.fromkeys(files))
    return list(found)


def _hidden(path: Path, root: str) -> bool:
    # a ConfigMap's volume holds each file twice, the second time below ..data
    return any(part.startswith("..") for part in path.relative_to(root).parts)


def _nothing_at(name: str) -> str:
    if os.path.isdir(name):
        return f"the folder {name} holds no {', '.join(SUFFIXES)} file"
    return f"no file matches {name}" if glob.has_magic(name) else f"{name} does not exist"


def _hint_nothing(name: str) -> str:
    return "put the resources there" if os.path.isdir(name) else "check the path; it is relative to the working directory"


class _Loading:
    """One load: collects, then checks what only the whole can tell."""

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.result = LoadResult()
        self._count = 0
        self._skipped: set[tuple[str, str]] = set()
        self._seen: dict[tuple[str, str], tuple[Resource, Any]] = {}

    def done(self) -> LoadResult:
        self.result.problems.sort(key=lambda p: (p.file, p.line, p.column))
        return self.result

    def problem(
        self,
        code: str,
        file: str,
        message: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
        place: tuple[int, int] = (0, 0),
        path: str = "",
    ) -> None:
        self.result.problems.append(Problem(code, severity, file, place[0], place[1], path, message, hint))

    def file(self, name: str) -> None:
        try:
            with open(name, "rb") as stream:
                data = stream.read()
        except OSError as error:
            self.problem("unreadable-file", name, f"cannot be read: {error.strerror}", "check that it is a readable file")
            return
        self.text(data, name)

    def text(self, data: str | bytes, name: str) -> None:
        documents, problems = read(data, name)
        self.result.problems += problems
        for document in documents:
            self.document(document, name, "")

    def document(self, document: Document, file: str, prefix: str) -> None:
        value, positions = document.value, document.positions
        place = positions.place(())
        if not isinstance(value, Mapping):
            self.problem(
                "not-a-resource",
                file,
                f"a resource is an object with apiVersion and kind, found {type(value).__name__}",
                "begin with apiVersion: and kind:",
                place=place,
                path=prefix,
            )
            return
        kind, version = value.get("kind"), value.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(version, str):
            if kind is None and version is None:
                keys = ", ".join(map(str, list(value)[:5])) or "(none)"
                self.problem(
                    "not-a-resource",
                    file,
                    f"not a Kubernetes resource (no apiVersion, no kind): skipped; its keys are {keys}",
                    "if it should be one, begin with apiVersion: and kind:",
                    Severity.WARNING,
                    place,
                    prefix,
                )
                return
            missing = " and ".join(n for n, v in (("apiVersion", version), ("kind", kind)) if not isinstance(v, str))
            self.problem(
                "not-a-resource",
                file,
                f"{missing} is missing or not a text: this is not a Kubernetes resource",
                f"it has the keys {', '.join(map(str, list(value)[:5])) or '(none)'}",
                place=place,
                path=prefix,
            )
            return
        if kind.endswith("List") and isinstance(value.get("items"), list):
            self._list(value, positions, file, prefix)
            return
        model = model_for(version, kind)
        if model is None:
            self._unknown_kind(kind, version, file, place)
            return
        self._resource(model, value, positions, file, prefix or (f"{kind} " if place == (0, 0) else ""))

    def _list(self, value: Mapping[str, Any], positions: Positions, file: str, prefix: str) -> None:
        for index, item in enumerate(value["items"]):
            child, steps = positions.find(("items", index))
            self.document(Document(item, child if steps == 2 else positions), file, f"{prefix}items[{index}]")

    def _unknown_kind(self, kind: str, version: str, file: str, place: tuple[int, int]) -> None:
        known = KINDS.get(kind)
        group = split_api_version(version)[0]
        if known is not None and known.group == group:
            versions = ", ".join(f"{group}/{v}" if group else v for v in known.versions)
            self.problem(
                "unknown-version",
                file,
                f"apiVersion {version} of {kind} is not known",
                f"known: {versions}",
                place=place,
                path="apiVersion",
            )
            return
        if (file, kind) in self._skipped:
            return
        self._skipped.add((file, kind))
        self.problem(
            "unknown-kind",
            file,
            f"{kind} ({version}) means nothing to meshlib and is skipped",
            severity=Severity.NOTICE,
            place=place,
        )

    def _resource(
        self, model: type[Resource], value: Mapping[str, Any], positions: Positions, file: str, prefix: str
    ) -> None:
        try:
            resource = model.model_validate(value)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            unknown = [e for e in errors if e["type"] == "extra_forbidden"]
            serious = [e for e in errors if e["type"] != "extra_forbidden"]
            for found in errors:
                warn = self.lenient and found["type"] == "extra_forbidden"
                self._invalid(dict(found), model, value, positions, file, prefix, warn)
            if not self.lenient or serious:
                return
            resource = model.model_validate(_without(value, [_yaml_loc(e["loc"], value) for e in unknown]))
        line, column = positions.place(())
        self._count += 1
        resource._origin = Origin(file=file, line=line, column=column, document=self._count)
        if not self._is_double(resource, value):
            self.result.resources.append(resource)
            for notice in resource.notices():
                self.problem(
                    notice.code,
                    file,
                    notice.message,
                    notice.hint,
                    Severity(notice.severity),
                    positions.place(notice.loc),
                    prefix + dotted(notice.loc),
                )

    def _invalid(
        self,
        error: dict[str, Any],
        model: type[Resource],
        value: Mapping[str, Any],
        positions: Positions,
        file: str,
        prefix: str,
        warn: bool,
    ) -> None:
        loc = _yaml_loc(error["loc"], value)
        node, steps = positions.find(loc)
        code, message, hint = describe(error, model, loc, node.raw if steps == len(loc) else "")
        self.problem(
            code,
            file,
            message,
            hint,
            Severity.WARNING if warn else Severity.ERROR,
            positions.place(loc),
            prefix + dotted(loc),
        )

    def _is_double(self, resource: Resource, value: Any) -> bool:
        group = split_api_version(resource.api_version)[0]
        key = (group, resource.id)
        before = self._seen.get(key)
        if before is None or not resource.name:
            self._seen[key] = (resource, value)
            return False
        first, first_value = before
        where = f"{first.origin.file}:{first.origin.line}" if first.origin.line else first.origin.file
        same = first_value == value
        self.problem(
            "duplicate-resource",
            resource.origin.file,
            f"{resource.id} is defined twice, first in {where}" + (" (the same)" if same else " (and they differ)"),
            "remove one" if same else "remove one: which of them counts would depend on the order of reading",
            Severity.NOTICE if same else Severity.ERROR,
            (resource.origin.line, resource.origin.column),
        )
        return True


def _yaml_loc(loc: tuple[int | str, ...], value: Any) -> Loc:
    """pydantic's place as keys of the document: attribute names become YAML names, union tags vanish."""
    here = value
    found: list[str | int] = []
    for position, step in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(here, Mapping):
            if step in here:
                here = here[step]
                found.append(step)
                continue
            if last and isinstance(step, str) and "-" not in step and "[" not in step and "(" not in step:
                found.append(step)  # a missing field: its parent is there
            continue
        if isinstance(here, (list, tuple)) and isinstance(step, int) and step < len(here):
            here = here[step]
            found.append(step)
    return tuple(found)


def _without(value: Any, locs: Iterable[Loc]) -> Any:
    """A copy of the document without the fields at ``locs``."""
    drop = set(locs)

    def copy(node: Any, here: Loc) -> Any:
        if isinstance(node, Mapping):
            return {k: copy(v, (*here, k)) for k, v in node.items() if (*here, k) not in drop}
        if isinstance(node, (list, tuple)):
            return [copy(v, (*here, i)) for i, v in enumerate(node)]
        return node

    return copy(value, ())
