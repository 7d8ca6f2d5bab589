"""The rows of the table and how a field finds its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

HONOURED = "honoured"
APPROXIMATED = "approximated"
IGNORED = "ignored"
NOT_HERE = "not for this protocol"
STATUSES = (HONOURED, APPROXIMATED, IGNORED, NOT_HERE)


@dataclass(frozen=True, slots=True)
class Row:
    """One field, or one value of it.

    ``path``: YAML names from below ``spec``, without list positions; a row is about everything below its path that has
    none of its own. ``value``: only when the field has it. ``does``: what it does here. ``default``: when it is not set.
    ``tested``: the file that shows it. ``reason``: why it is not (wholly) honoured.
    """

    path: str
    status: str
    does: str
    default: str = ""
    tested: str = ""
    reason: str = ""
    value: str = ""

    @property
    def inert(self) -> bool:
        """Whether a field of it is without effect, and no test shows otherwise."""
        return self.status in (IGNORED, NOT_HERE) and not self.tested

    def below(self, prefix: str) -> Row:
        """The same row for an object that is mounted at ``prefix``."""
        return replace(self, path=f"{prefix}.{self.path}")


def honoured(path: str, does: str, tested: str, default: str = "", value: str = "") -> Row:
    """It does what Istio says."""
    return Row(path, HONOURED, does, default, tested, "", value)


def approximated(path: str, does: str, tested: str, reason: str, default: str = "", value: str = "") -> Row:
    """It acts, not in every detail as Istio says."""
    return Row(path, APPROXIMATED, does, default, tested, reason, value)


def ignored(path: str, reason: str, value: str = "") -> Row:
    """It loads and has no effect."""
    return Row(path, IGNORED, "loads, no effect", "", "", reason, value)


def not_here(path: str, reason: str, does: str = "loads, no effect on HTTP clients", tested: str = "") -> Row:
    """It is about another protocol or role than an HTTP client's."""
    return Row(path, NOT_HERE, does, "", tested, reason)


def mounted(prefix: str, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of a shared object below ``prefix``."""
    return (row.below(prefix) for row in rows)


class Table:
    """The rows of one kind."""

    def __init__(self, kind: str, rows: Iterable[Row]) -> None:
        self.kind = kind
        self.rows = tuple(rows)
        self._fields = {row.path: row for row in self.rows if not row.value}
        self._below = {path[:at] for path in self._fields for at in range(len(path)) if path[at] == "."}
        self._values = {(row.path, row.value): row for row in self.rows if row.value}

        self._inert = {
            path[:at] if at else path
            for path in (row.path for row in self.rows if row.inert)
            for at in (0, *(i for i, char in enumerate(path) if char == "."))
        }

    def may_be_inert(self, path: str) -> bool:
        """Whether the field at ``path``, or a part of it, may be without effect."""
        if path in self._inert:
            return True
        row = self.row(path)
        return row is None or row.inert

    def goes_below(self, path: str) -> bool:
        """Whether parts of the object at ``path`` have rows of their own."""
        return path in self._below

    def row(self, path: str, value: object = None) -> Row | None:
        """The row of a field: of its value, else its own, else of the nearest object around it."""
        if value is not None:
            found = self._values.get((path, str(value)))
            if found is not None:
                return found
        here = path
        while here:
            found = self._fields.get(here)
            if found is not None:
                return found
            here = here.rpartition(".")[0]
        return None
