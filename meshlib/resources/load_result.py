"""What loading has found: resources, problems, and what is to be said of each file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity
from meshlib.resources.base import Origin, Resource
from meshlib.resources.document import LazyPositions, Positions

if TYPE_CHECKING:
    from meshlib.resources.guarding import Guarding

Signature = tuple[int, int, int, int]


def signature_of(found: os.stat_result) -> Signature:
    """Changes whenever the file does: a file's times and size can be set back, the time of its last change of state not."""
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


@dataclass(slots=True)
class FileFound:
    """What a load found at a file, beside its resources. ``unreadable`` says why it could not be read; ``broken``: an error
    is about it; ``says_empty``: its only content is the comment ``# meshlib: empty``; ``refused``: ids of the resources that
    errors keep out; ``torn``: the texts of its documents that are not YAML; ``stand_ins``: what stands for policies among
    them that may have refused somebody."""

    signature: Signature | None = None
    unreadable: str = ""
    broken: bool = False
    says_empty: bool = False
    refused: set[str] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)
    stand_ins: list[Guarding] = field(default_factory=list)


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


@dataclass(frozen=True, slots=True)
class Other:
    """A document of a kind that no model reads."""

    api_version: str
    kind: str
    value: Mapping[str, object]
    origin: Origin
    positions: Positions | LazyPositions

    @property
    def metadata(self) -> Mapping[str, object]:
        """As it is written; empty when it is not an object."""
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


def texts(value: object) -> dict[str, str]:
    """A map of texts, such as labels; empty for anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {str(key): entry for key, entry in value.items() if isinstance(entry, str)}
