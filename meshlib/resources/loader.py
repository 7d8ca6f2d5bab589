"""Files, text or Python objects -> typed resources, and every problem of all of them in one list."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from meshlib.pace import in_turns, let_go, much_is_made, take_turns
from meshlib.problems import ConfigError, Problem, Severity
from meshlib.resources.base import Origin, Resource
from meshlib.resources.content import content_digest
from meshlib.resources.document import Document, LazyPositions, Positions
from meshlib.resources.file_names import STDIN, expand, files_at, nothing_at
from meshlib.resources.findings import Finding, check
from meshlib.resources.foreign import look, one_for_all_templates, template_problem
from meshlib.resources.hints import dotted
from meshlib.resources.kinds import KINDS, model_for, split_api_version
from meshlib.resources.notices import Notice
from meshlib.resources.object_memo import ObjectMemo
from meshlib.resources.yaml_builder import MAX_DEPTH
from meshlib.resources.yaml_reader import MAX_BYTES, read

__all__ = ["LoadResult", "expand", "load", "load_objects", "load_or_raise", "load_text"]

StrPath = str | os.PathLike[str]
MEMORY = "<memory>"
LONG_TEXT = 1_000
"""Characters of a document from which on its long lists are checked piece by piece."""
VERY_LONG_TEXT = 200_000
"""Characters of a document from which on it is checked again whenever its file changes."""

_SAYS_EMPTY = re.compile(rb"(?:\xef\xbb\xbf)?\s*#\s*meshlib:\s*empty\s*")
"""The only content of a file that is empty on purpose."""

Signature = tuple[int, int, int, int]


def signature_of(found: os.stat_result) -> Signature:
    """Changes whenever the file does: a file's times and size can be set back, the time of its last change of state not."""
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


