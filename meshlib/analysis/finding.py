"""What an analyzer says, and of which field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from meshlib.analysis.codes import Code
from meshlib.problems import Problem, Severity
from meshlib.resources.hints import dotted

if TYPE_CHECKING:
    from meshlib.resources.base import Origin

Loc = tuple[str | int, ...]


class Subject(Protocol):
    """What a finding is about: a resource, or a document of a kind that meshlib has no model for."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def annotations(self) -> dict[str, str]: ...
    @property
    def origin(self) -> Origin: ...
    def place_of(self, loc: Loc) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """``loc`` is the field, as YAML keys and list positions from the top of the resource; ``host`` the full name of the
    destination that it is about."""

    code: Code
    resource: Subject
    loc: Loc
    message: str
    hint: str = ""
    host: str = ""

    def problem(self, most: Severity = Severity.ERROR) -> Problem:
        """The same with file, line and column; ``most`` is the highest severity it may have."""
        line, column = self.resource.place_of(self.loc)
        severity = Severity.WARNING if self.code.severity is Severity.ERROR and most is not Severity.ERROR else None
        return Problem(
            self.code.id,
            severity or self.code.severity,
            self.resource.origin.file,
            line,
            column,
            f"{full_name(self.resource)} {dotted(self.loc)}".strip(),
            self.message,
            self.hint,
            self.code.name,
        )

    @property
    def id(self) -> str:
        """``VirtualService/default/reviews``: of the resource it is about."""
        return f"{self.resource.kind}/{self.resource.namespace}/{self.resource.name}"


CLUSTER_SCOPED = frozenset({"Namespace", "CustomResourceDefinition", "Node"})


def full_name(resource: Subject) -> str:
    """``VirtualService default/reviews``, as istioctl calls it; kinds without a namespace: ``Namespace prod``."""
    if resource.kind in CLUSTER_SCOPED:
        return f"{resource.kind} {resource.name}"
    return f"{resource.kind} {resource.namespace}/{resource.name}"
