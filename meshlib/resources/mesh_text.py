"""MeshConfig as a cluster holds it: YAML inside YAML, the text ``data.mesh`` of the ConfigMap ``istio``.

Problems in that text have the line and column of the file around it, where it is a block (``mesh: |``) there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshlib.problems import Severity
from meshlib.resources.document import Document, LazyPositions, Positions
from meshlib.resources.findings import Finding
from meshlib.resources.yaml_reader import read

CONFIG_MAP = "istio"
TEXT: tuple[str, str] = ("data", "mesh")
BLOCK = "|"
"""``Positions.raw`` of a text that stands as lines of the file."""


def revision_of(name: str) -> str | None:
    """The revision that a ConfigMap of this name is for ("" is the default one), None when istiod reads no such ConfigMap."""
    if name == CONFIG_MAP:
        return ""
    return name.removeprefix(f"{CONFIG_MAP}-") if name.startswith(f"{CONFIG_MAP}-") else None


def has_mesh_config(kind: str, version: str, value: Mapping[str, object]) -> bool:
    """Whether a document is a ConfigMap with a MeshConfig in it."""
    if kind != "ConfigMap" or version != "v1":
        return False
    metadata, data = value.get("metadata"), value.get("data")
    if not isinstance(metadata, Mapping) or not isinstance(data, Mapping) or "mesh" not in data:
        return False
    name = metadata.get("name")
    return isinstance(name, str) and revision_of(name) is not None


def opened(document: Document) -> tuple[Document, list[Finding]]:
    """The same ConfigMap with its text read: ``data.mesh`` is an object, and what is said of that has its place in the text.
    Of a text that is not YAML, or not an object, the findings say so, and the document is broken."""
    value, outer = document.value, document.positions
    text = value["data"]["mesh"]
    if not isinstance(text, str):
        message = "MeshConfig stands in a ConfigMap as a text, as all values of data"
        said = Finding("wrong-type", Severity.ERROR, TEXT, message, "write mesh: |")
        return _with_mesh(document, {}, outer, broken=True), [said]
    documents, problems = read(text, "")
    shift = _Shift(outer)
    findings = [Finding(p.code, p.severity, TEXT, p.message, p.hint, shift.place((p.line, p.column))) for p in problems]
    found = documents[0] if documents else Document({}, Positions(1, 1))
    mesh = found.value
    if not isinstance(mesh, Mapping):
        findings.append(_refused(shift, found, "MeshConfig is an object", "for example rootNamespace: istio-system"))
        mesh = {}
    findings += [
        _refused(shift, further, "MeshConfig is one document", "remove what follows ---") for further in documents[1:]
    ]
    broken = any(finding.severity is Severity.ERROR for finding in findings)
    return _with_mesh(document, mesh, _Inside(outer, found.positions, shift), broken=broken), findings


def _refused(shift: _Shift, document: Document, message: str, hint: str) -> Finding:
    return Finding("wrong-type", Severity.ERROR, TEXT, message, hint, shift.place(document.positions.place(())))


def _with_mesh(
    document: Document, mesh: Mapping[str, object], positions: Positions | LazyPositions, *, broken: bool
) -> Document:
    value = {**document.value, "data": {"mesh": dict(mesh)}}
    return Document(value, positions, broken or document.broken)


class _Shift:
    """From a place in the text to one in the file."""

    def __init__(self, outer: Positions | LazyPositions) -> None:
        node, steps = outer.find(TEXT)
        self._key = outer.place(TEXT)
        self._block = steps == len(TEXT) and node.raw == BLOCK
        self._line = node.line

    def place(self, inside: tuple[int, int]) -> tuple[int, int]:
        """A text that is not a block is reported where it begins. Lines of a block are indented by two more than its key."""
        if not self._block:
            return self._key
        return self._line + inside[0], self._key[1] + 1 + inside[1]


class _Inside(LazyPositions):
    """Positions of the document, and below the text those inside it."""

    __slots__ = ("_inner", "_outer", "_shift")

    def __init__(self, outer: Positions | LazyPositions, inner: Positions | LazyPositions, shift: _Shift) -> None:
        self._outer = outer
        self._inner = inner
        self._shift = shift

    def find(self, path: tuple[str | int, ...]) -> tuple[Positions, int]:
        """As of ``Positions``; the lines of nodes inside the text are the text's."""
        if path[: len(TEXT)] != TEXT:
            return self._outer.find(path)
        node, steps = self._inner.find(path[len(TEXT) :])
        return node, steps + len(TEXT)

    def __getattr__(self, name: str) -> Any:
        """The rest of ``Positions``."""
        return getattr(self._outer, name)

    def place(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """As of ``Positions``."""
        if path[: len(TEXT)] != TEXT or len(path) == len(TEXT):
            return self._outer.place(path)
        return self._shift.place(self._inner.place(path[len(TEXT) :]))