@dataclass(slots=True)
class FileFound:
    """What a load found at a file, beside its resources. ``unreadable`` says why it could not be read; ``broken``: an error
    is about it; ``says_empty``: its only content is the comment ``# meshlib: empty``; ``refused``: ids of the resources that
    errors keep out; ``torn``: the texts of its documents that are no YAML."""

    signature: Signature | None = None
    unreadable: str = ""
    broken: bool = False
    says_empty: bool = False
    refused: set[str] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Other:
    """A document of a kind that no model reads."""

    api_version: str
    kind: str
    value: Mapping[str, Any]
    origin: Origin
    positions: Positions | LazyPositions

    @property
    def metadata(self) -> Mapping[str, Any]:
        """As it is written; empty when it is no object."""
        found = self.value.get("metadata")
        return found if isinstance(found, Mapping) else {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """Namespace as written, or ``default``."""
        return str(self.metadata.get("namespace") or "default")

    @property
    def annotations(self) -> dict[str, str]:
        return texts(self.metadata.get("annotations"))

    def place_of(self, loc: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column of a field, or of the nearest one around it."""
        return self.positions.place(loc)


def texts(value: Any) -> dict[str, str]:
    """A map of texts, such as labels; empty for anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {str(key): entry for key, entry in value.items() if isinstance(entry, str)}


@dataclass(slots=True)
class LoadResult:
    """``resources`` are good; ``problems`` are all that was found, errors, warnings and notices. ``paths`` has the files
    found at each path, ``files`` what is to be said of each, ``unlisted`` the folders that could not be listed, and why.
    With ``keep_all`` ``broken`` are resources that errors keep out, as far as they can be read, ``others`` the documents of
    kinds that mean nothing here, and ``about`` the id of the resource ("" without a name) of problems that are about one.
    ``dumps`` are the files with a list that a cluster has shown: how many items, and where it begins."""

    resources: list[Resource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    paths: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, FileFound] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    broken: list[Resource] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    about: dict[Problem, str] = field(default_factory=dict)
    dumps: dict[str, tuple[int, tuple[int, int]]] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """The problems that refuse a resource."""
        return [p for p in self.problems if p.severity is Severity.ERROR]


@dataclass(slots=True)
class _Read:
    """What a file held when it was read."""

    signature: Signature
    digest: bytes
    documents: list[Document]
    problems: list[Problem]
    torn: list[str]
    says_empty: bool


@dataclass(slots=True)
class Checked:
    """What a document was found to be; ``would_be`` is the id that the resource has, or would have; ``refused``
    has the model of a document that is no resource, and the apiVersion and kind that a typed list may say for it."""

    document: Document
    resource: Resource | None
    findings: list[Finding]
    would_be: str
    content: bytes | None = (
        None  # its hash, of documents without findings: who says the same later is the same resource
    )
    refused: tuple[type[Resource], dict[str, str]] | None = None
    notices: list[Notice] | None = None  # the resource's, once asked
    places: dict[tuple[str | int, ...], tuple[int, int]] | None = (
        None  # of what is said of the document, once looked for
    )

    def place(self, loc: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column of a field. To find one may take reading the document again, so it is found once."""
        if self.places is None:
            self.places = {}
        found = self.places.get(loc)
        if found is None:
            found = self.places[loc] = self.document.positions.place(loc)
        return found


class LoadMemo:
    """What loads of the same paths have in common: files that have not changed are not read again, and their resources stay
    the same objects, which lets a compiler see at once that nothing about them is new."""

    def __init__(self) -> None:
        self.files: dict[str, _Read] = {}
        self.checked: dict[int, Checked] = {}
        self._before: dict[bytes, Checked] = {}

    def read_again(self, old: _Read) -> None:
        """A file has changed: what it still says need not be checked again."""
        for document in old.documents:
            for part in document.with_parts():
                take_turns()
                found = self.checked.get(id(part))
                if found is not None and found.content is not None:
                    self._before[found.content] = found

    def same_as_before(self, document: Document, kind: str, version: str) -> tuple[Checked | None, bytes | None]:
        """What a document of a changed file was found to be when the file was read last; and its hash. (None of very long
        ones: that would take longer than it saves.)"""
        if document.source is not None and document.source.size > VERY_LONG_TEXT:
            return None, None
        content = content_digest(document.value)
        old = self._before.pop(content, None) if content is not None else None
        if old is None or old.resource is None or (old.resource.kind, old.resource.api_version) != (kind, version):
            return None, content
        document.take()
        return replace(old, document=document, places=None), content

    def forget_others(self, names: set[str]) -> None:
        """Keep what the last load has used."""
        self._before = {}
        self.files = {name: kept for name, kept in self.files.items() if name in names}
        used: dict[int, Checked] = {}
        for kept in self.files.values():
            for document in kept.documents:
                for part in document.with_parts():
                    take_turns()
                    found = self.checked.get(id(part))
                    if found is not None:
                        used[id(part)] = found
        old, self.checked = self.checked, used
        let_go(old)


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
    Kinds that meshlib does not know are skipped with a notice, or refused without ``skip_unknown_kinds``. A file that
    several paths name is read once. ``keep_positions``: resources can tell the line of each of their fields. ``memo``:
    from one load to the next (with the same options); ``read_all``: also files that seem not to have changed since. ``pipes``:
    a pipe that is named itself (``<(kubectl get ...)`` of a shell) is read to its end, as standard input is; a pipe in a
    folder, and any without ``pipes``, is refused, as it might never end. ``keep_all``: what cannot be used is kept too.
    """
    loading = _Loading(lenient, skip_unknown_kinds)
    loading.keep_all = keep_all
    loading.keep_positions = keep_positions
    loading.memo = memo
    loading.read_all = read_all
    loading.pipes = pipes
    with much_is_made():
        return _load(loading, paths, memo)


def _load(loading: _Loading, paths: StrPath | Sequence[StrPath], memo: LoadMemo | None) -> LoadResult:
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        loading.path(os.fspath(path))
    if memo is not None:
        memo.forget_others(loading.names)
    return loading.done()


def load_text(
    text: str | bytes, name: str = "<text>", *, lenient: bool = False, skip_unknown_kinds: bool = True
) -> LoadResult:
    """The resources of a YAML or JSON text. Problems call it ``name``."""
    loading = _Loading(lenient, skip_unknown_kinds)
    loading.text(text, name)
    return loading.done()


def load_objects(
    objects: Iterable[Mapping[str, Any] | Resource],
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
    loading = _Loading(lenient, skip_unknown_kinds)
    loading.objects = memo
    for index, value in enumerate(objects):
        loading.object(value, index)
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


class _Loading:
    """One load: collects, then checks what only the whole can tell."""

    def __init__(self, lenient: bool, skip_unknown_kinds: bool) -> None:
        self.lenient = lenient
        self.keep_positions = False
        self.keep_all = False
        self.memo: LoadMemo | None = None
        self.objects: ObjectMemo | None = None
        self.by_content: dict[bytes, Resource] = {}
        self.read_all = False
        self.pipes = False
        self.names: set[str] = set()
        self.unknown_kind = Severity.NOTICE if skip_unknown_kinds else Severity.ERROR
        self.result = LoadResult()
        self._count = 0
        self._read: set[str] = set()
        self._skipped: set[tuple[str, str, str]] = set()
        self._seen: dict[tuple[str, str], tuple[Resource, Document | None, str]] = {}
        self._used: list[Document] = []

    def done(self) -> LoadResult:
        for document in self._used:
            for part in document.with_parts():
                take_turns()
                part.rest()
        self.result.problems.sort(key=lambda p: (p.file, p.line, p.column))
        self.result.problems = one_for_all_templates(self.result.problems)
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
    ) -> Problem:
        problem = Problem(code, severity, file, place[0], place[1], path, message, hint)
        self.result.problems.append(problem)
        if severity is Severity.ERROR and (found := self.result.files.get(file)) is not None:
            found.broken = True
        return problem

    # -- where documents come from

    def path(self, path: str) -> None:
        if path == STDIN:
            if STDIN not in self._read:
                self._read.add(STDIN)
                self.text(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>")
            return
        if self.pipes and _is_pipe(path):
            if os.path.abspath(path) not in self._read:
                self._read.add(os.path.abspath(path))
                self._pipe(path)
            return
        unreadable: list[OSError] = []
        files = files_at(path, unreadable.append)
        self.result.paths.setdefault(path, files)
        for error in unreadable:
            folder = str(error.filename or path)
            self.result.unlisted[folder] = error.strerror or str(error)
            self._unreadable(folder, error)
        if not files and not unreadable:
            self.problem("no-files", path, *nothing_at(path))
        foreign = look(files, os.path.isdir(path))
        left_out = {os.path.abspath(file) for file in foreign.left_out}
        for problem in foreign.problems:
            if problem not in self.result.problems:
                self.result.problems.append(problem)
        for file in files:
            absolute = os.path.abspath(file)
            if absolute in left_out:
                self.result.files[file] = FileFound(broken=True)
            elif absolute not in self._read:
                self._read.add(absolute)
                self.file(file)

    def file(self, name: str) -> None:
        memo = self.memo
        found = self.result.files[name] = FileFound()
        try:
            # not opened before it is known to be a file: opening a pipe waits for somebody to write
            status = os.stat(name)
            if stat.S_ISREG(status.st_mode):
                found.signature = signature_of(status)
                known = memo.files.get(name) if memo is not None else None
                if known is not None and known.signature == found.signature and not self.read_all:
                    self._documents(name, known)
                    return
                with open(name, "rb", opener=_opener) as stream:
                    status = os.fstat(stream.fileno())  # another file may have this name by now
                    if stat.S_ISREG(status.st_mode):
                        data = stream.read(MAX_BYTES + 1)
            if not stat.S_ISREG(status.st_mode):
                self._no_file(name, status.st_mode, found)
                return
            found.signature = signature_of(status)
        except OSError as error:
            found.unreadable = error.strerror or str(error)
            self._unreadable(name, error)
            return
        digest = _digest(data) if memo is not None else b""
        if known is not None and known.digest == digest:
            known.signature = found.signature
        else:
            if known is not None and memo is not None:
                memo.read_again(known)
            known = self._read_text(data, name)
            known.signature, known.digest = found.signature, digest
        if memo is not None:
            memo.files[name] = known
        self._documents(name, known)

    def _pipe(self, name: str) -> None:
        try:
            with open(name, "rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            self._unreadable(name, error)
            return
        self.text(data, name)

    def _unreadable(self, name: str, error: OSError) -> None:
        hint = "check its permissions" if isinstance(error, PermissionError) else "check that it is a readable file"
        self.problem("unreadable-file", name, f"cannot be read: {error.strerror or error}", hint)

    def _no_file(self, name: str, mode: int, found: FileFound) -> None:
        what = next((text for is_one, text in _NO_FILES if is_one(mode)), "no regular file")
        found.unreadable = f"it is {what}"
        self.problem(
            "not-a-file",
            name,
            f"is {what}; resources are read from regular files, folders of them and symbolic links to either",
            "write what comes through it to a file first; the command line reads standard input as -",
        )

    def text(self, data: str | bytes, name: str) -> None:
        self.result.files[name] = FileFound()
        self._documents(name, self._read_text(data, name))

    def _read_text(self, data: str | bytes, name: str) -> _Read:
        torn: list[str] = []
        documents, problems = read(data, name, torn)
        if any(p.severity is Severity.ERROR for p in problems):
            template = template_problem(data, name)
            if template is not None:
                documents, problems = [], [template]
        says_empty = isinstance(data, bytes) and len(data) < 256 and _SAYS_EMPTY.fullmatch(data) is not None
        return _Read((0, 0, 0, 0), b"", documents, problems, torn, says_empty)

    def _documents(self, name: str, text: _Read) -> None:
        self.names.add(name)
        found = self.result.files[name]
        found.torn, found.says_empty = text.torn, text.says_empty
        found.broken = any(p.severity is Severity.ERROR for p in text.problems)
        self.result.problems += text.problems
        self._used += text.documents
        for document in text.documents:
            take_turns()
            self.document(document, name, "")

    def object(self, value: Mapping[str, Any] | Resource, index: int) -> None:
        if isinstance(value, Resource):
            if not self._is_double(value, None, f"[{index}] "):
                self.result.resources.append(value)
            return
        content = content_digest(value) if self.objects is not None else None
        known = self.objects.same_as_before(content) if self.objects is not None else None
        if content is not None and known is not None and content not in self.by_content:
            self.by_content[content] = known
            document = Document(value, Positions(0, 0))
            self._resource(
                document, Checked(document, known, [], known.id), MEMORY, f"[{index}] {known.kind}/{known.name}: "
            )
            return
        try:
            copy = _plain(value, 0)
        except _TooDeepError:
            message = f"nested deeper than {MAX_DEPTH} levels, or inside itself"
            self.problem("too-deep", MEMORY, message, "no resource needs that", path=f"[{index}]")
            return
        name = ""
        if isinstance(copy, dict) and isinstance(copy.get("kind"), str):
            metadata = copy.get("metadata")
            called = metadata.get("name") if isinstance(metadata, dict) else None
            name = f"{copy['kind']}/{called}" if isinstance(called, str) and called else copy["kind"]
        before = len(self.result.problems), len(self.result.resources)
        self.document(Document(copy, Positions(0, 0)), MEMORY, f"[{index}] {name}: " if name else f"[{index}] ")
        if content is not None and (len(self.result.problems), len(self.result.resources) - 1) == before:
            self.by_content[content] = self.result.resources[-1]

    # -- from documents to resources

    def document(self, document: Document, file: str, prefix: str, kind: Any = None, version: Any = None) -> None:
        """``prefix`` begins the paths of problems; ``kind`` and ``version`` are what a typed list says of its items."""
        known = self.memo.checked.get(id(document)) if self.memo is not None else None
        if known is not None:
            self._resource(document, known, file, prefix)
            return
        if document.parts is not None:
            self._list(document, document.head, file, prefix)
            return
        value, positions = document.value, document.positions
        if not isinstance(value, Mapping):
            found = "a list" if isinstance(value, list) else f"{str(value)[:40]!r}"
            hint = "separate resources with ---, or put them below items: of a kind: List"
            self.problem(
                "not-a-resource",
                file,
                f"a resource is an object with apiVersion and kind, found {found}",
                hint if isinstance(value, list) else "begin with apiVersion: and kind:",
                place=positions.place(()),
                path=_path(prefix),
            )
            return
        kind, version = value.get("kind", kind), value.get("apiVersion", version)
        if not isinstance(kind, str) or not isinstance(version, str):
            self._not_a_resource(value, kind, version, positions, file, prefix)
            return
        if kind.endswith("List") and isinstance(value.get("items"), list):
            typed = kind.removesuffix("List")
            document.parts = [document.part(index) for index in in_turns(range(len(value["items"])))]
            document.head = (typed, version) if typed else (None, None)
            if self.keep_all and any(_is_from_cluster(part.value) for part in document.parts[:5]):
                self.result.dumps.setdefault(file, (len(document.parts), positions.place(())))
            self._list(document, document.head, file, prefix)
            return
        model = model_for(version, kind)
        if model is None:
            if self.keep_all:
                line, column = positions.place(())
                origin = Origin(file=file, line=line, column=column)
                self.result.others.append(Other(version, kind, value, origin, positions))
            self._unknown_kind(kind, version, file, positions, prefix)
            called = value.get("metadata")
            if kind in KINDS and isinstance(called, Mapping) and called.get("name") and file in self.result.files:
                self.result.files[file].refused.add(_would_be(kind, called))
            return
        content = None
        if self.memo is not None:
            same, content = self.memo.same_as_before(document, kind, version)
            if same is not None:
                self.memo.checked[id(document)] = same
                self._resource(document, same, file, prefix)
                return
        taken = document.take()
        head = {"apiVersion": version, "kind": kind}
        if "kind" not in value or "apiVersion" not in value:
            taken = {**head, **taken}
        metadata = value.get("metadata")
        would_be = _would_be(kind, metadata) if isinstance(metadata, Mapping) and metadata.get("name") else ""
        long = document.source is not None and document.source.size >= LONG_TEXT
        resource, findings = check(model, taken, positions, lenient=self.lenient, use_up=long)
        refused = (model, head) if resource is None else None
        checked = Checked(document, resource, findings, would_be, None if findings else content, refused)
        if self.memo is not None:
            self.memo.checked[id(document)] = checked  # which holds the document, so that its id stays its own
        self._resource(document, checked, file, prefix)

    def _list(self, document: Document, head: tuple[Any, Any], file: str, prefix: str) -> None:
        for index, part in enumerate(document.parts or ()):
            take_turns()
            self.document(part, file, f"{_path(prefix)}{'.' if prefix else ''}items[{index}].", *head)

    def _not_a_resource(
        self,
        value: Mapping[str, Any],
        kind: Any,
        version: Any,
        positions: Positions | LazyPositions,
        file: str,
        prefix: str,
    ) -> None:
        keys = ", ".join(str(key)[:40] for key in list(value)[:5]) or "(none)"
        if kind is None and version is None:
            # folders of resources hold other YAML too (a chart's values, an OpenAPI document): said, not refused
            self.problem(
                "not-a-resource",
                file,
                f"not a Kubernetes resource (no apiVersion, no kind): skipped; its keys are {keys}",
                "if it should be one, begin with apiVersion: and kind:",
                Severity.WARNING,
                positions.place(()),
                _path(prefix),
            )
            return
        wrong = [n for n, v in (("apiVersion", version), ("kind", kind)) if not isinstance(v, str)]
        self.problem(
            "not-a-resource",
            file,
            f"{' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing or not a text: "
            f"this is not a Kubernetes resource; its keys are {keys}",
            _hint_for_head(kind, version),
            place=positions.place((wrong[0],)),
            path=_path(prefix),
        )

    def _unknown_kind(
        self, kind: str, version: str, file: str, positions: Positions | LazyPositions, prefix: str
    ) -> None:
        known = KINDS.get(kind)
        group = split_api_version(version)[0]
        if known is not None and known.group == group:
            versions = ", ".join(_api_versions(kind))
            self.problem(
                "unknown-version",
                file,
                f"apiVersion {version} of {kind} is not known",
                f"write one of: {versions}",
                place=positions.place(("apiVersion",)),
                path=f"{prefix}apiVersion",
            )
            return
        if (file, kind, group) in self._skipped:
            return
        self._skipped.add((file, kind, group))
        hint, severity = _near_kind(kind, group), self.unknown_kind
        if hint and severity is Severity.NOTICE:
            severity = Severity.WARNING  # skipping what was meant to be in force is worth more than a notice
        message = f"{kind} ({version}) means nothing to meshlib and is skipped"
        self.problem("unknown-kind", file, message, hint, severity, positions.place(("kind",)), f"{prefix}kind")

    def _resource(self, document: Document, checked: Checked, file: str, prefix: str) -> None:
        positions = document.positions
        resource, findings = checked.resource, checked.findings
        for found in findings:
            place = checked.place(found.loc)
            path = prefix + dotted(found.loc) if found.loc else _path(prefix)
            problem = self.problem(found.code, file, found.message, found.hint, found.severity, place, path)
            self._about(problem, checked)
        if resource is None or document.broken:
            if self.keep_all:
                self._salvage(document, checked, file)
            if checked.would_be and file in self.result.files:
                self.result.files[file].refused.add(checked.would_be)
            return
        line, column = positions.place(())
        self._count += 1
        was = resource._origin
        if (was.document, was.line, was.column, was.file) != (self._count, line, column, file):
            resource._origin = Origin(file=file, line=line, column=column, document=self._count)
        if self.keep_positions:
            resource._positions = positions
        if not resource.name and not resource.metadata.generate_name:
            self.problem(
                "missing-name",
                file,
                "metadata.name is missing",
                "add it: status, explain and problems call the resource by it",
                place=positions.place(("metadata",)),
                path=f"{prefix}metadata",
            )
            return
        if self._is_double(resource, document, prefix):
            return
        self.result.resources.append(resource)
        if checked.notices is None:
            checked.notices = list(resource.notices())
        for notice in checked.notices:
            place = checked.place(notice.loc)
            path = prefix + dotted(notice.loc)
            severity = Severity(notice.severity)
            problem = self.problem(notice.code, file, notice.message, notice.hint, severity, place, path)
            self._about(problem, checked)

    def _about(self, problem: Problem, checked: Checked) -> None:
        if self.keep_all:
            self.result.about[problem] = checked.would_be

    def _salvage(self, document: Document, checked: Checked, file: str) -> None:
        """Keep a resource that errors keep out, for what others refer to."""
        resource = checked.resource
        if checked.refused is not None:
            from meshlib.resources.salvage import salvage

            model, head = checked.refused
            resource = salvage(model, {**head, **document.value})
        if resource is None:
            return
        line, column = document.positions.place(())
        resource._origin = Origin(file=file, line=line, column=column)
        resource._positions = document.positions
        self.result.broken.append(resource)

    def _is_double(self, resource: Resource, document: Document | None, prefix: str) -> bool:
        """Whether there was a resource of this name before. The first one counts: it is what was in force if a copy
        was just added."""
        group = split_api_version(resource.api_version)[0]
        key = (group, resource.id)
        before = self._seen.get(key)
        if before is None or not resource.name:
            self._seen[key] = (resource, document, prefix)
            return False
        first, first_document, first_prefix = before
        where = f"{first.origin.file}:{first.origin.line}" if first.origin.line else first.origin.file
        where += f" {_path(first_prefix)}" if first_prefix else ""
        same = first is resource
        if first_document is not None and document is not None:
            same = first_document.value == document.value
        self.problem(
            "duplicate-resource",
            resource.origin.file,
            f"{resource.id} is defined twice, first in {where}" + (" (the same)" if same else " (and they differ)"),
            "remove one" if same else "remove one: which of them counts would depend on the order of reading",
            Severity.NOTICE if same else Severity.ERROR,
            (resource.origin.line, resource.origin.column),
            _path(prefix),
        )
        return True


_NO_FILES = (
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def _digest(data: bytes) -> bytes:
    digest = hashlib.blake2b()
    for start in range(0, len(data), 1 << 18):
        take_turns()
        digest.update(memoryview(data)[start : start + (1 << 18)])
    return digest.digest()


def _would_be(kind: str, metadata: Mapping[str, Any]) -> str:
    """The id of the resource that a document would be."""
    return f"{kind}/{metadata.get('namespace') or 'default'}/{metadata['name']}"


def _is_from_cluster(value: Any) -> bool:
    """Whether a resource has what only a cluster writes."""
    metadata = value.get("metadata") if isinstance(value, Mapping) else None
    return isinstance(metadata, Mapping) and ("resourceVersion" in metadata or "managedFields" in metadata)


def _is_pipe(path: str) -> bool:
    """A pipe, or what a process was given as an open descriptor."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and path.startswith(("/dev/stdin", "/dev/fd/", "/proc/self/fd/")))


def _opener(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def _path(prefix: str) -> str:
    """A prefix as a path of its own."""
    return prefix.rstrip(": .")


def _api_versions(kind: str) -> list[str]:
    known = KINDS[kind]
    return [f"{known.group}/{version}" if known.group else version for version in known.versions]


def _hint_for_head(kind: Any, version: Any) -> str:
    if isinstance(kind, str) and kind in KINDS:
        return f"write apiVersion: {_api_versions(kind)[0]}"
    if isinstance(version, str):
        group = split_api_version(version)[0]
        kinds = [name for name, known in KINDS.items() if known.group == group]
        return f"write kind: one of {', '.join(kinds)}" if kinds else "add kind:"
    return "begin with apiVersion: and kind:"


def _near_kind(kind: str, group: str) -> str:
    """A hint where the kind or the group looks like a slip of the pen."""
    known = KINDS.get(kind)
    if known is not None:
        # another project's kind of the same name (Gateway API's Gateway) has a group that looks different
        near = difflib.SequenceMatcher(None, group, known.group).ratio() > 0.85 if known.group else False
        return f"did you mean apiVersion: {_api_versions(kind)[0]}?" if near else ""
    of_group = {name.lower(): name for name, k in KINDS.items() if k.group == group}
    close = difflib.get_close_matches(kind.lower(), of_group, n=1, cutoff=0.75)
    return f"did you mean kind: {of_group[close[0]]}?" if close else ""


class _TooDeepError(Exception):
    pass


def _plain(value: Any, depth: int) -> Any:
    """A copy made of dicts and lists; other values are left for the models to judge."""
    if depth > MAX_DEPTH:
        raise _TooDeepError
    if isinstance(value, Mapping):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return value
