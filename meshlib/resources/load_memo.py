"""What loads of the same paths have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

from meshlib.pace import free_in_turns, take_turns
from meshlib.problems import Problem
from meshlib.resources.base import Resource
from meshlib.resources.content import content_digest
from meshlib.resources.document import Document
from meshlib.resources.findings import Finding
from meshlib.resources.load_result import Signature
from meshlib.resources.notices import Notice

VERY_LONG_TEXT = 200_000
"""Characters of a document from which on it is checked again whenever its file changes."""


@dataclass(slots=True)
class ReadText:
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
    has the model of a document that is not a resource, and the apiVersion and kind that a typed list may say for it."""

    document: Document
    resource: Resource | None
    findings: list[Finding]
    would_be: str
    # its hash, of documents without findings: who says the same later is the same resource
    content: bytes | None = None
    refused: tuple[type[Resource], dict[str, str]] | None = None
    notices: list[Notice] | None = None  # the resource's, once asked
    # of what is said of the document, once looked for
    places: dict[tuple[str | int, ...], tuple[int, int]] | None = None

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
        self.files: dict[str, ReadText] = {}
        self.checked: dict[int, Checked] = {}
        self._before: dict[bytes, Checked] = {}

    def read_again(self, old: ReadText) -> None:
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
        free_in_turns(old)
