"""One load: documents become resources, and everything that is said of them is collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from meshlib.pace import in_turns, take_turns
from meshlib.problems import Problem, Severity
from meshlib.resources.base import Origin, Resource
from meshlib.resources.content import content_digest
from meshlib.resources.document import Document, LazyPositions, Positions
from meshlib.resources.findings import Finding, check
from meshlib.resources.foreign import one_for_all_templates
from meshlib.resources.heads import Said, no_head, no_object, unknown_kind, unknown_version
from meshlib.resources.hints import dotted
from meshlib.resources.kinds import KINDS, model_for, split_api_version
from meshlib.resources.load_memo import Checked, LoadMemo, ReadText
from meshlib.resources.load_result import LoadResult, Other
from meshlib.resources.mesh_text import has_mesh_config, opened
from meshlib.resources.object_memo import ObjectMemo
from meshlib.resources.other_kinds import SkippedKinds, lone_deployments
from meshlib.resources.plain_copy import TooDeep, plain_copy
from meshlib.resources.plain_tree import MAX_DEPTH
from meshlib.resources.typed import CONFIG_MAP

MEMORY = "<memory>"
LONG_TEXT = 1_000
"""Characters of a document from which on its long lists are checked piece by piece."""


GUARDED = frozenset(("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"))
"""The kinds that something stands for when they cannot be read (``stand_ins.py``)."""
PLACED = frozenset(("Telemetry", "MeshConfig", "ConfigMap", "Gateway", "Ingress"))
"""Few, small, and named with their fields while calls are told of: these always know their places."""


class Loading:
    """Collects, then checks what only the whole can tell."""

    def __init__(
        self,
        lenient: bool,
        skip_unknown_kinds: bool,
        *,
        keep_all: bool = False,
        keep_positions: bool = False,
        memo: LoadMemo | None = None,
        objects: ObjectMemo | None = None,
    ) -> None:
        self.lenient = lenient
        self.unknown_kind = Severity.NOTICE if skip_unknown_kinds else Severity.ERROR
        self.keep_all = keep_all
        self.keep_positions = keep_positions
        self.memo = memo
        self.objects = objects
        self.by_content: dict[bytes, Resource] = {}
        self.names: set[str] = set()
        self.result = LoadResult()
        self._count = 0
        self._others = SkippedKinds()
        self._suspect: set[tuple[str, str, str]] = set()
        self._seen: dict[tuple[str, str], tuple[Resource, Document | None, str]] = {}
        self._used: list[Document] = []

    def done(self) -> LoadResult:
        """Everything, in order; nothing is loaded with it any more."""
        for document in self._used:
            for part in document.with_parts():
                take_turns()
                part.rest()
        self.result.problems += self._others.problems()
        lone = lone_deployments(in_turns(self.result.resources))
        self.result.problems += [] if lone is None else [lone]
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
        """Notes a problem, and that the file is broken if it is an error."""
        problem = Problem(code, severity, file, place[0], place[1], path, message, hint)
        self.result.problems.append(problem)
        if severity is Severity.ERROR and (found := self.result.files.get(file)) is not None:
            found.broken = True
        return problem

    def documents(self, name: str, text: ReadText) -> None:
        """Takes the documents of a file."""
        self.names.add(name)
        found = self.result.files[name]
        found.torn, found.says_empty = text.torn, text.says_empty
        found.broken = any(p.severity is Severity.ERROR for p in text.problems)
        self.result.problems += text.problems
        for torn in text.torn:
            self._stands_for_text(torn, name)
        self._used += text.documents
        for document in text.documents:
            take_turns()
            self.document(document, name, "")

    def add_object(self, value: Mapping[str, object] | Resource, index: int) -> None:
        """Takes what Python code hands in; ``index`` is its place in the list."""
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
            copy = plain_copy(value)
        except TooDeep:
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

    def document(self, document: Document, file: str, prefix: str, kind: object = None, version: object = None) -> None:
        """Takes a document. ``prefix`` begins the paths of problems; ``kind`` and ``version`` are what a typed list says of
        its items."""
        known = self.memo.checked.get(id(document)) if self.memo is not None else None
        if known is not None:
            self._resource(document, known, file, prefix)
            return
        if document.parts is not None:
            self._list(document, document.head, file, prefix)
            return
        value, positions = document.value, document.positions
        if not isinstance(value, Mapping):
            self._say(no_object(value), file, positions, prefix)
            return
        kind, version = value.get("kind", kind), value.get("apiVersion", version)
        if not isinstance(kind, str) or not isinstance(version, str):
            self._say(no_head(value, kind, version), file, positions, prefix)
            return
        items = value.get("items")
        if kind.endswith("List") and isinstance(items, list):
            self._open_list(document, len(items), kind, version, file, prefix)
            return
        inside: Document | None = None
        said: list[Finding] = []
        if has_mesh_config(kind, version, value):
            inside, said = opened(document)
        read = inside is not None or kind != CONFIG_MAP.kind
        model = model_for(version, kind) if read else None
        if model is None:
            self._not_read(document, value, kind, version, file, prefix, passed_over=not read)
            return
        content = None
        if self.memo is not None:
            same, content = self.memo.same_as_before(document, kind, version)
            if same is not None:
                same = same if inside is None else replace(same, document=inside)
                self.memo.checked[id(document)] = same
                self._resource(document, same, file, prefix)
                return
        head = {"apiVersion": version, "kind": kind}
        taken = (inside or document).take()
        if "kind" not in value or "apiVersion" not in value:
            taken = {**head, **taken}
        if inside is None:
            long = document.source is not None and document.source.size >= LONG_TEXT and kind not in GUARDED
            resource, findings = check(model, taken, positions, lenient=self.lenient, use_up=long)
        else:
            resource, findings = _checked_inside(model, taken, inside)
            findings = said + findings
        refused = (model, head) if resource is None else None
        would_be = _would_be(kind, value)
        checked = Checked(inside or document, resource, findings, would_be, None if findings else content, refused)
        if self.memo is not None:
            self.memo.checked[id(document)] = checked  # which holds the document, so that its id stays its own
        self._resource(document, checked, file, prefix)

    def _open_list(self, document: Document, count: int, kind: str, version: str, file: str, prefix: str) -> None:
        """Takes each item of a list for a document."""
        typed = kind.removesuffix("List")
        document.parts = [document.part(index) for index in in_turns(range(count))]
        document.head = (typed, version) if typed else (None, None)
        if self.keep_all and any(_is_from_cluster(part.value) for part in document.parts[:5]):
            self.result.dumps.setdefault(file, (len(document.parts), document.positions.place(())))
        self._list(document, document.head, file, prefix)

    def _not_read(
        self,
        document: Document,
        value: Mapping[str, object],
        kind: str,
        version: str,
        file: str,
        prefix: str,
        *,
        passed_over: bool,
    ) -> None:
        """Notes a document that is not read. ``passed_over``: its kind is, and this one says nothing of the mesh."""
        positions = document.positions
        if self.keep_all:
            line, column = positions.place(())
            origin = Origin(file=file, line=line, column=column)
            self.result.others.append(Other(version, kind, value, origin, positions))
        self._unknown_kind(kind, version, file, positions, prefix)
        if passed_over:
            return
        would_be = _would_be(kind, value) if kind in KINDS else ""
        if would_be and file in self.result.files:
            self.result.files[file].refused.add(would_be)
        if unknown_version(kind, version) is not None:
            self._stands_for(kind, document, f"apiVersion {version} is not known", file, positions)

    def _list(self, document: Document, head: tuple[object, object], file: str, prefix: str) -> None:
        for index, part in enumerate(document.parts or ()):
            take_turns()
            self.document(part, file, f"{_path(prefix)}{'.' if prefix else ''}items[{index}].", *head)

    def _say(self, said: Said, file: str, positions: Positions | LazyPositions, prefix: str) -> None:
        path = _path(prefix) if said.code == "not-a-resource" else prefix + dotted(said.loc)
        self.problem(said.code, file, said.message, said.hint, said.severity, positions.place(said.loc), path)

    def _unknown_kind(
        self, kind: str, version: str, file: str, positions: Positions | LazyPositions, prefix: str
    ) -> None:
        said = unknown_version(kind, version)
        if said is not None:
            self._say(said, file, positions, prefix)
            return
        group = split_api_version(version)[0]
        if self._others.known(group, kind) or (file, kind, group) in self._suspect:
            return
        said = unknown_kind(kind, version, self.unknown_kind)
        if said.severity is Severity.NOTICE:
            place = positions.place(said.loc)
            path = prefix + dotted(said.loc)
            self._others.add(
                group, kind, Problem(said.code, said.severity, file, *place, path, said.message, said.hint)
            )
            return
        self._suspect.add((file, kind, group))  # perhaps a slip of the pen: told of each file
        self._say(said, file, positions, prefix)

    def _resource(self, document: Document, checked: Checked, file: str, prefix: str) -> None:
        positions = document.positions
        resource, findings = checked.resource, checked.findings
        for found in findings:
            place = found.place or checked.place(found.loc)
            path = prefix + dotted(found.loc) if found.loc else _path(prefix)
            problem = self.problem(found.code, file, found.message, found.hint, found.severity, place, path)
            self._about(problem, checked)
        if resource is None or document.broken:
            if self.keep_all:
                self._salvage(checked, file)
            if checked.would_be and file in self.result.files:
                self.result.files[file].refused.add(checked.would_be)
            kind = checked.refused[1]["kind"] if checked.refused is not None else resource.kind if resource else ""
            why = next((found.message for found in findings if found.severity is Severity.ERROR), "it cannot be read")
            self._stands_for(kind, document, why, file, positions)
            return
        line, column = positions.place(())
        self._count += 1
        was = resource._origin
        if (was.document, was.line, was.column, was.file) != (self._count, line, column, file):
            resource._origin = Origin(file=file, line=line, column=column, document=self._count)
        if self.keep_positions or resource.kind in PLACED:
            resource._positions = checked.document.positions
        if not resource.name and not resource.metadata.generate_name:
            self.problem(
                "missing-name",
                file,
                "metadata.name is missing",
                "add it: status, explain and problems call the resource by it",
                place=positions.place(("metadata",)),
                path=f"{prefix}metadata",
            )
            self._stands_for(resource.kind, document, "metadata.name is missing", file, positions)
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

    def _stands_for(
        self, kind: str, document: Document, why: str, file: str, positions: Positions | LazyPositions
    ) -> None:
        """What cannot be read may have kept somebody out."""
        found = self.result.files.get(file)
        if kind not in GUARDED or found is None:
            return
        from meshlib.resources.stand_ins import stand_in_for

        line, column = positions.place(())
        made = stand_in_for(kind, document.value, why, Origin(file=file, line=line, column=column), document.broken)
        if made is not None:
            found.stand_ins.append(made)

    def _stands_for_text(self, text: str, file: str) -> None:
        if not any(kind in text for kind in GUARDED):
            return
        from meshlib.resources.stand_ins import stand_ins_for_text

        self.result.files[file].stand_ins += stand_ins_for_text(text, Origin(file=file))

    def _about(self, problem: Problem, checked: Checked) -> None:
        if self.keep_all:
            self.result.about[problem] = checked.would_be

    def _salvage(self, checked: Checked, file: str) -> None:
        """Keep a resource that errors keep out, for what others refer to."""
        document = checked.document
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


def _checked_inside(
    model: type[Resource], taken: dict[str, object], inside: Document
) -> tuple[Resource | None, list[Finding]]:
    """A MeshConfig. What a newer or older Istio has in it does not make the rest invalid: istiod ignores it."""
    resource, findings = check(model, taken, inside.positions, lenient=True)
    return None if inside.broken else resource, findings


def _would_be(kind: str, value: Mapping[str, object]) -> str:
    """The id of the resource that a document would be, "" of one without a name."""
    metadata = value.get("metadata")
    if not isinstance(metadata, Mapping) or not metadata.get("name"):
        return ""
    return f"{kind}/{metadata.get('namespace') or 'default'}/{metadata['name']}"


def _is_from_cluster(value: object) -> bool:
    """Whether a resource has what only a cluster writes."""
    metadata = value.get("metadata") if isinstance(value, Mapping) else None
    return isinstance(metadata, Mapping) and ("resourceVersion" in metadata or "managedFields" in metadata)


def _path(prefix: str) -> str:
    """A prefix as a path of its own."""
    return prefix.rstrip(": .")
