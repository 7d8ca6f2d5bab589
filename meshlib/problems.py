"""What is wrong with a configuration: said without what makes calls, so that loading and compiling need no HTTP library.

``meshlib.errors`` has these names too, beside the errors of calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from meshlib.distribution import require_ours

require_ours()


def said(error: BaseException) -> str:
    """What an exception says, for a text that quotes it; its class where it says nothing (``TimeoutError()``)."""
    return str(error) or type(error).__name__


class Severity(StrEnum):
    """How serious a problem is. A resource with an ``error`` is refused; with the others it loads."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with (or worth saying about) the configuration.

    ``code`` is stable and greppable (``unknown-field``); ``line`` and ``column`` count from 1, and 0 means unknown;
    ``path`` is the field (``spec.http[0].route[1].weight``); ``hint`` says what to do; ``name`` is Istio's name for a
    code that is Istio's (``IST0101``: ReferencedResourceNotFound).
    """

    code: str
    severity: Severity
    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    name: str = ""

    @property
    def where(self) -> str:
        """``file:line:column``, which editors and terminals make clickable."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def label(self) -> str:
        """The code, with Istio's name if it has one: ``unknown-field``, ``IST0101 ReferencedResourceNotFound``."""
        return f"{self.code} {self.name}" if self.name else self.code

    def __str__(self) -> str:
        text = f"{self.where}: {self.severity}: " if self.where else f"{self.severity}: "
        if self.path:
            text += f"{self.path}: "
        text += f"{self.message} [{self.label}]"
        return f"{text}\n    hint: {self.hint}" if self.hint else text


class MeshError(Exception):
    """Base class of meshlib's exceptions. ``exchange`` is None except in a ``CallError``."""

    exchange: object | None = None


class ConfigError(MeshError):
    """Some resources cannot be used. ``problems`` has every problem, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        errors = sum(p.severity is Severity.ERROR for p in self.problems)
        head = f"{errors} error{'s' if errors != 1 else ''} in the mesh configuration"
        return "\n".join([head, *(str(p) for p in self.problems)])
